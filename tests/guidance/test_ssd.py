"""SSD on exact mixtures: control variates whose mean is zero, weights that lower the variance, SDS as a special case."""

import copy

import pytest
import torch
from safetensors.torch import load, save

from guidance.worlds import mixture, view
from splatdistill.cameras import orbit
from splatdistill.errors import UserError, WeightsError
from splatdistill.guidance import SDS, SSD, Times, View
from splatdistill.guidance.baselines import RenderMaps, Seen
from splatdistill.guidance.stein import ControlWeights, latent_moments, parameters_behind, splat_moments, stein_terms
from splatdistill.guidance.stein_memory import ControlMap, SteinMemory
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts

T, MANY = 0.2, 60_000


def many(prior: GaussianMixturePrior, x: torch.Tensor, count: int, seed: int = 0) -> View:
    """Return one latent, many noises."""
    text = Prompts("ball").conditions(prior, orbit([0.0]))
    wide = {k: getattr(text, k).expand(count) for k in ("positive", "negative", "null", "plain")}
    rows = x.detach().expand(count, *x.shape[1:]).clone().requires_grad_()
    return View(rows, type(text)(**wide), prior, torch.Generator().manual_seed(seed))


def z_scores(h: torch.Tensor) -> float:
    """Return root mean square over elements of mean / standard error: 1 where the mean is zero."""
    return float((h.mean(0) / (h.std(0) / len(h) ** 0.5)).square().mean().sqrt())


def wave(x_t: torch.Tensor) -> torch.Tensor:
    """Return a smooth function of latents that rises along a direction."""
    along = (x_t.flatten(1) * torch.linspace(0.1, 0.3, x_t[0].numel(), dtype=x_t.dtype)).sum(1)
    return along.tanh() + along


def test_the_terms_have_mean_zero_and_their_likely_mistakes_do_not():
    prior, t = mixture(), 0.4  # where neither alpha nor sigma is near 1
    v = many(prior, view(prior, 1).x, MANY)
    t = torch.full((MANY,), t, dtype=torch.float64)
    n = SDS().noise(v, t, torch.nn.Module())
    n = type(n)(n.x_t.detach(), n.t, n.eps)
    alpha, sigma = prior.schedule(t)
    eps, h = stein_terms(n, sigma, lambda x_t: (wave(x_t),))
    phi = wave(n.x_t)[:, None, None, None]
    slope = (eps * phi - h) / sigma
    assert torch.equal(eps, n.eps)
    assert z_scores(h) < 1.7 and z_scores(eps) < 1.7
    mistakes = {
        "plus": eps * phi + slope,
        "plus sigma": eps * phi + sigma * slope,
        "no sigma": eps * phi - slope,
        "with respect to x": eps * phi - sigma * alpha * slope,
    }
    assert {k: z_scores(v) > 5 for k, v in mistakes.items()} == dict.fromkeys(mistakes, True)


def test_everything_that_depends_on_the_latents_must_be_differentiated():
    """phi of the prior's estimate of x: right through the estimate, wrong past it."""
    prior = mixture()
    v = many(prior, view(prior, 1).x, MANY)
    t = torch.full((MANY,), T, dtype=torch.float64)
    n = SDS().noise(v, t, torch.nn.Module())
    alpha, sigma = prior.schedule(t)

    def phi(x_t, through):
        eps_hat = prior.eps(x_t, t, v.text.positive)
        return wave((x_t - sigma * (eps_hat if through else eps_hat.detach())) / alpha)

    scores = [z_scores(stein_terms(n, sigma, lambda x_t, through=through: (phi(x_t, through),))[1]) for through in (True, False)]
    assert scores[0] < 1.7 and scores[1] > 5


# -- weights ------------------------------------------------------------------------------------------


def two_hills() -> GaussianMixturePrior:
    """Return a prior of two narrow Gaussians left and right of zero in the first of four coordinates: its score has two branches."""
    means = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    means[0, 0, 0, 0], means[1, 0, 0, 0] = -1.0, 1.0
    return GaussianMixturePrior(means, torch.full((2,), 0.02, dtype=torch.float64), {"ball": [1.0, 1.0]})


def undecided(prior: GaussianMixturePrior, turned: bool):
    """Return a loss: how undecided x_t is between the two modes; `turned`, along a coordinate without meaning."""

    def losses(seen: Seen) -> tuple[torch.Tensor, ...]:
        x_t = seen.picture.flip((2, 3)) if turned else seen.picture
        t = torch.full((len(x_t),), T, dtype=torch.float64)
        return (prior._joint(x_t, t, seen.view.text.positive)[0].softmax(1).prod(1),)

    return losses


def learned(guidance: SSD, prior: GaussianMixturePrior, losses=None, steps: int = 60) -> SteinMemory:
    memory = guidance.init(prior) if losses is None else SteinMemory(2, guidance.decay, losses)
    for seed in range(steps):
        guidance(many(prior, torch.zeros(1, 1, 2, 2, dtype=torch.float64), 32, seed + 1000), memory)
    return memory


def measured(guidance, prior: GaussianMixturePrior, memory, count: int = 20_000):
    """Return the updates of one latent under many noises, with fixed mu."""
    return guidance(many(prior, torch.zeros(1, 1, 2, 2, dtype=torch.float64), count), memory).grad


def test_learned_weights_lower_the_variance_and_leave_the_mean():
    prior, fixed = two_hills(), {"scale": 1.0, "times": Times(t_min=T, t_max=T), "share": "none"}
    plain, ssd = SDS(scale=1.0, times=fixed["times"]), SSD(**fixed)
    g = {
        "sds": measured(plain, prior, plain.init(prior)),
        "ones": measured(ssd, prior, learned(ssd, prior)),
        "informed": measured(ssd, prior, learned(ssd, prior, undecided(prior, turned=False))),
        "shuffled": measured(ssd, prior, learned(ssd, prior, undecided(prior, turned=True))),
    }
    variance = {k: float(v.var(0).mean()) for k, v in g.items()}
    assert variance["ones"] < 0.95 * variance["sds"]
    assert variance["informed"] < 0.9 * variance["ones"]
    assert 0.97 * variance["ones"] < variance["shuffled"] < 1.05 * variance["ones"]
    for name in ("ones", "informed", "shuffled"):
        assert z_scores(g[name] - g["sds"]) < 2  # the same noises: only the control variates differ


def test_without_baselines_and_weights_it_is_sds():
    prior = mixture()
    for seed in range(2):
        a = SDS()(view(prior, 3, seed=seed), torch.nn.Module())
        ssd = SSD(mu="one")
        assert torch.equal(a.grad, ssd(view(prior, 3, seed=seed), ssd.init(prior)).grad)
    first = SSD()
    assert torch.equal(SDS()(view(prior, 3), torch.nn.Module()).grad, first(view(prior, 3), first.init(prior)).grad)


def test_weights_are_used_before_they_learn():
    prior, ssd = mixture(), SSD(scale=7.5)
    memory = SteinMemory(2, ssd.decay, lambda seen: (wave(seen.picture),))
    for seed in range(5):
        before = copy.deepcopy(memory.mu)
        d = ssd(view(prior, 2, seed=seed), memory)
        assert d.grad.isfinite().all() and memory.mu.isfinite().all()
        sigma = prior.schedule(d.noised.t)[1]
        terms = stein_terms(d.noised, sigma, lambda x_t: (-ssd.strength * wave(x_t),))
        used = before[:, None] if seed else torch.ones(2, 1, 1, 1, 1, dtype=torch.float64)
        torch.testing.assert_close(d.grad, sigma**2 * (d.eps_hat - (used * terms).sum(0)), rtol=1e-9, atol=1e-10)
        assert seed == 0 or not torch.equal(before, memory.mu)


def test_weights_are_the_least_squares():
    """After many views mu is what least squares over all of them gives, from terms of very different size."""
    rng = torch.Generator().manual_seed(0)
    h = torch.randn(2, 5000, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 1e-3], dtype=torch.float64)[:, None, None]
    y = 0.3 * h[0] - 200 * h[1] + torch.randn(5000, 3, generator=rng, dtype=torch.float64)
    memory = ControlWeights(2, decay=0.0)
    memory.observe(*latent_moments(y, h, torch.ones(5000, 1, dtype=torch.float64), "none"))
    for i in range(3):
        expected = torch.linalg.lstsq(h[:, :, i].T, y[:, i, None]).solution[:, 0]
        torch.testing.assert_close(memory.mu[:, i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", ["none", "channels", "all"])
def test_what_is_not_finite_is_not_learned(share):
    memory, ones = ControlWeights(1, 0.9), torch.ones(2, 1, 1, 1, dtype=torch.float64)
    h = torch.randn(1, 2, 2, 3, 3, dtype=torch.float64)
    memory.observe(*latent_moments(h[0] * 2, h, ones, share))
    before = memory.mu.clone()
    memory.observe(*latent_moments(h[0] * float("nan"), h, ones, share))
    assert torch.equal(memory.mu, before) and before.isfinite().all()


def test_the_splats_moments_are_those_of_their_update():
    """Inner products of J^T w h for an explicit J; what is apart from the parameters is left out."""
    rng = torch.Generator().manual_seed(0)
    jacobian = torch.randn(2, 4, 5, generator=rng, dtype=torch.float64)
    theta, apart = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.zeros((), dtype=torch.float64, requires_grad=True)
    x = jacobian @ theta + apart
    y, w = torch.randn(2, 4, dtype=torch.float64), torch.rand(2, 1, dtype=torch.float64)
    h = torch.randn(3, 2, 4, dtype=torch.float64)
    leaves = parameters_behind(x, apart)
    assert [p is theta for p in leaves] == [True]
    gram, cross, _ = splat_moments(y, h, w, x, leaves)
    target, *rows = (torch.einsum("bij,bi->j", jacobian, w * v) for v in (y, *h))
    rows = torch.stack(rows)
    torch.testing.assert_close(gram[..., 0], rows @ rows.T)
    torch.testing.assert_close(cross[..., 0], rows @ target)


@pytest.mark.parametrize("mu", ["latent", "splats"])
def test_memory_survives_a_checkpoint_bit_by_bit(mu):
    prior, ssd = mixture(), SSD(scale=7.5, mu=mu)

    def fresh():
        return SteinMemory(2, ssd.decay, lambda seen: (wave(seen.picture),))

    whole, first = fresh(), fresh()
    grads = [ssd(view(prior, 2, seed=s), whole).grad for s in range(6)]
    for s in range(3):
        ssd(view(prior, 2, seed=s), first)
    again = fresh()
    again.load_state_dict(load(save({k: v.contiguous() for k, v in first.state_dict().items()})))
    assert all(torch.equal(ssd(view(prior, 2, seed=s), again).grad, grads[s]) for s in range(3, 6))
    assert torch.equal(again.mu, whole.mu)
    unused = fresh()
    unused.load_state_dict(load(save(fresh().state_dict())))  # before the first step, too
    assert torch.equal(ssd(view(prior, 2), unused).grad, grads[0])


# -- what a person may do wrong -----------------------------------------------------------------------


def test_what_cannot_be_had_is_said(tmp_path):
    prior = mixture()
    with pytest.raises(WeightsError, match=r"hf download Intel/dpt-hybrid-midas"):
        SSD(baselines=("depth",)).init(prior)
    with pytest.raises(WeightsError, match="neither config.json nor model_index.json"):
        SSD(baselines=("depth",), geometry=str(tmp_path)).init(prior)
    with pytest.raises(UserError, match="decay"):
        SSD(decay=1.0)


def test_a_folder_is_remembered_by_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "net").mkdir()
    monkeypatch.chdir(tmp_path)
    assert SSD(geometry="net").geometry == str(tmp_path / "net") and SSD().geometry == "auto"


# -- with networks and splats -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a Stable Diffusion and a MiDaS with random weights, and splats in view of two cameras."""
    from estimators.networks import write_dpt_hybrid
    from helpers import write_sd_folder

    from splatdistill.cameras import Orbit
    from splatdistill.priors.stable import StableDiffusionPrior
    from splatdistill.render.reference import reference_rasterizer
    from splatdistill.scene.initial import Ball
    from splatdistill.scene.splats import Splats

    folder = tmp_path_factory.mktemp("world")
    prior = StableDiffusionPrior.from_folder(write_sd_folder(folder / "sd"), precision="float64")
    rng = torch.Generator().manual_seed(0)
    scene = Splats.from_gaussians(Ball(count=40, radius=0.7, scale=0.2, opacity=0.6).make(rng))
    cameras = Orbit().sample(2, 32, 32, rng)
    out = reference_rasterizer()(scene.gaussians(), cameras, torch.ones(2, 3))
    text = Prompts("a red ball").conditions(prior, cameras)
    return prior, scene, View(prior.encode(out.rgb), text, prior, rng, 0.0, out), str(write_dpt_hybrid(folder / "dpt"))


@pytest.fixture(scope="module")
def zero123(tmp_path_factory) -> str:
    from model_folders import write_zero123_folder

    return str(write_zero123_folder(tmp_path_factory.mktemp("zero") / "zero123"))


@pytest.mark.parametrize("baseline", ["depth", "normal", "zero123", "discriminator"])
def test_the_gradient_of_phi_is_that_of_finite_differences(world, zero123, baseline):
    """Through the autoencoder's decoder, the networks and the loss, in float64."""
    prior, _, v, dpt = world
    ssd = SSD(baselines=(baseline,), geometry=dpt, zero123=zero123 if baseline == "zero123" else "")
    memory = ssd.init(prior)
    if memory.losses.network is not None:
        memory.losses.network.model.double()
    n = ssd.noise(v, torch.tensor([0.3, 0.6], dtype=torch.float64), memory)
    n = type(n)(n.x_t.detach(), n.t, n.eps.detach())
    sigma = prior.schedule(n.t)[1]

    def phi(x_t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ssd.phis(Seen(v, x_t, n.t), memory)

    _, h = stein_terms(n, sigma, phi)
    with torch.no_grad():
        slope = (n.eps * phi(n.x_t)[0][:, None, None, None] - h) / sigma
        direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1), dtype=slope.dtype)
        ahead, behind = (phi(n.x_t + e * direction)[0] for e in (1e-6, -1e-6))
    assert slope.abs().max() > 0
    torch.testing.assert_close((slope * direction).sum((1, 2, 3)), (ahead - behind) / 2e-6, rtol=2e-3, atol=1e-8)


def test_zero123_is_shown_the_next_view_and_told_both_cameras(world, zero123):
    """The loss written down again; cameras that are exchanged, or a picture of the same view, say something else."""
    from splatdistill.priors import Condition

    prior, _, v, _ = world
    ssd = SSD(baselines=("zero123",), zero123=zero123)
    memory = ssd.init(prior)
    zero, t = memory.losses.zero123, torch.tensor([0.3, 0.6], dtype=torch.float64)
    n = ssd.noise(v, t, memory)
    (got,) = memory.losses(Seen(v, n.x_t.detach(), t))
    rgb, poses = v.render.rgb.detach().double().clamp(0, 1), v.render.cameras.camera_to_world.double()
    z_t, alpha, sigma = zero.encode(prior.decode(n.x_t.detach())), *zero.schedule(t)

    def loss(order: list[int], swapped: bool = False) -> torch.Tensor:
        mine, its = (poses[order], poses) if swapped else (poses, poses[order])
        blind = zero.embed([""]).expand(2)
        told = Condition(tokens=blind.tokens, image=rgb[order], image_camera=its, camera=mine)
        return ((z_t - sigma * zero.eps(z_t, t, told)) / alpha - zero.encode(rgb)).square().mean((1, 2, 3))

    with torch.no_grad():
        torch.testing.assert_close(got.detach(), loss([1, 0]), rtol=1e-6, atol=1e-8)
        assert not torch.allclose(got.detach(), loss([0, 1])) and not torch.allclose(got.detach(), loss([1, 0], swapped=True))


def test_a_discriminator_learns_to_tell_renders_from_the_priors_pictures_and_keeps_the_mean():
    """After some steps noisy draws of the prior look more like it than noisy renders, and its control variate still has mean zero."""
    prior, ssd = mixture(), SSD(scale=1.0, baselines=("discriminator",), times=Times(t_min=0.1, t_max=0.5))
    memory = ssd.init(prior)
    far = 3.0 + view(prior, 8).x.detach()
    text = Prompts("ball").conditions(prior, orbit(torch.zeros(8)))
    rng = torch.Generator().manual_seed(0)
    v = View(far.requires_grad_(), text, prior, rng, 0.3)
    for _ in range(60):
        ssd(v, memory)
        ssd.learn(v, memory)
    t = torch.full((8,), 0.3, dtype=torch.float64)
    alpha, sigma = prior.schedule(t)
    true = prior.means[torch.arange(8) % 3].view(8, *prior.shape)
    with torch.no_grad():
        mine, its = (memory.learning.network(alpha * x + sigma * v.randn(), t) for x in (far, true))
    assert mine.max() < its.min()
    rows = many(prior, far[:1], MANY // 4)
    n = SDS(times=Times(t_min=0.3, t_max=0.3)).noise(rows, torch.full((MANY // 4,), 0.3, dtype=torch.float64), torch.nn.Module())
    n = type(n)(n.x_t.detach(), n.t, n.eps)
    h = stein_terms(n, prior.schedule(n.t)[1], lambda x_t: ssd.phis(Seen(rows, x_t, n.t), memory))[1]
    assert z_scores(h) < 1.7
    again = ssd.init(prior)
    again.load_state_dict(load(save({k: x.contiguous() for k, x in memory.state_dict().items()})))
    one, two = (ssd(View(v.x, text, prior, torch.Generator().manual_seed(4), 0.3), m).grad for m in (memory, again))
    assert torch.equal(one, two)


@pytest.mark.parametrize("mu", ["latent", "splats", "one"])
def test_a_whole_step_reaches_the_splats(world, mu):
    prior, scene, v, dpt = world
    ssd = SSD(baselines=("depth", "normal"), geometry=dpt, mu=mu)
    memory = ssd.init(prior)
    for _ in range(2):
        d = ssd(v, memory)
    assert (memory.mu.numel() > 0) == (mu != "one") and memory.mu.isfinite().all()
    assert d.grad.isfinite().all()
    grads = torch.autograd.grad(d.loss, list(scene.parameters()), retain_graph=True, allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in grads) and any(g is not None and g.abs().max() > 0 for g in grads)


def test_a_baseline_needs_a_network_that_tells_it_and_a_render(world):
    prior, _, v, dpt = world
    with pytest.raises(UserError, match="segment needs a network that tells it.*tells depth"):
        SSD(baselines=("segment",), geometry=dpt).init(prior)
    ssd = SSD(baselines=("depth",), geometry=dpt)
    with pytest.raises(UserError, match="two dimensions"):
        ssd(View(v.x, v.text, prior, v.rng), ssd.init(prior))


def test_rendered_normals_are_asked_for_where_they_are_read_and_are_the_splats_own(world):
    """In training, by tiny-geometry, which tells normals; a network of depth alone is refused."""
    import splatdistill

    _, _, _, dpt = world
    with pytest.raises(UserError, match="needs a network that tells normals"):
        SSD(baselines=("normal",), geometry=dpt, normals="rendered").init(world[0])
    seen = {}
    for normals in ("depth", "rendered"):
        session = splatdistill.session("a red mug", SSD(baselines=("normal",), normals=normals), prior="tiny", inner=1)
        session.step()
        out = session.last.out
        assert (out.normal is not None) == (normals == "rendered")
        size = (out.alpha.shape[-2], out.alpha.shape[-1])
        seen[normals] = RenderMaps.of(session.last.view, size, normals == "rendered").normal
    own = torch.einsum("bij,bjhw->bihw", out.cameras.world_to_camera[:, :3, :3], out.normal)
    torch.testing.assert_close(seen["rendered"], own * out.alpha, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(seen["rendered"], seen["depth"], atol=0.1)


# -- the published form -------------------------------------------------------------------------------


def test_the_published_form_steps_down_the_slope_of_the_mean_square_after_mu_was_used():
    """mu stands still for the step's own update, and then moves by Adam's first step, its rate, against the slope found by differences."""
    prior, ssd = mixture(), SSD(variant="paper", scale=7.5, mu_rate=0.125, strength=1.0, times=Times(t_min=T, t_max=T))
    memory = published(ssd, prior, lambda seen: (wave(seen.picture),))
    d = ssd(view(prior, 2), memory)
    sigma = prior.schedule(d.noised.t)[1]
    terms = stein_terms(d.noised, sigma, lambda x_t: (-wave(x_t),))[1:]
    torch.testing.assert_close(d.residual, d.eps_hat - terms[0], rtol=1e-9, atol=1e-10)  # mu was one, and there is no phi_0

    def mean_square(mu: torch.Tensor) -> float:
        return float((sigma**2 * (d.eps_hat - mu * terms[0])).square().flatten(1).sum(1).mean())

    mu = memory.map.network.mu[0].detach().double()
    assert mu.shape[0] == 1  # one for a pixel's channels
    ones, h = torch.ones_like(mu), 1e-4
    for i in range(ones.numel()):
        nudge = torch.zeros_like(ones)
        nudge.view(-1)[i] = h
        slope = mean_square(ones + nudge) - mean_square(ones - nudge)
        moved = float(mu.view(-1)[i] - 1)
        assert moved == pytest.approx(-0.125 if slope > 0 else 0.125, rel=1e-3)


def published(ssd: SSD, prior: GaussianMixturePrior, losses, terms: int = 1) -> SteinMemory:
    """Return the memory of the published form with other losses than networks' own."""
    return SteinMemory(1 + terms, ssd.decay, losses, ControlMap(terms, prior.latent_shape(), ssd.share), ssd.mu_rate)


def test_the_published_form_learns_the_weights_of_least_squares_and_leaves_the_mean():
    """With a constant for its baseline, h = phi eps: mu goes to E[eps_hat h] / E[h^2], and where the prior is narrow the noise goes."""
    prior = two_hills()
    ssd = SSD(variant="paper", scale=1.0, mu_rate=0.05, strength=0.5, times=Times(t_min=T, t_max=T), share="none")

    def constant(seen: Seen) -> tuple[torch.Tensor, ...]:
        return (0 * seen.x_t.flatten(1).sum(1) - 1.0,)  # phi = 0.5

    memory = published(ssd, prior, constant)
    before = ssd(many(prior, torch.zeros(1, 1, 2, 2, dtype=torch.float64), 20_000), published(ssd, prior, constant))
    for seed in range(150):
        ssd(many(prior, torch.zeros(1, 1, 2, 2, dtype=torch.float64), 64, seed + 1000), memory)
    after = ssd(many(prior, torch.zeros(1, 1, 2, 2, dtype=torch.float64), 20_000), memory)
    h = 0.5 * before.noised.eps
    best = (before.eps_hat * h).mean(0) / h.square().mean(0)
    torch.testing.assert_close(memory.map.network.mu[0].detach().double(), best, rtol=0.1, atol=0.1)
    variance = [d.grad.var(0).flatten() for d in (before, after)]
    assert (variance[1][1:] < 0.1 * variance[0][1:]).all()
    assert z_scores(after.grad - before.grad) < 2.5


def test_the_published_form_without_weights_or_baselines_has_no_control_variate():
    prior = mixture()
    ssd = SSD(variant="paper")
    d = ssd(view(prior, 2), ssd.init(prior))
    torch.testing.assert_close(d.residual, d.eps_hat)
    assert "noise stays" in ssd.targetless()
    with pytest.raises(UserError, match="goes with variant ours"):
        SSD(variant="paper", mu="splats")


def test_the_published_form_survives_a_checkpoint():
    prior, ssd = mixture(), SSD(variant="paper", baselines=("discriminator",))
    memory, fresh = ssd.init(prior), ssd.init(prior)
    for seed in range(3):
        ssd(view(prior, 2, seed=seed), memory)
    fresh.load_state_dict(load(save(memory.state_dict())))
    grads = [ssd(view(prior, 2, seed=9), m).grad for m in (memory, fresh)]
    assert torch.equal(*grads) and torch.equal(memory.map.network.mu, fresh.map.network.mu)
    assert not torch.equal(memory.map.network.mu, torch.ones_like(memory.map.network.mu))
