"""DSD against independent transcriptions of paper and code, its kept paths, and seeds that choose the sample."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from train.small import config, red_and_blue

from guidance.worlds import D, mixture, view
from splatdistill.guidance import CFG, DSD, GUIDANCES, View
from splatdistill.guidance.kept import NamedTensors
from splatdistill.guidance.paths import sampled
from splatdistill.priors import PerpNeg
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.train.image2d import conditions
from splatdistill.train.session import Session


def eps(prior, x, t, text, i, s, perp=None):
    """Return neg + s (pos - neg + Perp-Neg's part) for one image."""
    at = torch.tensor([t], dtype=torch.float64)
    pos, neg = (prior.eps(x, at, c[i : i + 1]) for c in (text.positive, text.negative))
    direction = total = pos - neg
    for k, other in enumerate(() if perp is None else perp.others):
        a = prior.eps(x, at, other[i : i + 1]) - neg
        total = total + perp.weights[i, k] * (a - (a * direction).sum() / direction.square().sum() * direction)
    return neg + s * total


def at(prior, t):
    alpha, sigma = prior.schedule(torch.tensor([t], dtype=torch.float64))
    return alpha.item(), sigma.item()


@pytest.mark.parametrize("with_perp", [False, True])
@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_formula(variant, progress, with_perp):
    prior, g = mixture(), DSD(variant=variant)

    def seen() -> View:
        v = view(prior, 2, progress=progress)
        perp = PerpNeg(prior.embed(["cube"] * 2), v.text.null, torch.tensor([[-0.6, -1.3], [-0.2, 0.0]], dtype=torch.float64)) if with_perp else None
        return replace(v, text=replace(v.text, perp=perp))

    v, u = seen(), seen()
    d = g(v, g.init(prior))
    t = 0.98 - 0.66 * progress**0.5
    if variant == "code":
        t = int(1000 * ((0.98 - 0.32) * (1 - progress**0.5) + 0.32)) / 1000
    share = torch.rand(2, generator=u.rng, dtype=torch.float64)
    start = torch.randn(1, *D, generator=u.rng, dtype=torch.float64)
    for i in range(2):
        if variant == "code":
            longest = min(0.1 * (round(1000 * t) - 320), 999 - round(1000 * t))
            later = min(max(round(1000 * t) + int(max(longest, 0) * float(share[i]) + 1e-9), 1), 999) / 1000
            moves = [int(999 - 99.9 * k) / 1000 for k in range(10)]
        else:
            later = min(t + 0.1 * (t - 0.32) * float(share[i]), 0.999)
            moves = [0.999 - 0.0999 * k for k in range(10)]
        here = [m for m in moves if m > later + 1e-6] + [later]
        x, perp = start, v.text.perp
        for a, b in zip(here[:-1], here[1:]):
            (a0, s0), (a1, s1), e = at(prior, a), at(prior, b), eps(prior, x, a, v.text, i, 7.5, perp)
            x = a1 * (x - s0 * e) / a0 + s1 * e
        e = eps(prior, x, later, v.text, i, 7.5, perp)
        clean, (a0, s0), (a1, s1) = v.x[i : i + 1].detach(), at(prior, t), at(prior, later)
        alone = eps(prior, a1 * clean + s1 * e, later, v.text, i, 1.0, perp if variant == "code" else None)
        expected = s0**2 * (eps(prior, a0 * clean + s0 * e, t, v.text, i, 7.5, perp) - alone)
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-7, atol=1e-9)


def test_a_path_is_asked_for_once_for_each_text_and_stays_the_same():
    prior, g = mixture(), DSD()
    memory = g.init(prior)
    first = g(view(prior, 2), memory)
    before = prior.calls
    again = g(view(prior, 2), memory)
    assert prior.calls - before == 2 * 5
    assert torch.equal(first.noised.t, again.noised.t)
    whole = load(save({k: t.contiguous() for k, t in memory.state_dict().items()}))
    alone = g.init(prior)
    alone.load_state_dict({"start": whole["start"]})  # the same noise, no path
    torch.testing.assert_close(g(view(prior, 2), alone).grad, again.grad, rtol=0, atol=0)
    other = replace(g, scale=3.0)
    assert not torch.equal(other(view(prior, 2), memory).grad, again.grad)  # another scale, another path
    fresh = g.init(prior)
    fresh.load_state_dict({"start": whole["start"]})
    torch.testing.assert_close(other(view(prior, 2), memory).grad, other(view(prior, 2), fresh).grad, rtol=0, atol=0)


def test_going_back_to_what_was_saved_forgets_what_came_since():
    prior, g = mixture(), DSD()
    memory = g.init(prior)
    empty = {k: v.clone() for k, v in memory.state_dict().items()}
    first = g(view(prior, 2), memory)
    assert memory.state_dict() and not empty
    memory.load_state_dict(empty)
    assert not memory.state_dict()
    assert torch.equal(g(view(prior, 2), memory).grad, first.grad)


def test_nothing_but_the_noise_is_kept_where_texts_differ_from_view_to_view():
    prior, g = mixture(), DSD()
    v = view(prior, 2)
    perp = PerpNeg(prior.embed(["cube"] * 2), v.text.null, torch.full((2, 2), -0.5, dtype=torch.float64))
    memory = g.init(prior)
    g(replace(v, text=replace(v.text, perp=perp)), memory)
    assert set(memory.state_dict()) == {"start"}


def test_the_noise_chooses_the_sample():
    """Two modes and a prompt that means both: from one start, x goes to the mode that DDIM reaches from the run's noise."""
    modes = torch.tensor([[-2.0, -2.0], [2.0, 2.0]], dtype=torch.float64)
    prior = GaussianMixturePrior(modes, torch.full((2,), 0.05, dtype=torch.float64), {"one": [1.0, 1.0]})
    text, g = conditions(prior, "one", 1), DSD()
    for noise in (-0.9, 0.9):
        memory, rng, x = g.init(prior), torch.Generator().manual_seed(0), torch.full((1, 2), 0.02, dtype=torch.float64)
        memory.load_state_dict({"start": torch.full((1, 2), noise, dtype=torch.float64)})
        v = View(torch.full((1, 2), noise, dtype=torch.float64), text, prior, rng)
        sample = sampled(v, torch.linspace(0.999, 0, 21, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), CFG(7.5), NamedTensors())
        for k in range(40):
            x = x - 0.5 * g(View(x, text, prior, rng, k / 40), memory).grad
        assert sample.mean() * noise > 1.5 and x.mean() * noise > 0.3


@pytest.mark.parametrize("name", ["cfd", "dsd", "jsd"])
def test_a_resumed_run_ends_with_the_same_bytes(name, tmp_path):
    settings, prior = config(GUIDANCES[name](scale=2.0), steps=6), red_and_blue(purity=0.9)
    whole = Session(settings, prior)
    for k in range(6):
        whole.step()
        if k == 2:
            whole.state.save(tmp_path / "step-000003", settings)
    rest = Session.resumed(settings, prior, tmp_path / "step-000003")
    for _ in range(3):
        rest.step()
    one, two = (s.state.tensors() for s in (whole, rest))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
