"""SDI against independent transcriptions of the paper and of the official code, and its inversion against the ODE."""

import math
from dataclasses import replace

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.cameras import orbit
from splatdistill.guidance import CFG, SDI, Times, View
from splatdistill.guidance.noising import invert
from splatdistill.priors import PerpNeg
from splatdistill.priors.prompts import Prompts
from splatdistill.settings.commands import parse_train


def cfg(prior, x, t, text, i, s):
    """Return neg + s (pos - neg) for one image."""
    pos, neg = (prior.eps(x, torch.tensor([t], dtype=torch.float64), c[i : i + 1]) for c in (text.positive, text.negative))
    return neg + s * (pos - neg)


def acp(prior, t):
    return prior.schedule(torch.tensor([t], dtype=torch.float64))[0].item() ** 2


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_paper_form(progress):
    prior, g = mixture(), SDI()
    v = view(prior, 2, progress=progress)
    d = g(v, g.init(prior))
    u = view(prior, 2, progress=progress)  # the same stream of random numbers
    tau = g.jitter * torch.rand(2, generator=u.rng, dtype=torch.float64)
    t = 1.0 + (0.2 - 1.0) * progress
    for i in range(2):
        end, steps, x = min(t + float(tau[i]), 0.999), int(10 * t + 1e-9), v.x[i : i + 1].detach()
        for k in range(steps):
            a, b = acp(prior, end * k / steps), acp(prior, end * (k + 1) / steps)
            e = cfg(prior, x, end * k / steps, v.text, i, -6.5)
            x = math.sqrt(b) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - b) * e
        kappa = (x - math.sqrt(b) * v.x[i : i + 1].detach()) / math.sqrt(1 - b)
        c = acp(prior, min(t, 0.999))
        x_t = math.sqrt(c) * v.x[i : i + 1].detach() + math.sqrt(1 - c) * kappa
        expected = math.sqrt(1 - c) * (cfg(prior, x_t, min(t, 0.999), v.text, i, 8.5) - kappa)
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("progress", [0.0, 0.31, 1.0])
def test_code_form(progress):
    """threestudio's loop, one image, integer times; acp of a negative time is that of step 0."""
    prior, g = mixture(), SDI(variant="code")
    v = view(prior, 1, progress=progress)
    d = g(v, g.init(prior))
    u = view(prior, 1, progress=progress)
    t = int(1000 * ((0.98 - 0.25) * (1 - progress) + 0.25))
    end = min(t + int(torch.rand(1, generator=u.rng, dtype=torch.float64).item() * 100), 999)
    times = [-99] + [k for k in range(1, 1000, 100) if k < t] + [end]
    x = v.x.detach()
    for a, b in zip(times[:-1], times[1:]):
        pa, pb = acp(prior, max(a, 0) / 1000), acp(prior, b / 1000)
        e = cfg(prior, x, a / 1000, v.text, 0, -6.5)
        x0 = (x - math.sqrt(1 - pa) * e) / math.sqrt(pa)
        variance = (1 - pa) / (1 - pb) * (1 - pb / pa)
        noise = torch.randn(x.shape, generator=u.rng, dtype=torch.float64)
        x = math.sqrt(pb) * x0 + math.sqrt(1 - pb) * e + 0.3 * math.sqrt(variance) * noise
    p = acp(prior, t / 1000)
    x0_hat = (x - math.sqrt(1 - p) * cfg(prior, x, t / 1000, v.text, 0, 8.5)) / math.sqrt(p)
    torch.testing.assert_close(d.grad, (v.x.detach() - x0_hat) / x0_hat.numel(), rtol=1e-8, atol=1e-10)


def test_inversion_converges_to_the_probability_flow_ode():
    """Twice the moves, about half the distance to the limit; and going back down the same way returns to x."""
    prior = mixture()
    v = replace(view(prior, 2), x=mixture().draw("ball", 2, torch.Generator().manual_seed(3)))  # where the flow is smooth
    t = torch.tensor([0.6, 0.6], dtype=torch.float64)
    ends = {n: invert(v, t, n, CFG(1.0)).x_t for n in (25, 50, 100, 1600)}
    errors = [float((ends[n] - ends[1600]).norm()) for n in (25, 50, 100)]
    assert errors[0] > 1.6 * errors[1] > 1.6 * 1.6 * errors[2] > 0
    x, steps = ends[1600], 1600
    for k in range(steps, 0, -1):
        here, there = t * (k / steps), t * ((k - 1) / steps)
        e = prior.eps(x, here, v.text.positive)
        (a0, s0), (a1, s1) = prior.schedule(here), prior.schedule(there)
        x = a1 * (x - s0 * e) / a0 + s1 * e
    assert float((x - v.x.detach()).abs().max()) < 0.02


def test_whole_batch_shares_one_time_that_falls_linearly():
    times = Times("linear", t_min=0.2, t_max=1.0)
    rng = torch.Generator().manual_seed(0)
    drawn = [times.draw(3, p, rng) for p in (0.0, 0.5, 1.0, 3.0)]
    assert all((d == d[0]).all() for d in drawn)
    assert [round(float(d[0]), 12) for d in drawn] == [1.0, 0.6, 0.2, 0.2]


def test_stochastic_inversion_keeps_the_marginal_distribution():
    """From the mixture's own samples, with the exact score, every eta ends at the mixture's law at t: same mean and
    variance of x_t, while the noise is fresh in part.
    """
    prior, many = mixture(), 3000
    x = prior.draw("ball", many, torch.Generator().manual_seed(0)).requires_grad_()
    text = Prompts("ball").conditions(prior, orbit([0.0]))
    text = replace(text, **{k: getattr(text, k).expand(many) for k in ("positive", "negative", "null", "plain")}, cameras=None)
    t, ends = torch.full((many,), 0.5, dtype=torch.float64), {}
    for eta in (0.0, 1.0):
        ends[eta] = invert(View(x, text, prior, torch.Generator().manual_seed(1)), t, 200, CFG(1.0), eta)
    alpha, sigma = prior.schedule(t[:1])
    true = alpha * x.detach() + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    for n in ends.values():
        torch.testing.assert_close(n.x_t.mean(0), true.mean(0), rtol=0, atol=0.12)
        torch.testing.assert_close(n.x_t.var(0), true.var(0), rtol=0.2, atol=0)

    def predictable(e):  # how much of the noise is a function of x: far-apart draws agree where it is
        again = invert(View(x, text, prior, torch.Generator().manual_seed(9)), t, 200, CFG(1.0), e)
        return float((again.eps * ends[e].eps).detach().mean() / ends[e].eps.detach().square().mean())

    assert predictable(0.0) > 0.999 and predictable(1.0) < 0.7


def test_the_code_form_asks_the_network_at_step_minus_99(tmp_path):
    from helpers import write_sd_folder

    from splatdistill.priors.stable import StableDiffusionPrior

    prior = StableDiffusionPrior.from_folder(write_sd_folder(tmp_path / "sd"), precision="float32")
    asked = []
    prior.unet.register_forward_pre_hook(lambda _, args: asked.append(args[1].tolist()))
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    text = Prompts("a red ball").conditions(prior, orbit([0.0]))
    SDI(variant="code")(View(x, text, prior, torch.Generator().manual_seed(0), progress=0.9), torch.nn.Module())
    assert asked == [[k, k] for k in (-99, 1, 101, 201, 301, 322)]  # 980 - 730 * 0.9 = 323, but for round-off in the code


def test_code_times_are_those_of_the_code_at_every_step():
    """threestudio's int(1000 * ((p_max - p_min) * (1 - step / N) + p_min)), which is the whole part of (980 N - 730 step) / N
    but for steps where that is whole, and round-off may take one off.
    """
    times, rng, n = SDI(variant="code").value("times"), torch.Generator(), 10_000
    off = set()
    for step in range(n + 1):
        drawn = float(times.draw(1, step / n, rng).float() * 1000)  # as a guidance of float32 latents sees it
        assert round(drawn) == int(1000 * ((0.98 - 0.25) * (1 - step / n) + 0.25))
        exact, rest = divmod(980 * n - 730 * step, n)
        if round(drawn) != exact:
            assert rest == 0 and round(drawn) == exact - 1
            off.add(step)
    assert off == {8000, 9000}
    assert [round(float(times.draw(1, p, rng)) * 1000) for p in (0.0, 0.8, 1.0, 3.0)] == [980, 395, 250, 250]


def test_the_recipe_on_stable_diffusion_has_the_scales_of_its_configuration():
    """sdi.yaml: Perp-Neg, here with its weight, 7.5 and -7.5, in threestudio's branch u + s [(c - u) + sum_i w_i perp(n_i - u, c - u)], written out."""
    config = parse_train(["--guidance", "sdi", "--prompt", "x", "--guidance.variant", "code", "--guidance.perp-weight", "1"], lambda source: "sd").config
    assert config.perp_neg == "on" and (config.guidance.scale, config.guidance.inversion_scale) == (7.5, -7.5)
    prior, progress = mixture(), 0.9
    w = torch.tensor([[-0.6, -1.3]], dtype=torch.float64)

    def seen():
        v = view(prior, 1, progress=progress)
        return replace(v, text=replace(v.text, perp=PerpNeg(prior.embed(["cube"]), v.text.null, w)))

    v, u = seen(), seen()
    d = config.guidance(v, torch.nn.Module())

    def guided(x, t, s):
        at = torch.tensor([t], dtype=torch.float64)
        pos, neg, *others = (prior.eps(x, at, c) for c in (v.text.positive, v.text.negative, *v.text.perp.others))
        e = pos - neg
        total = e
        for k, other in enumerate(others):
            a = other - neg
            total = total + w[0, k] * (a - (a * e).sum() / (e * e).sum().clamp(min=1e-6) * e)
        return neg + s * total

    t = int(1000 * ((0.98 - 0.25) * (1 - progress) + 0.25))
    end = t + int(torch.rand(1, generator=u.rng, dtype=torch.float64).item() * 100)
    times, x = [-99, *(k for k in range(1, 1000, 100) if k < t), end], v.x.detach()
    for a, b in zip(times[:-1], times[1:]):
        pa, pb = acp(prior, max(a, 0) / 1000), acp(prior, b / 1000)
        e = guided(x, a / 1000, -7.5)
        noise = torch.randn(x.shape, generator=u.rng, dtype=torch.float64)
        spread = 0.3 * math.sqrt((1 - pa) / (1 - pb) * (1 - pb / pa))
        x = math.sqrt(pb) * (x - math.sqrt(1 - pa) * e) / math.sqrt(pa) + math.sqrt(1 - pb) * e + spread * noise
    p = acp(prior, t / 1000)
    x0_hat = (x - math.sqrt(1 - p) * guided(x, t / 1000, 7.5)) / math.sqrt(p)
    torch.testing.assert_close(d.grad, (v.x.detach() - x0_hat) / x0_hat.numel(), rtol=1e-8, atol=1e-10)


def test_without_perp_neg_the_published_scales_are_one_more():
    """threestudio's other branch, c + s (c - u), is u + (s + 1) (c - u): the defaults of the class."""
    prior, v = mixture(), view(mixture(), 2)
    n = SDI()(v, torch.nn.Module()).noised
    pos, neg = (prior.eps(n.x_t, n.t, c) for c in (v.text.positive, v.text.negative))
    for cfg, published in ((SDI().cfg, 7.5), (SDI().inversion, -7.5)):
        got = cfg.combine(v, prior.answer(cfg.queries(v, n.x_t, n.t)))
        torch.testing.assert_close(got, pos + published * (pos - neg), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name, expected", [("sds", "off"), ("vsd", "off"), ("sjc", "off"), ("ism", "off"), ("csd", "on"), ("asd", "on")])
def test_recipes_have_perp_neg_where_the_configurations_that_they_cite_have_it(name, expected):
    assert parse_train(["--guidance", name, "--prompt", "x"], lambda source: "sd").config.perp_neg == expected
