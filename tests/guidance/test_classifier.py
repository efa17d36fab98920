"""SJC, CSD, NFSD and ASD against independent transcriptions, each other, and the exact score of a mixture."""

from dataclasses import replace

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.errors import UserError
from splatdistill.guidance import ASD, CSD, NFSD, SDS, SJC, Times, View
from splatdistill.priors.prompts import Prompts

AT = Times(t_min=0.55, t_max=0.65)  # where every component of the mixture has a say
NOTHING = torch.nn.Module()


def eps(prior, n, text, i):
    """Return the prior's answer for one image."""
    return prior.eps(n.x_t[i : i + 1], n.t[i : i + 1], text[i : i + 1])


def sigma2(prior, n, i):
    return 1 - prior.schedule(n.t[i : i + 1])[0].item() ** 2


# -- SJC ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance_reduction", [True, False])
def test_sjc_in_its_own_coordinates(variance_reduction):
    """z = y + s n, D = z - s eps(z / sqrt(1 + s^2)), grad = (y - D) / s or (z - D) / s."""
    prior = mixture()
    v, g = view(prior, 3), SJC(scale=9.0, times=AT, variance_reduction=variance_reduction)
    d = g(v, NOTHING)
    for i in range(3):
        acp = prior.schedule(d.noised.t[i : i + 1])[0].item() ** 2
        y, s = v.x[i : i + 1].detach(), ((1 - acp) / acp) ** 0.5
        z = y + s * d.noised.eps[i : i + 1]
        c, u = (prior.eps(z / (1 + s * s) ** 0.5, d.noised.t[i : i + 1], e[i : i + 1]) for e in (v.text.positive, v.text.negative))
        denoised = z - s * (u + 9.0 * (c - u))
        expected = ((y if variance_reduction else z) - denoised) / s
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-9, atol=1e-9)


def test_sjc_is_sds_with_weight_one():
    prior = mixture()
    one, two = (g(view(prior, 3), NOTHING) for g in (SJC(), SDS(weight="one", times=SJC().times)))
    assert torch.equal(one.grad, two.grad)


def test_sjc_has_one_mean_with_and_without_variance_reduction():
    prior, many = mixture(), 20_000
    v = view(prior, 1)
    text = {k: getattr(v.text, k).expand(many) for k in ("positive", "negative", "null", "plain")}
    x = v.x.detach().expand(many, -1, -1, -1)
    wide = View(x, replace(v.text, **text, cameras=None, texts=()), prior, torch.Generator().manual_seed(1))
    grads = []
    for flag in (True, False):
        wide.rng.manual_seed(1)
        grads.append(SJC(scale=1.0, times=Times(t_min=0.4, t_max=0.4), variance_reduction=flag)(wide, NOTHING).grad)
    gap = grads[0] - grads[1]
    assert (gap.mean(0).abs() < 5 * gap.std(0) / many**0.5).all() and gap.std() > 0.5
    assert grads[0].var(0).mean() < grads[1].var(0).mean()  # x is far from what the prompt wants: it does reduce


# -- CSD ----------------------------------------------------------------------------------------------

RAMPS = {"k_c": (1.0, 1.5), "k_u": (0.0, -1.0), "k_null": (-1.0, -0.25), "k_noise": (0.0, -0.5)}


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.4, 1.3])
def test_csd_formula(progress):
    """sigma^2 scale (k_c c + k_u u + k_null null + k_noise n), weights linear until 0.4."""
    prior = mixture()
    v, g = view(prior, 3, progress=progress), CSD(scale=2.5, times=AT, until=0.4, **RAMPS)
    d, p = g(v, NOTHING), min(progress / 0.4, 1)
    for i in range(3):
        c, u, null = (eps(prior, d.noised, e, i) for e in (v.text.positive, v.text.negative, v.text.null))
        k = [a + (b - a) * p for a, b in RAMPS.values()]
        total = k[0] * c + k[1] * u + k[2] * null + k[3] * d.noised.eps[i : i + 1]
        torch.testing.assert_close(d.grad[i : i + 1], sigma2(prior, d.noised, i) * 2.5 * total, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_csd_divides_by_the_norm_only_where_it_is_told_to(variant):
    """As the official Stable Diffusion guidance, and as the DeepFloyd one (`grad_normalize`)."""
    prior = mixture()
    plain, divided = (CSD(variant=variant, times=AT, normalise=n)(view(prior, 3), NOTHING) for n in (False, True))
    assert torch.equal(plain.grad, plain.raw) and torch.equal(plain.raw, divided.raw)
    torch.testing.assert_close(divided.grad, plain.raw / (plain.raw.square().sum().sqrt() + 1e-8), rtol=1e-12, atol=0)


def test_csd_code_form_is_at_whole_times():
    t = CSD(variant="code", times=AT)(view(mixture(), 3), NOTHING).noised.t
    assert torch.equal((1000 * t).round() / 1000, t)


def test_csd_holds_sds_as_a_special_case():
    prior, s = mixture(), 12.0
    as_sds = CSD(k_c=(s, s), k_u=(1 - s, 1 - s), k_null=(0.0, 0.0), k_noise=(-1.0, -1.0))
    one, two = (g(view(prior, 3), NOTHING) for g in (as_sds, SDS(scale=s)))
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-10)


def test_csd_asks_only_prompts_with_a_weight():
    prior, g = mixture(), CSD(k_u=(0.0, -1.0), k_null=(-1.0, 0.0))
    asked = []
    for progress in (0.0, 0.5, 1.0):
        prior.calls = 0
        g(view(prior, 2, progress=progress), NOTHING)
        asked.append(prior.calls / 2)
    assert asked == [2, 3, 2]


def test_csd_climbs_the_classifier():
    """Its gradient is -w sigma grad log p(y | x_t), by differentiation of the exact densities; going down it, the
    probability of the prompt rises at every step.
    """
    prior = mixture()
    v, g = view(prior, 4), CSD(times=AT)
    n = g(v, NOTHING).noised
    x_t = n.x_t.detach().requires_grad_()
    log_p = prior.log_prob(x_t, n.t, v.text.positive) - prior.log_prob(x_t, n.t, v.text.null)
    (slope,) = torch.autograd.grad(log_p.sum(), x_t)
    sigma = prior.schedule(n.t)[1]
    torch.testing.assert_close(g(view(prior, 4), NOTHING).grad, -(sigma**3) * slope, rtol=1e-8, atol=1e-10)
    x, climbed = v.x.detach(), []
    for _ in range(30):
        v.rng.manual_seed(5)  # the same noise again
        d = g(replace(v, x=x.requires_grad_()), NOTHING)
        x_t, t = d.noised.x_t.detach(), d.noised.t
        climbed.append(prior.log_prob(x_t, t, v.text.positive) - prior.log_prob(x_t, t, v.text.null))
        x = (x - 0.3 * d.grad).detach()
    climbed = torch.stack(climbed)
    assert (climbed.diff(dim=0) > 0).all() and (climbed[-1] - climbed[0]).max() > 0.1


def test_csd_refuses_weights_that_never_arrive():
    with pytest.raises(UserError, match="until"):
        CSD(until=0.0)


# -- NFSD ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.15, 0.1999, 0.2, 0.6])
def test_nfsd_formula(t):
    prior = mixture()
    v, g = view(prior, 3), NFSD(times=Times(t_min=t, t_max=t))
    d = g(v, NOTHING)
    for i in range(3):
        c, null, neg = (eps(prior, d.noised, e, i) for e in (v.text.positive, v.text.null, v.text.negative))
        domain = null if t < 0.2 else null - neg
        torch.testing.assert_close(d.grad[i : i + 1], sigma2(prior, d.noised, i) * (domain + 7.5 * (c - null)), rtol=1e-9, atol=1e-10)


def test_nfsd_without_a_negative_prompt_is_csd_above_the_threshold():
    prior = mixture()
    one, two = (g(view(prior, 3, prompts=Prompts("ball")), NOTHING).grad for g in (NFSD(scale=5.0, times=AT), CSD(scale=5.0, times=AT)))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


# -- ASD ----------------------------------------------------------------------------------------------


def asd_expected(prior, v, d, later):
    """Return sigma_t^2 ([u + 7.5 (c - u)] - c at t+), the same noise at both."""
    rows = []
    for i in range(len(v.x)):
        c, u = (eps(prior, d.noised, e, i) for e in (v.text.positive, v.text.negative))
        t = torch.tensor([later[i]], dtype=torch.float64)
        acp = prior.schedule(t)[0].item() ** 2
        x = acp**0.5 * v.x[i : i + 1].detach() + (1 - acp) ** 0.5 * d.noised.eps[i : i + 1]
        rows.append(sigma2(prior, d.noised, i) * (u + 7.5 * (c - u) - prior.eps(x, t, v.text.positive[i : i + 1])))
    return torch.cat(rows)


@pytest.mark.parametrize("shift", ["random", "fixed"])
@pytest.mark.parametrize("times", [Times(), Times(t_min=0.5, t_min_end=0.02, t_max=0.98, t_max_end=0.5), Times(t_min=0.97, t_max=0.99)])
def test_asd_paper_form(shift, times):
    prior = mixture()
    d = ASD(times=times, shift=shift)(v := view(prior, 4), NOTHING)
    u = view(prior, 4)  # the same stream of random numbers
    times.draw(4, 0.3, u.rng), u.randn()
    part = u.rand().tolist() if shift == "random" else [1.0] * 4
    least = min(times.t_min, times.t_min_end or times.t_min)
    later = [min(t + a * 0.1 * (t - least), 0.999) for t, a in zip(d.noised.t.tolist(), part)]
    torch.testing.assert_close(d.grad, asd_expected(prior, v, d, later), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", ["random", "fixed"])
@pytest.mark.parametrize("low, high", [(0.02, 0.98), (0.5, 0.5), (0.3, 0.99)])
def test_asd_code_form(shift, low, high):
    """Delta = clip(eta (t - min), 0, 999 - t), times U if random; t+ = clip(t + floor(Delta), 1, 999)."""
    prior, times = mixture(), Times(t_min=low, t_max=high)
    d = ASD(times=times, shift=shift, variant="code", eta=0.37)(v := view(prior, 6), NOTHING)
    u = view(prior, 6)
    times.draw(6, 0.3, u.rng), u.randn()
    part = u.rand().tolist() if shift == "random" else [1.0] * 6
    later = []
    for t, a in zip((1000 * d.noised.t).round().long().tolist(), part):
        delta = min(max(37 * (t - int(1000 * low)) / 100, 0), 999 - t)
        later.append(min(max(t + int(delta * a + 1e-6), 1), 999) / 1000)
    torch.testing.assert_close(d.grad, asd_expected(prior, v, d, later), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_asd_without_a_shift_is_csd_at_scale_minus_one(variant):
    prior, prompts = mixture(), Prompts("ball")  # negative and null prompt are one
    one = ASD(eta=0.0, scale=7.5, times=AT, variant=variant)(view(prior, 3, prompts=prompts), NOTHING)
    two = CSD(scale=6.5, times=AT, variant=variant)(view(prior, 3, prompts=prompts), NOTHING)
    torch.testing.assert_close(one.raw, two.raw, rtol=1e-9, atol=1e-11)
    assert one.raw.norm() > 0


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_asd_views_that_share_a_time_share_the_later_one(variant):
    """As ScaleDreamer's guidance of several views at once draws one t and one t+; else each view has its own."""
    prior, later = mixture(), {}
    for shared in (True, False):
        g = ASD(variant=variant, eta=0.5, times=Times(t_min=0.3, t_max=0.7, shared=shared))
        v = view(prior, 4)
        t = g.value("times").draw(4, 0.3, v.rng)
        later[shared] = g.later(v, t)
        assert (later[shared] >= t).all()
    assert len(later[True].unique()) == 1 and len(later[False].unique()) == 4
