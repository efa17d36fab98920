"""Refinement by denoising, against SDS, a transcription of its moves, and what an exact prior knows."""

import math
from dataclasses import replace

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.guidance import SDS, SDEdit, Times

LOW = Times(t_min=0.05, t_max=0.3)


@pytest.mark.parametrize("weight", ["sigma2", "sigma_alpha", "one"])
def test_with_one_move_it_is_sds_at_low_noise(weight):
    prior = mixture()
    one, sds = SDEdit(scale=4.0, times=LOW, weight=weight, moves=1), SDS(scale=4.0, times=LOW, weight=weight)
    a, b = (g(view(prior, 3), g.init(prior)) for g in (one, sds))
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_its_target_is_where_ddim_leads(progress):
    prior, g = mixture(), SDEdit(scale=3.0)
    d = g(view(prior, 2, progress=progress), g.init(prior))
    u = view(prior, 2, progress=progress)  # the same stream of random numbers
    t = 0.2 + (0.05 - 0.2) * progress
    eps, count = u.randn(), max(1, int(50 * t + 1e-9))

    def level(t):
        a, s = prior.schedule(torch.tensor([t], dtype=torch.float64))
        return float(a), float(s)

    a, s = level(t)
    x = a * u.x.detach() + s * eps
    for k in range(count):
        (a, s), time = level(t * (1 - k / count)), torch.full((2,), t * (1 - k / count), dtype=torch.float64)
        pos, neg = (prior.eps(x, time, c) for c in (u.text.positive, u.text.negative))
        e = neg + 3.0 * (pos - neg)
        a1, s1 = level(t * (1 - (k + 1) / count)) if k < count - 1 else (1.0, 0.0)
        x = a1 * (x - s * e) / a + s1 * e
    torch.testing.assert_close(d.target, x, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(d.grad, u.x.detach() - x, rtol=1e-8, atol=1e-9)


def test_splats_arrive_at_a_picture_of_the_prompt_that_is_near():
    """Moved by its gradient again and again, a blurred picture becomes one that the prior finds likely, and stays near."""
    prior = mixture()
    g = SDEdit(scale=1.0, times=Times(t_min=0.2, t_max=0.2))
    v = view(prior, 4)
    x = v.x.detach()
    first = g(replace(v, x=x.clone().requires_grad_()), g.init(prior)).grad.norm()
    for _ in range(60):
        x = x - 0.3 * g(replace(v, x=x.clone().requires_grad_()), g.init(prior)).grad
    last = torch.stack([g(replace(v, x=x.clone().requires_grad_()), g.init(prior)).grad for _ in range(30)]).mean(0).norm()
    assert last < 0.3 * first and math.isfinite(float(last))


def test_it_asks_for_two_pictures_a_move():
    prior, g = mixture(), SDEdit(times=Times(t_min=0.2, t_max=0.2), moves=25)
    before = prior.calls
    g(view(prior, 3), g.init(prior))
    assert prior.calls - before == 5 * 2 * 3
