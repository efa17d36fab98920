"""JSD against a transcription of its two losses, and against SDI where it is SDI; the control that only averages."""

from dataclasses import replace

import pytest
import torch

from guidance.worlds import D, mixture, view
from splatdistill.guidance import JSD, SDI, View
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.train.image2d import conditions

NOTHING = torch.nn.Module()


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("k", [0.0, 0.4, 1.0])
def test_it_is_the_gradient_of_both_losses(variant, k):
    """|x - x0|^2 / 2 + k |x - x0'|^2 / 2, both estimates written out; in the paper's form times alpha, which w = sigma leaves of it."""
    prior, g = mixture(), JSD(variant=variant, k=k)
    v, u = view(prior, 2), view(prior, 2)
    d = g(v, NOTHING)
    first = SDI(variant=variant, scale=14.5, inversion_scale=-12.5)(u, NOTHING)  # leaves u's generator where n' is drawn
    alpha, sigma = prior.schedule(first.noised.t)
    x0 = (first.noised.x_t - sigma * first.eps_hat).detach() / alpha
    y = alpha * x0 + sigma * (fresh := torch.randn(2, *D, generator=u.rng, dtype=torch.float64))
    pos, neg = (prior.eps(y, first.noised.t, c) for c in (u.text.positive, u.text.negative))
    again = (y - sigma * (neg + 14.5 * (pos - neg))) / alpha
    x = v.x.detach().clone().requires_grad_()
    (0.5 * (x - x0).square().sum() + 0.5 * k * (x - again).square().sum()).backward()
    assert x.grad is not None and fresh.shape == x.shape
    torch.testing.assert_close(d.grad, x.grad * (alpha if variant == "paper" else 1 / x0[0].numel()), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(d.target, (x0 + k * again) / (1 + k), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_without_a_second_estimate_it_is_sdi(variant):
    prior = mixture()
    jsd, sdi = JSD(variant=variant, k=0.0, scale=9.0, inversion_scale=-4.0), SDI(variant=variant, scale=9.0, inversion_scale=-4.0)
    jsd, sdi = (g(view(prior, 3), NOTHING) for g in (jsd, sdi))
    assert torch.equal(jsd.grad, sdi.grad)


def test_the_control_is_a_mean_over_two_of_sdis_steps():
    prior, g = mixture(), JSD(second="inverted", eta=0.5)
    v, u = view(prior, 2), view(prior, 2)
    d = g(v, NOTHING)
    sdi = SDI(scale=14.5, inversion_scale=-12.5, eta=0.5)
    one, two = (sdi(u, NOTHING) for _ in range(2))  # the second goes on with the same generator
    assert not torch.allclose(one.grad, two.grad)
    torch.testing.assert_close(d.grad, one.grad + two.grad, rtol=1e-9, atol=1e-10)


def test_the_control_costs_a_second_inversion():
    prior, counts = mixture(), []
    for second in ("generated", "inverted"):
        before = prior.calls
        JSD(second=second)(view(prior, 1), NOTHING)
        counts.append(prior.calls - before)
    assert counts == [2 * 7 + 4, 2 * (2 * 7 + 2)]


def test_a_generated_second_estimate_is_not_only_more_averaging():
    """Under one Gaussian, whose exact estimate is linear, a mean over inversions stays at SDI's estimate; the generated one lies
    nearer to the prior's mean.
    """
    prior = GaussianMixturePrior(torch.zeros(1, 3, dtype=torch.float64), torch.full((1,), 0.3, dtype=torch.float64), {"one": [1.0]})
    x = torch.full((4000, 3), 2.0, dtype=torch.float64)
    base = JSD(scale=1.0, inversion_scale=1.0, eta=1.0, jitter=0.0)
    targets = {}
    for name, g in (("sdi", replace(base, k=0.0)), ("inverted", replace(base, second="inverted")), ("generated", base)):
        v = View(x, conditions(prior, "one", len(x)), prior, torch.Generator().manual_seed(0), 0.5)
        targets[name] = float(g(v, NOTHING).target.mean())
    alpha, sigma = prior.schedule(torch.full((1,), 0.6, dtype=torch.float64))
    shrink = float(alpha**2 * 0.3 / (alpha**2 * 0.3 + sigma**2))  # the estimate of alpha x + sigma n, per x
    assert targets["inverted"] == pytest.approx(targets["sdi"], abs=0.05)
    assert targets["generated"] == pytest.approx(targets["sdi"] * (1 + shrink) / 2, abs=0.05)
    assert targets["generated"] < 0.8 * targets["sdi"]
