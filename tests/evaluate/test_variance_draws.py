"""Draws on a scene held fixed: under an exact Gaussian prior every moment of SDS has a closed form."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from splatdistill.evaluate.variance.draws import CameraView, Draws, GradientEstimator, Still, copies, learn, noise_errors, pinned
from splatdistill.evaluate.variance.statistics import Design, moments
from splatdistill.guidance import GUIDANCES, SDS, Times, View
from splatdistill.guidance.held import Held
from splatdistill.priors import Conditions
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.train.image2d import conditions

D = 6
DESIGN = Design(cameras=6, encodings=1, times=12, noises=12)


def gaussian() -> GaussianMixturePrior:
    """Return one Gaussian over (6,) latents with full covariance."""
    rng = torch.Generator().manual_seed(3)
    root = 0.5 * torch.randn(1, D, D, generator=rng, dtype=torch.float64)
    return GaussianMixturePrior(torch.randn(1, D, generator=rng, dtype=torch.float64), root @ root.transpose(1, 2) + 0.05 * torch.eye(D), {"it": [1.0]})


def two() -> GaussianMixturePrior:
    """Return two Gaussians, so that guidance differs between prompts."""
    rng = torch.Generator().manual_seed(3)
    return GaussianMixturePrior(torch.randn(2, D, generator=rng, dtype=torch.float64), torch.tensor([0.1, 0.3], dtype=torch.float64), {"it": [4.0, 1.0]})


def still(prior: GaussianMixturePrior, matrix: torch.Tensor | None = None, spread: float = 0.0, cameras: float = 0.0) -> Still:
    """Return a still of theta -> x = M theta, at a theta of its own. spread: of the encoder. cameras: how much they move the scene."""
    matrix = torch.eye(D, dtype=torch.float64) if matrix is None else matrix
    theta = nn.Parameter(torch.linspace(-1, 1, matrix.shape[1], dtype=torch.float64))

    def shoot(rng: torch.Generator) -> CameraView:
        moved = cameras * torch.randn(1, D, generator=rng, dtype=torch.float64)
        clean = (matrix @ theta)[None] + moved

        def encode(sample: torch.Generator) -> torch.Tensor:
            return clean + spread * torch.randn(1, D, generator=sample, dtype=torch.float64)

        return CameraView(encode, conditions(prior, "it", 1))

    return Still(prior, (theta,), shoot, 0.3)


def closed_form(prior: GaussianMixturePrior, x: torch.Tensor, low: float, high: float, matrix: torch.Tensor) -> tuple[float, float, float]:
    """Return |mean|^2 and tr Cov from noise and from time of SDS at scale 1, pulled back by M, t ~ U[low, high].

    With V = alpha^2 C + sigma^2: residual = sigma V^-1 alpha (x - m) + (sigma^2 V^-1 - 1) eps.
    """
    covariance = prior.axes[0] @ prior.variances[0].diag() @ prior.axes[0].T
    t = low + (high - low) * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    means, noise = [], 0.0
    for alpha, sigma in zip(*prior.noise.at(t)):
        inverse = torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(D))
        means.append(sigma**2 * matrix.T @ (sigma * alpha * inverse @ (x - prior.means[0])))
        noise += float((sigma**2 * matrix.T @ (sigma**2 * inverse - torch.eye(D))).square().sum()) / len(t)
    stacked = torch.stack(means)
    mean = stacked.mean(0)
    return float(mean.square().sum()), noise, float((stacked - mean).square().sum(1).mean())


@pytest.mark.parametrize("space", ["latents", "parameters"])
def test_sds_on_one_gaussian_meets_the_closed_form(space):
    prior = gaussian()
    matrix = torch.randn(D, D + 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s = still(prior, matrix)
    arm = GradientEstimator("sds", SDS(scale=1.0, times=Times(t_min=0.1, t_max=0.9)))
    many = Design(cameras=12, encodings=1, times=24, noises=12)
    drawn = Draws(s, many, 0).measure(arm).spaces[space]
    m = moments(drawn, space, list(range(12)))
    x = (matrix @ s.parameters[0]).detach()
    signal, noise, time = closed_form(prior, x, 0.1, 0.9, torch.eye(D, dtype=torch.float64) if space == "latents" else matrix)
    assert m.signal == pytest.approx(signal, rel=0.1)
    # 288 noise levels, over which the part of the noise varies about as much as it is large: 6 % is one standard error
    assert m.parts[0] == pytest.approx(noise, rel=0.2) and m.parts[1] == pytest.approx(time, rel=0.2)
    # encoder and cameras have no spread here
    assert m.parts[2] == 0 and abs(m.parts[3]) < 0.02 * m.total


def test_every_source_is_found_where_it_is():
    prior = gaussian()
    arm = GradientEstimator("sds", SDS(scale=1.0))
    design = Design(cameras=16, encodings=3, times=3, noises=3)
    parts = {}
    for name, more in {"none": {}, "encoder": {"spread": 2.0}, "camera": {"cameras": 2.0}}.items():
        drawn = Draws(still(prior, **more), design, 0).measure(arm).spaces["parameters"]
        m = moments(drawn, "parameters", list(range(16)))
        parts[name] = [p / m.total for p in m.parts]
    assert abs(parts["none"][2]) < 0.1 and abs(parts["none"][3]) < 0.1
    assert parts["encoder"][2] > 0.25 and abs(parts["encoder"][3]) < 0.2
    assert parts["camera"][3] > 0.25 and abs(parts["camera"][2]) < 0.2


@dataclass(frozen=True)
class Tenth(SDS):
    """SDS, but shy."""

    def residual(self, view, n, answers, memory):
        """Return a tenth of the residual of SDS."""
        return 0.1 * super().residual(view, n, answers, memory)


def test_a_tenth_of_the_gradient_wins_nothing():
    from splatdistill.evaluate.variance.report import rows

    s, reference = still(two(), cameras=0.2), GradientEstimator("r", SDS(scale=3.0))
    arms = [GradientEstimator("sds", SDS(scale=3.0)), GradientEstimator("tenth", Tenth(scale=3.0))]
    measured = [Draws(s, DESIGN, 0).measure(a) for a in arms]
    one, tenth = rows(0, arms, measured, Draws(s, DESIGN, 0, "reference").measure(reference))
    for space in ("latents", "parameters"):
        f, g = one.of(space), tenth.of(space)
        for name in ("ratio", "per_call", "cosine", "bias"):
            assert getattr(g, name).value == pytest.approx(getattr(f, name).value, rel=1e-9)
        assert g.against_first.value == pytest.approx(1, rel=1e-9)
        assert f.cosine.value == pytest.approx(1, abs=0.1)  # SDS against its own mean


@pytest.mark.parametrize("name", GUIDANCES)
def test_every_guidance_is_measured_the_same_way_twice(name):
    s = still(two(), spread=0.1, cameras=0.2)
    design = Design(cameras=3, encodings=2, times=2, noises=2)
    arm = GradientEstimator(name, GUIDANCES[name](scale=3.0, times=Times(t_min=0.1, t_max=0.9)))
    first, again = (Draws(s, design, 5).measure(arm) for _ in range(2))
    assert torch.equal(first.spaces["parameters"].gram, again.spaces["parameters"].gram) and first.calls >= 1
    assert first.spaces["latents"].gram.diagonal().min() > 0
    other = Draws(s, design, 6).measure(arm)
    assert not torch.equal(first.spaces["latents"].gram, other.spaces["latents"].gram)


def test_methods_meet_the_same_noise():
    """At scale 1 the null prompt is not asked, so scale 1 and 1.0000001 differ by that much: the draws are shared."""
    s = still(two(), cameras=0.2)
    one, other = (Draws(s, DESIGN, 0).measure(GradientEstimator("a", SDS(scale=x))).spaces["latents"] for x in (1.0, 1.0 + 1e-7))
    torch.testing.assert_close(one.gram, other.gram, rtol=1e-4, atol=1e-8)


@dataclass(frozen=True)
class Crowd(SDS):
    """SDS of the mean view: what one view gets depends on the others."""

    def residual(self, view, n, answers, memory):
        """Return the mean of the residual over the batch."""
        g = super().residual(view, n, answers, memory)
        return g.mean(0, keepdim=True).expand_as(g)


def test_views_that_act_on_each_other_are_measured_alone_and_marked():
    s = still(two())
    design = Design(cameras=3, encodings=1, times=2, noises=8)
    alone, crowd, plain = (Draws(s, design, 0).measure(GradientEstimator("x", k(scale=3.0))) for k in (Crowd, Crowd, SDS))
    assert alone.alone and not plain.alone
    m, p = (moments(x.spaces["latents"], "latents", [0, 1, 2]) for x in (crowd, plain))
    assert m.parts[0] == pytest.approx(p.parts[0], rel=0.6)  # averaged over a batch of 8 it would be an eighth


def test_pinned_times_keep_the_bounds_that_a_guidance_may_use():
    g = pinned(SDS(times=Times(t_min=0.1, t_max=0.8)), 0.3)
    assert (g.times.t_min, g.times.t_max) == (0.1, 0.8)
    assert torch.equal(g.times.draw(3, 0.5, torch.Generator()), torch.full((3,), 0.3, dtype=torch.float64))


def test_what_draws_change_in_a_memory_is_undone():
    module = nn.Linear(2, 2)
    held, before = Held(module), {k: v.clone() for k, v in module.state_dict().items()}
    with held as m, torch.no_grad():
        m.weight.add_(1.0)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_a_tensor_that_draws_put_in_the_place_of_another_is_taken_out_again():
    """As SSD's averages are; a new tensor has been written to no more often than the old one."""
    module = nn.Module()
    module.register_buffer("mean", torch.zeros(2))
    held = Held(module)
    for _ in range(2):
        with held as m:
            m.mean = m.mean + 1.0
        assert torch.equal(module.mean, torch.zeros(2))


def test_copies_are_a_batch_of_everything():
    prior = two()
    text = copies(conditions(prior, "it", 1), 3)
    assert isinstance(text, Conditions) and len(text) == 3 and text.cameras is None


@pytest.mark.parametrize("name", GUIDANCES)
def test_learning_on_a_scene_leaves_the_arm_itself_alone(name):
    s, arm = still(two()), GradientEstimator(name, GUIDANCES[name](scale=2.0))
    after = learn(arm, s, batch=2, steps=2, rng=torch.Generator().manual_seed(0))
    memory = arm.memory(s.prior)
    assert arm.learned is None and (after.learned is None) == (not memory.state_dict())


def test_noise_errors_are_those_of_the_networks(rng):
    """For one Gaussian, E|eps_hat - eps|^2 at x: |sigma alpha V^-1 (x-m)|^2 + tr (sigma^2 V^-1 - 1)^2."""
    prior = gaussian()
    s = still(prior)
    found = {name: float(e.mean()) for name, t, e in noise_errors([], s, [0.5], 4000, rng)}
    alpha, sigma = (float(q) for q in prior.noise.at(torch.tensor([0.5])))
    inverse = torch.linalg.inv(alpha**2 * prior.axes[0] @ prior.variances[0].diag() @ prior.axes[0].T + sigma**2 * torch.eye(D))
    x = torch.linspace(-1, 1, D, dtype=torch.float64)
    truth = (sigma * alpha * inverse @ (x - prior.means[0])).square().sum() + (sigma**2 * inverse - torch.eye(D)).square().sum()
    assert found["prompt"] == found["null"] == pytest.approx(float(truth) / D, rel=0.1)


def test_the_view_of_the_draws_is_the_still_s():
    seen: list[View] = []

    @dataclass(frozen=True)
    class Spy(SDS):
        def noise(self, view, t, memory):
            seen.append(view)
            return super().noise(view, t, memory)

    Draws(replace(still(two()), progress=0.7), Design(3, 1, 2, 5), 0).measure(GradientEstimator("spy", Spy()))
    assert {v.progress for v in seen} == {0.7} and {len(v.x) for v in seen} == {2, 5}
