"""VSD against its formula, against the exact KL gradient, and in the plane, where SDS collapses and it does not."""

from dataclasses import replace

import pytest
import torch
from helpers import write_sd_folder
from safetensors.torch import load, save

from guidance.worlds import mixture, view
from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import SDS, VSD, Guidance, Times, View
from splatdistill.priors import Conditions, DiffusionPrior, Query, weights
from splatdistill.priors.exact import GaussianMixturePrior, MixtureAdapter
from splatdistill.priors.prompts import Prompts

FREE = {"rank": 1, "rng": torch.Generator()}  # what the adapter of a mixture does not look at


def disturbed(prior: GaussianMixturePrior, size: float = 0.5, seed: int = 1) -> MixtureAdapter:
    """Return an adapter that differs from the prior in every respect."""
    adapter, rng = prior.adapter(**FREE), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(size * torch.randn(p.shape, generator=rng, dtype=p.dtype))
    return adapter


def remembered(guidance: VSD, adapter: MixtureAdapter) -> torch.nn.Module:
    """Return the guidance's memory with this adapter's values in it."""
    memory = guidance.init(adapter.prior)
    memory.network.load_state_dict(adapter.state_dict())
    return memory


def wide(v: View, many: int, rng: torch.Generator) -> View:
    """Return the first view many times, without its camera."""
    text = {k: getattr(v.text, k)[:1].expand(many) for k in ("positive", "negative", "null", "plain")}
    return View(v.x[:1].detach().expand(many, *v.x.shape[1:]), Conditions(**text), v.prior, rng, v.progress)


def test_formula():
    """sigma^2 (neg + s (pos - neg) - adapter), image by image, the adapter rebuilt as a mixture of its own."""
    prior = mixture()
    adapter, v = disturbed(prior, 0.02), view(mixture(), 3)
    d = VSD()(v, remembered(VSD(), adapter))
    for i in range(3):
        t, x_t = d.noised.t[i : i + 1], d.noised.x_t[i : i + 1]
        c2w = torch.linalg.inv(v.text.cameras.world_to_camera[i].double()).flatten()
        means = prior.means + adapter.shift + adapter.camera @ c2w
        weights = (torch.tensor([8.0, 1.0, 1.0], dtype=torch.float64).log() + adapter.log_weights).exp()
        q = GaussianMixturePrior(
            means.detach().unflatten(1, prior.shape),
            (prior.variances * adapter.log_spread.exp()).detach().unflatten(1, prior.shape),
            {"ball": weights.tolist()},
        )
        pos, neg = (prior.eps(x_t, t, c[i : i + 1]) for c in (v.text.positive, v.text.negative))
        sigma = prior.schedule(t)[1].item()
        expected = sigma**2 * (neg + 7.5 * (pos - neg) - q.eps(x_t, t, q.embed(["ball"])))
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-6, atol=1e-8)


def test_expectation_is_the_gradient_of_the_kl_divergence():
    """At scale 1 and fixed t, E[VSD] = w sigma grad_x E[log q_t(x_t) - log p_t(x_t)] / alpha for an adapter that is
    q; and the noise that SDS carries, -eps, is gone: where q = p every single gradient is zero.
    """
    prior, t, many = mixture(), 0.4, 20_000
    rng = torch.Generator().manual_seed(1)
    adapter, guidance = disturbed(prior), VSD(scale=1.0, times=Times(t_min=t, t_max=t))
    v = view(prior, 1)
    x = v.x.detach().expand(many, -1, -1, -1).clone().requires_grad_()
    times = torch.full((many,), t, dtype=torch.float64)
    alpha, sigma = prior.schedule(times)
    text = v.text.plain.expand(many)
    x_t = alpha * x + sigma * torch.randn(x.shape, generator=rng, dtype=x.dtype)
    kl = adapter.mixture().log_prob(x_t, times, adapter.prompt(text)) - prior.log_prob(x_t, times, text)
    (exact,) = torch.autograd.grad(kl.mean(), x)
    exact = (sigma**2 * sigma / alpha)[0] * exact.sum(0)
    memory, total, square = remembered(guidance, adapter), 0.0, 0.0
    for _ in range(40):
        g = guidance(wide(v, 500, rng), memory).grad
        total, square = total + g.sum(0), square + (g**2).sum(0)
    mean = total / many
    error = ((square / many - mean**2) / many).sqrt()
    assert ((mean - exact).abs() < 6 * error + 2e-3 * exact.abs().max()).all()
    assert guidance(wide(v, 5, rng), guidance.init(prior)).grad.abs().max() < 1e-12


def plane() -> GaussianMixturePrior:
    """Return two upright ellipses: standard deviations 0.5 across and 1 along, at x = -2 and 2."""
    means = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    return GaussianMixturePrior(means, torch.tensor([[0.25, 1.0]] * 2, dtype=torch.float64), {"points": [1.0, 1.0]})


def distilled_points(guidance: Guidance, steps: int = 250, count: int = 256, rate: float = 0.05) -> torch.Tensor:
    """Return points that begin as one clump, moved by a guidance."""
    prior, rng = plane(), torch.Generator().manual_seed(0)
    x = (0.3 * torch.randn(count, 2, generator=rng, dtype=torch.float64)).requires_grad_()
    e = prior.embed(["points"]).expand(count)
    memory, optimizer = guidance.init(prior), torch.optim.Adam([x], lr=rate)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - k / steps) ** 0.5
        optimizer.zero_grad()
        v = View(x, Conditions(e, e, e, e), prior, rng, k / steps)
        (count * guidance(v, memory).loss).backward()
        optimizer.step()
        guidance.learn(v, memory)
    return x.detach()


def test_many_points_recover_the_spread_of_the_prior_where_sds_collapses():
    points = distilled_points(VSD(scale=1.0, times=Times(), adapter_rate=0.02, adapter_steps=3))
    right = points[:, 0] > 0
    assert 0.35 < right.double().mean() < 0.65, "both ellipses are found"
    for side, centre in ((points[right], 2.0), (points[~right], -2.0)):
        torch.testing.assert_close(side.mean(0), torch.tensor([centre, 0.0], dtype=side.dtype), rtol=0, atol=0.3)
        torch.testing.assert_close(side.std(0), torch.tensor([0.5, 1.0], dtype=side.dtype), rtol=0.3, atol=0)
    assert distilled_points(SDS(scale=1.0))[:, 1].std() < 0.15, "all of the spread along the ellipses is lost"


def test_an_adapter_that_has_not_learned_biases_the_gradient_and_learning_removes_the_bias():
    """Renders from a Gaussian of their own; the truth is VSD with that Gaussian's exact score."""
    prior, rng = plane(), torch.Generator().manual_seed(0)
    mean, spread = torch.tensor([1.0, 0.5], dtype=torch.float64), 0.3
    renders = GaussianMixturePrior(mean[None], torch.tensor([spread**2], dtype=torch.float64), {"points": [1.0]})
    guidance = VSD(scale=1.0, times=Times(), adapter_rate=0.02)
    memory, count = guidance.init(prior), 256
    e = prior.embed(["points"]).expand(count)

    def bias() -> float:
        """Return the bias relative to the exact gradient, over renders and all visited times."""
        at = torch.Generator().manual_seed(7)
        v = View(renders.draw("points", count, at), Conditions(e, e, e, e), prior, at)
        d = guidance(v, memory)
        q = renders.eps(d.noised.x_t, d.noised.t, renders.embed(["points"] * count))
        exact = prior.schedule(d.noised.t)[1] ** 2 * (d.eps_hat - q)
        return float((d.grad - exact).norm() / exact.norm())

    biases = [bias()]
    for steps in (25, 375):
        for _ in range(steps):
            guidance.learn(View(renders.draw("points", count, rng), Conditions(e, e, e, e), prior, rng), memory)
        biases.append(bias())
    assert biases[0] == pytest.approx(1.0, abs=1e-6), "an adapter that is still the prior says that all is well"
    assert biases[0] > biases[1] + 0.05 > biases[2] + 0.1 and biases[2] < 0.25, biases


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_what_the_network_is_asked_and_how_often(variant):
    prior, guidance = mixture(), VSD(variant=variant, adapter_steps=2)
    v, memory = view(prior, 2), guidance.init(prior)
    prior.calls = 0
    d = guidance(v, memory)
    assert prior.calls / 2 == 3, "a guidance pair and the adapter once"
    guidance.learn(v, memory)
    assert prior.calls / 2 == 3 + 2
    pos, neg, own = guidance.ask(v, d.noised, memory)
    assert own.network is memory.network and pos.network is neg.network is None
    assert torch.equal(own.condition.tokens, v.text.plain.tokens) and torch.equal(pos.condition.tokens, v.text.positive.tokens)
    identity = own.condition.camera @ v.text.cameras.world_to_camera
    torch.testing.assert_close(identity, torch.eye(4).expand(2, 4, 4), rtol=0, atol=1e-5)
    assert variant == "paper" or torch.equal((1000 * d.noised.t).round() / 1000, d.noised.t)


class Listening(torch.nn.Module):
    """Stands where an adapter does and notes what it is taught."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.times, self.cameras = torch.nn.Parameter(torch.zeros(())), [], []

    def loss(self, x, t, eps, condition):
        self.times.append(t)
        self.cameras.append(condition.camera)
        return self.value * x.mean() + 0 * eps.sum()


def test_the_adapter_learns_at_all_times_and_now_and_then_without_cameras():
    prior, v = mixture(), view(mixture(), 2, progress=1.0)
    guidance = VSD(adapter_steps=1000)
    memory = guidance.init(prior)
    memory.network = Listening()
    guidance_learns = replace(guidance, camera_dropout=0.1)
    memory.optimizer = torch.optim.AdamW(memory.network.parameters())
    guidance_learns.learn(v, memory)
    t = torch.stack(memory.network.times)
    assert t.min() < 0.01 and t.max() > 0.99 and abs(float(t.mean()) - 0.5) < 0.03, "whatever the annealed range is"
    assert not torch.equal(t[:, 0], t[:, 1]), "each view has its own"
    hidden = sum(c is None for c in memory.network.cameras)
    assert 70 < hidden < 130 and all(c is None or c.abs().max() > 0 for c in memory.network.cameras)


def test_two_stages_of_times():
    rng, times = torch.Generator().manual_seed(0), VSD().times
    most = {p: float(times.draw(4000, p, rng).max()) for p in (0.0, 0.2, 0.2001, 1.0)}
    assert most[0.0] > 0.97 and most[0.2] > 0.97 and 0.49 < most[0.2001] <= 0.5 and 0.49 < most[1.0] <= 0.5


def test_memory_carries_all_that_learning_goes_on_from():
    """Six updates equal three, a safetensors file, and three more, bit for bit; forgetting the moments would not."""
    prior, guidance = mixture(), VSD(adapter_rate=0.01)

    def learn(memory, seeds):
        for seed in seeds:
            guidance.learn(view(prior, 2, seed=seed), memory)
        return memory.state_dict()

    straight = learn(guidance.init(prior), range(6))
    half = learn(guidance.init(prior), range(3))
    again, forgetful = guidance.init(prior), guidance.init(prior)
    again.load_state_dict(load(save(half)))
    forgetful.network.load_state_dict({k.removeprefix("network."): v for k, v in half.items() if k.startswith("network.")})
    resumed, forgot = learn(again, range(3, 6)), learn(forgetful, range(3, 6))
    assert straight.keys() == resumed.keys() and all(torch.equal(straight[k], resumed[k]) for k in straight)
    assert not torch.equal(straight["network.shift"], forgot["network.shift"])


def test_the_optimizer_is_adamw_as_torch_has_it():
    prior, guidance = mixture(), VSD(adapter_rate=0.01)
    memory, plain = guidance.init(prior), prior.adapter(**FREE)
    reference = torch.optim.AdamW(plain.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.01)
    for seed in range(4):
        v = view(prior, 2, seed=seed)
        x, eps, t = v.x.detach(), v.randn(), torch.tensor([0.2, 0.7], dtype=torch.float64)
        memory.update(memory.network.loss(x, t, eps, v.text.plain), 0.01, factor=1000.0)
        reference.zero_grad()
        plain.loss(x, t, eps, v.text.plain).backward()
        reference.step()
    for name in ("shift", "log_spread", "log_weights"):  # the camera is never told here, which AdamW would skip
        torch.testing.assert_close(getattr(memory.network, name), getattr(plain, name), rtol=1e-9, atol=1e-12)


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted():
    prior, guidance = mixture(), VSD()
    memory, v = guidance.init(prior), view(mixture(), 2)
    guidance.learn(v, memory)
    before = {k: x.clone() for k, x in memory.state_dict().items()}
    with torch.no_grad():
        v.x[0, 0, 0, 0] = float("nan")
    guidance.learn(v, memory)
    after = memory.state_dict()
    assert after["refused"] == before["refused"] + 1 == 1
    assert after["scale"] == before["scale"] / 2 and after["since"] == 0  # the next try is with a smaller loss
    assert all(torch.equal(before[k], after[k]) for k in before if k not in ("refused", "scale", "since"))


def test_a_prior_without_adapters_says_what_else_to_take():
    with pytest.raises(UserError, match="sds"):
        DiffusionPrior.adapter(mixture(), **FREE)


def test_another_network_that_predicts_v_may_be_adapted(tmp_path):
    """ProlificDreamer's default: its answers are eps, it learns v, what it learns and asks is counted, and a checkpoint has it."""
    base, other = (weights.load(str(write_sd_folder(tmp_path / kind, kind, seed=seed)), precision="float64") for seed, kind in enumerate(("epsilon", "v_prediction")))
    g = VSD(adapter_prior=str(tmp_path / "v_prediction"), adapter_rate=1e-2)
    memory = g.init(base)
    rng = torch.Generator().manual_seed(0)
    text = Prompts("a red ball").conditions(base, orbit([0.0, 100.0]))
    v = View(torch.randn(2, 4, 8, 8, generator=rng, dtype=torch.float64).requires_grad_(), text, base, rng, 0.5)
    d = g(v, memory)
    (own,) = other.answer([Query(d.noised.x_t.detach(), d.noised.t, text.plain)])
    pos, neg = base.answer([Query(d.noised.x_t.detach(), d.noised.t, c) for c in (text.positive, text.negative)])
    torch.testing.assert_close(d.residual, neg + 7.5 * (pos - neg) - own, rtol=1e-8, atol=1e-10)  # begins as that network
    before = base.calls
    g.learn(v, memory)
    assert base.calls - before == 2 and not torch.allclose(g(v, memory).residual, d.residual)
    again = g.init(base)
    again.load_state_dict(memory.state_dict())
    one, two = (g(View(v.x, text, base, torch.Generator().manual_seed(4), 0.5), m).grad for m in (memory, again))
    assert torch.equal(one, two)
    with pytest.raises(UserError, match="reads latents of 48 channels, and the prior .* has 4"):
        VSD(adapter_prior=str(write_sd_folder(tmp_path / "patches", patches=True))).init(base)
