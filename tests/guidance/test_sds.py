"""SDS against its formula and against the exact score of a mixture."""

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.guidance import SDS, Times


def test_formula():
    prior, v = mixture(), view(mixture(), 3)
    d = SDS(scale=7.5)(v, SDS().init(prior))
    t, eps = d.noised.t, d.noised.eps
    for i in range(3):
        acp = prior.schedule(t)[0][i].item() ** 2
        x_t = acp**0.5 * v.x[i : i + 1].detach() + (1 - acp) ** 0.5 * eps[i : i + 1]
        pos, neg = (prior.eps(x_t, t[i : i + 1], c[i : i + 1]) for c in (v.text.positive, v.text.negative))
        expected = (1 - acp) * (neg + 7.5 * (pos - neg) - eps[i : i + 1])
        torch.testing.assert_close(d.grad[i : i + 1], expected, rtol=1e-9, atol=1e-11)


def test_expectation_is_the_gradient_of_the_kl_divergence():
    """At scale 1 and fixed t, E[SDS] = w sigma grad_x E[-log p_t(alpha x + sigma eps)] / alpha."""
    prior, t, many = mixture(), 0.4, 20_000
    v = view(prior, 1)
    x = v.x.detach().expand(many, -1, -1, -1).clone().requires_grad_()
    rng = torch.Generator().manual_seed(1)
    eps = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    times = torch.full((many,), t, dtype=torch.float64)
    alpha, sigma = prior.schedule(times)
    text = v.text.positive.expand(many)
    (exact,) = torch.autograd.grad(-prior.log_prob(alpha * x + sigma * eps, times, text).mean(), x)
    exact = (sigma**2 * sigma / alpha)[0] * exact.sum(0)
    batch = view(prior, 1)
    guidance, total, square = SDS(scale=1.0, times=Times(t_min=t, t_max=t)), 0.0, 0.0
    for _ in range(40):
        wide = type(batch)(batch.x.detach().expand(500, -1, -1, -1), _wide(batch.text, 500), prior, rng, 0.0)
        g = guidance(wide, guidance.init(prior)).grad
        total, square = total + g.sum(0), square + (g**2).sum(0)
    mean = total / many
    error = ((square / many - mean**2) / many).sqrt()
    assert ((mean - exact).abs() < 6 * error + 1e-3 * exact.abs().max()).all()


def _wide(text, count):
    from dataclasses import replace

    return replace(text, **{k: getattr(text, k).expand(count) for k in ("positive", "negative", "null", "plain")}, cameras=None)


def test_code_variant_visits_every_integer_time_and_no_other():
    prior, guidance = mixture(), SDS(variant="code", times=Times(t_min=0.020, t_max=0.029))
    seen = set()
    for seed in range(60):
        v = view(prior, 3, seed=seed)
        seen |= {round(float(t) * 1000, 6) for t in guidance(v, guidance.init(prior)).noised.t}
    assert seen == {float(k) for k in range(20, 30)}


def test_annealed_upper_end():
    rng, times = torch.Generator().manual_seed(0), Times(t_max_end=0.5)
    late = times.draw(4000, 1.0, rng)
    assert late.max() <= 0.5 and late.max() > 0.49 and abs(late.mean() - 0.26) < 0.01


@pytest.mark.parametrize("views", [1, 2])
def test_reconstruction_with_its_contrast_taken_back(views):
    """x - x0' of MVDream's code: x0' = 0.5 x0 std(x0 under the prompt) / std(x0) + 0.5 x0, deviations over each set of views."""
    prior = mixture()
    prior.views = views
    d = SDS(scale=9.0, weight="sigma_alpha", recon_rescale=0.5)(v := view(prior, 4), torch.nn.Module())
    alpha, sigma = prior.schedule(d.noised.t)
    pos, neg = (prior.eps(d.noised.x_t.detach(), d.noised.t, e) for e in (v.text.positive, v.text.negative))
    guided, own = ((d.noised.x_t.detach() - sigma * e) / alpha for e in (neg + 9.0 * (pos - neg), pos))
    for k in range(0, 4, views):
        one, two = guided[k : k + views], own[k : k + views]
        wanted = 0.5 * one * two.std() / one.std() + 0.5 * one
        torch.testing.assert_close(d.grad[k : k + views], v.x[k : k + views].detach() - wanted, rtol=1e-8, atol=1e-9)
    plain = SDS(scale=9.0, weight="sigma_alpha")(view(prior, 4), torch.nn.Module())
    torch.testing.assert_close(plain.grad, v.x.detach() - guided, rtol=1e-8, atol=1e-9)
