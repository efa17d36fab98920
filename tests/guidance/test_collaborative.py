"""Collaborative score distillation: Stein's kernel over the views against loops and against autograd, and its traps."""

import math
from dataclasses import replace

import pytest
import torch

from guidance.worlds import D, mixture, view
from splatdistill.errors import UserError
from splatdistill.guidance import CSD, SDS, Collaborative, Noised, Original, Times, View
from splatdistill.priors import Conditions
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts
from splatdistill.train.config import Train

NOTHING = torch.nn.Module()
AT = Times(t_min=0.6, t_max=0.6, shared=True)


def median(squares: list[list[float]], variant: str) -> float:
    n = len(squares)
    if variant == "code":
        every = sorted(d for row in squares for d in row)
        return every[(n * n - 1) // 2]  # torch.median takes the lower one
    others = sorted(squares[i][j] for i in range(n) for j in range(n) if i != j)
    return 0.5 * (others[(len(others) - 1) // 2] + others[len(others) // 2])


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("base_residual", ["sds", "csd", "score"])
@pytest.mark.parametrize("batch", [3, 4])
def test_formula(variant, base_residual, batch):
    """sigma^2 / n [sum_j K_ij r_j - sum_j 2 gamma K_ij (X_i - X_j)], by loops."""
    prior = mixture()
    v = view(prior, batch)
    d = Collaborative(variant=variant, base_residual=base_residual, times=AT)(v, NOTHING)
    assert len(set(d.noised.t.tolist())) == 1
    x, r = d.noised.x_t.detach(), []
    for i in range(batch):
        pos, neg = (prior.eps(x[i : i + 1], d.noised.t[i : i + 1], e[i : i + 1])[0] for e in (v.text.positive, v.text.negative))
        cfg = neg + 7.5 * (pos - neg)
        r.append({"sds": cfg - d.noised.eps[i].detach(), "csd": 6.5 * (pos - neg), "score": cfg}[base_residual])
    squares = [[float((x[i] - x[j]).square().sum()) for j in range(batch)] for i in range(batch)]
    gamma = math.log(batch + 1) / median(squares, variant)
    sigma2 = 1 - prior.schedule(d.noised.t)[0][0].item() ** 2
    for i in range(batch):
        total = torch.zeros_like(x[0])
        for j in range(batch):
            k = math.exp(-gamma * squares[i][j])
            total += k * r[j] - 2 * gamma * k * (x[i] - x[j])
        torch.testing.assert_close(d.grad[i], sigma2 / batch * total, rtol=1e-9, atol=1e-9)


def test_repulsion_is_the_gradient_of_the_kernel():
    """Stein's term is +sum_j grad_{x_j} k(x_j, x_i) going up, so down its gradient views part."""
    prior = mixture()
    v = view(prior, 4)
    d = Collaborative(times=AT)(v, NOTHING)
    none = Collaborative(times=AT, repulsion=0.0)(v := view(prior, 4), NOTHING)
    x = d.noised.x_t.detach()
    square = (x.flatten(1)[:, None] - x.flatten(1)).square().sum(-1)
    gamma = math.log(5) / Collaborative().median(square)
    for i in range(4):
        others = x.clone().requires_grad_()
        k = torch.exp(-gamma * (others - x[i]).flatten(1).square().sum(1))
        (slopes,) = torch.autograd.grad(k.sum(), others)
        sigma2 = prior.schedule(d.noised.t)[1][0].item() ** 2
        torch.testing.assert_close((none.grad - d.grad)[i], sigma2 / 4 * slopes.sum(0), rtol=1e-8, atol=1e-10)
    apart = x - 0.1 * (d.grad - none.grad)
    assert torch.pdist(apart.flatten(1)).mean() > torch.pdist(x.flatten(1)).mean()


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("batch", [1, 2])
def test_two_views_are_finite_and_one_is_the_residual_alone(variant, batch):
    prior = mixture()
    d = Collaborative(variant=variant, scale=9.0, times=AT)(view(prior, batch), NOTHING)
    assert d.grad.isfinite().all()
    if batch == 1:
        torch.testing.assert_close(d.grad, SDS(scale=9.0, times=AT)(view(prior, 1), NOTHING).grad, rtol=1e-12, atol=0)
    else:  # the median is the distance: gamma d = ln 3, K = 1/3
        r = d.residual.flatten(1)
        sigma2 = prior.schedule(d.noised.t)[1][0].item() ** 2
        x = d.noised.x_t.detach().flatten(1)
        square = float((x[0] - x[1]).square().sum())
        expected = sigma2 / 2 * (r[0] + r[1] / 3 - 2 * math.log(3) / square / 3 * (x[0] - x[1]))
        torch.testing.assert_close(d.grad.flatten(1)[0], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("alike", [2, 3, 4])
def test_views_that_are_the_same_give_no_nan(variant, alike):
    g = Collaborative(variant=variant)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[1:alike] = x[0]
    prior = mixture()
    v = view(prior, 4)
    n = Noised(x[:, :, None, None], torch.full((4,), 0.5, dtype=torch.float64), x[:, :, None, None])
    mixed = g.mix(v, n, torch.ones(4, 5, 1, 1, dtype=torch.float64), NOTHING)
    assert mixed.isfinite().all()
    if alike == 4:
        assert torch.equal(mixed, torch.ones_like(mixed))


def test_residuals_of_csd_are_those_of_every_view_when_views_are_far_apart():
    """gamma from the median leaves K between them at 1 / (n + 1); the rest is each view's own."""
    prior, prompts = mixture(), Prompts("ball")
    own = CSD(scale=6.5, times=AT)(view(prior, 3, prompts=prompts), NOTHING)
    mixed = Collaborative(base_residual="csd", repulsion=0.0, times=AT)(view(prior, 3, prompts=prompts), NOTHING)
    torch.testing.assert_close(mixed.residual, own.residual, rtol=1e-9, atol=1e-11)


def test_the_code_form_has_whole_steps_and_the_paper_form_any():
    paper, code = (Collaborative(variant=v)(view(mixture(), 2), torch.nn.Module()).noised.t for v in ("paper", "code"))
    assert torch.equal((1000 * code).round() / 1000, code) and not torch.equal((1000 * paper).round() / 1000, paper)


# -- editing ------------------------------------------------------------------------------------------


def shifted(by: torch.Tensor) -> GaussianMixturePrior:
    """Return a prior whose two prompts are the same Gaussian in two places."""
    means = torch.stack([torch.zeros(D, dtype=torch.float64), by])
    return GaussianMixturePrior(means, torch.full((2,), 0.3, dtype=torch.float64), {"ball": [1.0, 0.0], "cube": [0.0, 1.0]})


def edited(prior: GaussianMixturePrior, prompt: str, x: torch.Tensor, before: torch.Tensor) -> View:
    def told(words: str) -> Conditions:
        own, null = prior.embed([words]).expand(len(x)), prior.embed([words]).expand(len(x))
        return Conditions(own, null, null, own)

    return View(x.requires_grad_(), told(prompt), prior, torch.Generator().manual_seed(0), 0.3, original=Original(before, told("ball")))


def test_an_edit_ends_where_the_picture_has_moved_as_far_as_the_prompts_are_apart():
    """With Gaussians of one covariance the residual is zero at x' + (m' - m) for every noise and time, and nowhere else; so what the
    picture has of its own stays, and with the same prompt nothing changes.
    """
    by = torch.full(D, 0.7, dtype=torch.float64)
    prior, guidance = shifted(by), Collaborative(scale=1.0, base_residual="edit", repulsion=0.0)
    before = torch.randn(3, *D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    there = guidance(edited(prior, "cube", (before + by).clone(), before), NOTHING)
    assert float(there.grad.abs().max()) < 1e-9
    assert float(guidance(edited(prior, "ball", before.clone(), before), NOTHING).grad.abs().max()) < 1e-9
    begun = guidance(edited(prior, "cube", before.clone(), before), NOTHING)
    assert (begun.residual < 0).all()  # towards it
    x = before.clone()
    for _ in range(300):
        v = edited(prior, "cube", x.detach(), before)
        x = x.detach() - 0.5 * guidance(v, NOTHING).grad
    torch.testing.assert_close(x, before + by, rtol=0, atol=0.05)


def test_an_edit_asks_for_both_pictures_with_the_same_noise():
    """The formula by hand, at scale 7.5 with a prior whose prompts differ in more than their place."""
    prior, before = mixture(), torch.randn(3, *D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    v = view(prior, 3)
    source = Prompts("cube").conditions(prior, v.text.cameras)
    v = replace(v, original=Original(before, source))
    calls = prior.calls
    d = Collaborative(base_residual="edit", times=AT)(v, NOTHING)
    assert prior.calls - calls == 12
    alpha, sigma = prior.schedule(d.noised.t)
    x_t = alpha * before + sigma * d.noised.eps
    pos, neg = (prior.eps(x_t, d.noised.t, e) for e in (source.positive, source.negative))
    torch.testing.assert_close(d.residual, d.eps_hat - (neg + 7.5 * (pos - neg)), rtol=1e-9, atol=1e-9)


def test_without_pictures_there_is_nothing_to_edit():
    with pytest.raises(UserError, match="--pictures and --original"):
        Collaborative(base_residual="edit")(view(mixture(), 2), NOTHING)
    with pytest.raises(UserError, match=r"a scene has no original ones"):
        Train(prompt="x", guidance=Collaborative(base_residual="edit"))
