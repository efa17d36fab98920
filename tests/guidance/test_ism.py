"""ISM against independent transcriptions of the paper and of the official code, and in its limits."""

import math
from dataclasses import replace

import pytest
import torch

from guidance.worlds import D, mixture, view
from splatdistill.errors import UserError
from splatdistill.guidance import ISM, Times
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts

NOTHING = torch.nn.Module()


def acp(prior, t):
    return prior.schedule(torch.tensor([t], dtype=torch.float64))[0].item() ** 2


def ask(prior, x, t, text):
    return prior.eps(x, torch.tensor([t], dtype=torch.float64), text)


def move(prior, x, a, b, e):
    """Return the result of DDIM from time a to time b."""
    pa, pb = acp(prior, a), acp(prior, b)
    return math.sqrt(pb) * (x - math.sqrt(1 - pa) * e) / math.sqrt(pa) + math.sqrt(1 - pb) * e


@pytest.mark.parametrize("progress, low", [(0.0, 0.02), (0.1, 0.3), (0.3, 0.45), (1.0, 0.02), (2.0, 0.4)])
def test_paper_form(progress, low):
    prior = mixture()
    g = ISM(times=Times(t_min=low, t_max=0.95, t_max_end=0.5, until=0.3), lambda_guidance=0.7)  # a time for each view
    v = view(prior, 3, progress=progress)
    d = g(v, NOTHING)
    warm = max(0.0, 1 - progress / 0.3)
    for i in range(3):
        t = float(d.noised.t[i])
        s = max(t - (0.08 + 0.02 * warm), 0.0)
        null, x, here = v.text.null[i : i + 1], v.x[i : i + 1].detach(), 0.0
        while here < s - 1e-12:
            there = min(here + 0.2, s)
            x, here = move(prior, x, here, there, ask(prior, x, here, null)), there
        eps_s = ask(prior, x, s, null)
        x_t = move(prior, x, s, t, eps_s)
        c, u = (ask(prior, x_t, t, e[i : i + 1]) for e in (v.text.positive, v.text.negative))
        weight = math.sqrt((1 - acp(prior, t)) / acp(prior, t))
        expected = 0.7 * weight * (u + 7.5 * (c - u) - eps_s)
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("progress", [0.0, 0.13, 0.3, 1.0])
def test_code_form(progress):
    """Indices, of which i is step i + 1; noise with an offset in common; the sum over the batch."""
    prior, batch = mixture(), 2
    g = ISM(variant="code", lambda_guidance=0.1)
    v = view(prior, batch, progress=progress)
    d = g(v, NOTHING)
    u = view(prior, batch, progress=progress)  # the same stream of random numbers
    warm = max(0.0, 1 - progress / 0.3)
    draw = torch.rand(1, generator=u.rng, dtype=torch.float64).item()
    ind_t = int(20 + draw * (480 + 480 * warm) + 1e-6)
    ind_s = max(ind_t - int(80 + 20 * warm + 1e-9), 0)
    offset = torch.randn(1, 2, 1, 1, generator=u.rng, dtype=torch.float64)
    noise = torch.randn(batch, 2, 3, 3, generator=u.rng, dtype=torch.float64) + 0.1 * offset
    for i in range(batch):
        first = acp(prior, 0.001)
        x, null, index = math.sqrt(first) * v.x[i : i + 1].detach() + math.sqrt(1 - first) * noise[i : i + 1], v.text.null[i : i + 1], 0
        while index != ind_s:
            after = min(index + 200, ind_s)
            x, index = move(prior, x, (index + 1) / 1000, (after + 1) / 1000, ask(prior, x, (index + 1) / 1000, null)), after
        target = ask(prior, x, (ind_s + 1) / 1000, null)
        t = (ind_t + 1) / 1000
        x_t = move(prior, x, (ind_s + 1) / 1000, t, target)
        c, n = (ask(prior, x_t, t, e[i : i + 1]) for e in (v.text.positive, v.text.negative))
        expected = 0.1 * math.sqrt((1 - acp(prior, t)) / acp(prior, t)) * (n + 7.5 * (c - n) - target)
        torch.testing.assert_close(d.grad[i : i + 1] / batch, expected, rtol=1e-9, atol=1e-9)


def test_without_an_interval_it_is_the_guidance_direction():
    """interval -> 0 with equal null and negative prompts: lambda w s (pos - neg), and the first order in between."""
    prior, at = mixture(), Times(t_min=0.6, t_max=0.6)
    alpha, sigma = prior.schedule(torch.tensor([0.6], dtype=torch.float64))
    gaps = []
    for interval in (0.02, 0.01, 0.005, 0.0):
        g = ISM(times=at, interval=interval, interval_first=interval)
        v = view(prior, 3, prompts=Prompts("ball"))
        d = g(v, NOTHING)
        pos, neg = (prior.eps(d.noised.x_t, d.noised.t, e) for e in (v.text.positive, v.text.null))
        gaps.append(float((d.grad - sigma / alpha * 7.5 * (pos - neg)).norm() / d.grad.norm()))
    assert gaps[3] < 1e-12
    assert gaps[0] > 1.8 * gaps[1] > 1.8**2 * gaps[2] > 0


def test_views_at_their_own_times_are_as_if_alone():
    """Inversions of different lengths share their calls."""
    prior, g = mixture(), ISM(times=Times(t_min=0.05, t_max=0.95), interval=0.07, interval_first=0.07)
    v = view(prior, 3)
    d = g(v, NOTHING)
    assert len(set(d.noised.t.tolist())) == 3
    for i in range(3):
        alone = type(v)(v.x[i : i + 1], type(v.text)(*(e[i : i + 1] for e in (v.text.positive, v.text.negative, v.text.null, v.text.plain))), prior, v.rng, 0.3)
        t = float(d.noised.t[i])
        one = ISM(times=Times(t_min=t, t_max=t), interval=0.07, interval_first=0.07)(alone, NOTHING)
        torch.testing.assert_close(one.grad, d.grad[i : i + 1], rtol=1e-9, atol=1e-11)


def test_an_inversion_that_begins_with_noise():
    """From x with noise of that level, in moves from there; a view whose s is below it has noise of s alone."""
    prior = mixture()
    g = ISM(times=Times(t_min=0.02, t_max=0.9), begin=0.3, interval=0.1, interval_first=0.1)
    v, u = view(prior, 4, seed=1), view(prior, 4, seed=1)  # the same stream of random numbers
    d = g(v, NOTHING)
    times = 0.02 + 0.88 * torch.rand(4, generator=u.rng, dtype=torch.float64)
    torch.testing.assert_close(d.noised.t, times, rtol=1e-6, atol=1e-6)
    noise, below = torch.randn(v.x.shape, generator=u.rng, dtype=torch.float64), 0
    for i in range(4):
        t, null = float(d.noised.t[i]), v.text.null[i : i + 1]
        s = max(t - 0.1, 0.0)
        here = min(s, 0.3)
        below += s < 0.3
        x = math.sqrt(acp(prior, here)) * v.x[i : i + 1].detach() + math.sqrt(1 - acp(prior, here)) * noise[i : i + 1]
        while here < s - 1e-12:
            there = min(here + 0.2, s)
            x, here = move(prior, x, here, there, ask(prior, x, here, null)), there
        x_t = move(prior, x, s, t, ask(prior, x, s, null))
        torch.testing.assert_close(d.noised.x_t[i : i + 1], x_t, rtol=1e-8, atol=1e-8)
    assert 0 < below < 4
    assert d.grad.isfinite().all()


def test_where_pictures_have_no_texture_only_an_inversion_that_begins_with_noise_finds_any():
    """The flow's inversion magnifies what is there. A prior of flat pictures, as the toybox's are, says that a render has
    nothing in most directions, so there is nothing to magnify: x_t has next to no noise, which no network saw in training.
    """
    variances = torch.ones(1, *D, dtype=torch.float64)
    variances[:, 1] = 1e-8  # the second channel is flat
    prior = GaussianMixturePrior(torch.zeros(1, *D, dtype=torch.float64), variances, {"ball": [1.0], "cube": [1.0]})
    v = view(prior, 64)
    flat = replace(v, x=(v.x * variances).detach().requires_grad_())
    found = [ISM(times=Times(t_min=0.7, t_max=0.7), begin=b)(flat, NOTHING).noised.eps[:, 1].std() for b in (0.0, 0.3)]
    assert found[0] < 1e-3 and abs(found[1] - 1) < 0.1


def test_it_refuses_moves_that_lead_nowhere():
    with pytest.raises(UserError, match="stride"):
        ISM(stride=0.0)
    with pytest.raises(UserError, match="begin"):
        ISM(begin=1.0)
