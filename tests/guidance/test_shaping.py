"""Parts that all guidances share, against independent transcriptions: Perp-Neg, guidance rescale, clipping, normalising, mixing."""

import math
from dataclasses import dataclass, fields, replace
from typing import get_args, get_type_hints

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.errors import UserError
from splatdistill.guidance import ASD, CFG, CSD, GUIDANCES, ISM, NFSD, SDI, SDS, SSD, VSD, Guidance, Noised, Times
from splatdistill.guidance.shaping import Weight, perpendicular, rescaled, shaped, weight_of
from splatdistill.priors import PerpNeg


def test_perp_neg_formula():
    """threestudio's, image by image: u + s [(c - u) + sum_i w_i perp(n_i - u, c - u)]."""
    prior, v = mixture(), view(mixture(), 3)
    w = torch.tensor([[-0.3, -2.0], [0.0, -1.1], [-0.7, 0.0]], dtype=torch.float64)
    first, second = prior.embed([""] * 3), prior.embed(["cube", "", "ball"])
    v = replace(v, text=replace(v.text, perp=PerpNeg(first, second, w)))
    x, t = v.x.detach(), torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
    cfg = CFG(7.5, perp_weight=0.5)
    queries = cfg.queries(v, x, t)
    assert len(queries) == 4
    got = cfg.combine(v, prior.answer(queries))
    for i in range(3):
        c, u, n0, n1 = (prior.eps(x[i : i + 1], t[i : i + 1], e) for e in (v.text.positive[i : i + 1], v.text.negative[i : i + 1], first[i : i + 1], second[i : i + 1]))
        d = c - u
        total = d.clone()
        for k, n in enumerate((n0, n1)):
            a = n - u
            total += 0.5 * w[i, k] * (a - (a * d).sum() / max(float((d * d).sum()), 1e-6) * d)
        torch.testing.assert_close(got[i : i + 1], u + 7.5 * total, rtol=1e-9, atol=1e-11)


def test_the_words_of_the_view_can_pull_harder():
    """InstructPix2Pix's eq. 3 with the object as one condition and the view as the other: with weight a, the scale of
    the first is s, that of the second s (1 + a).
    """
    prior, v, s, a = mixture(), view(mixture(), 3), 7.5, 0.5
    v = replace(v, text=replace(v.text, plain=prior.embed(["cube", "ball", ""])))
    x, t = v.x.detach(), torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
    cfg = CFG(s, view_weight=a)
    got = cfg.combine(v, prior.answer(cfg.queries(v, x, t)))
    pos, plain, neg = (prior.eps(x, t, e) for e in (v.text.positive, v.text.plain, v.text.negative))
    torch.testing.assert_close(got, neg + s * (plain - neg) + s * (1 + a) * (pos - plain), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("perp", [False, True])
@pytest.mark.parametrize("name", GUIDANCES)
def test_every_guidance_listens_to_the_words_of_the_view(name, perp):
    """One more evaluation a view and guided question; nothing where the prompt has no such words, something where it has."""
    prior, few = mixture(), Times(t_min=0.5, t_max=0.5)

    def residual(weight, plain):
        v = view(prior, 2)
        text = replace(v.text, plain=plain(v.text), perp=PerpNeg(v.text.null, v.text.null, -torch.ones(2, 2, dtype=torch.float64)) if perp else None)
        guidance = GUIDANCES[name](scale=2.0, times=few, view_weight=weight)
        memory, prior.calls = guidance.init(prior), 0
        return guidance(replace(v, text=text), memory).residual, prior.calls

    (without, calls), (same, more), (other, _) = (
        residual(0.0, lambda text: text.positive),
        residual(0.7, lambda text: text.positive),
        residual(0.7, lambda text: text.null),
    )
    questions = {"jsd": 4, "dsd": 14 if perp else 9, "sdedit": 2 * 25}  # of two views: DSD's path is one for both where they have one text; SDEdit makes 25 moves
    assert more == calls + questions.get(name, 2)
    torch.testing.assert_close(same, without, rtol=1e-9, atol=1e-11)
    assert (other - without).norm() > 0.001 * without.norm()


def test_the_perpendicular_part_is_perpendicular_and_finite_without_a_direction():
    rng = torch.Generator().manual_seed(0)
    pos, neg, a, b = torch.randn(4, 5, 2, 3, 3, generator=rng, dtype=torch.float64)
    part = perpendicular(-torch.ones(5, 2, dtype=torch.float64), (a, b), pos, neg)
    along = (part * (pos - neg)).flatten(1).sum(1)
    assert part.norm() > 1 and along.abs().max() < 1e-12
    assert perpendicular(-torch.ones(5, 2, dtype=torch.float64), (a, b), neg, neg).isfinite().all()


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_perp_neg_is_in_an_inversion_only_where_asked_and_words_of_the_view_too(variant):
    """Two more evaluations a view and move; the official code has them with the weight of its guidance."""
    prior = mixture()
    v = view(prior, 2)
    v = replace(v, text=replace(v.text, perp=PerpNeg(prior.embed(["cube"] * 2), v.text.null, -torch.ones(2, 2, dtype=torch.float64))))
    v = replace(v, text=replace(v.text, plain=v.text.null))

    def asked(**fields):
        guidance, prior.calls = SDI(variant=variant, **fields), 0
        v.rng.manual_seed(5)
        return guidance(v, torch.nn.Module()), prior.calls / 2

    moves = (asked(perp_weight=0.0)[1] - 2) / 2
    plain, half, own = asked(), asked(perp_weight=0.5), asked(perp_weight=0.5, inversion_perp_weight=1.0)
    images = 4 if variant == "code" else 2
    assert [calls for _, calls in (plain, half, own)] == [images * moves + 4, images * moves + 4, 4 * moves + 4]
    assert torch.equal(plain[0].noised.x_t, half[0].noised.x_t) == (variant == "paper")
    assert torch.equal(plain[0].noised.x_t, own[0].noised.x_t) == (variant == "code")
    assert not torch.allclose(plain[0].grad, half[0].grad) and not torch.allclose(plain[0].grad, own[0].grad)
    words, inside = asked(view_weight=0.5), asked(view_weight=0.5, inversion_view_weight=0.5)
    assert (words[1], inside[1]) == (images * moves + 5, (images + 1) * moves + 5)
    assert torch.equal(plain[0].noised.x_t, words[0].noised.x_t) and not torch.allclose(words[0].noised.x_t, inside[0].noised.x_t)
    assert asked(inversion_perp_weight=0.0)[1] == 2 * moves + 4


@pytest.mark.parametrize("name", ["sds", "sdi", "csd"])
def test_each_views_negatives_are_asked_at_its_own_latents(name):
    """threestudio asks the negatives in turns and tiles the latents: with three views, at those of other views (issue 456)."""
    prior, g = mixture(), GUIDANCES[name](times=Times(t_min=0.5, t_max=0.5))
    v = view(prior, 3)
    first, second = prior.embed(["cube", "", "ball"]), prior.embed(["", "ball", "cube"])
    weights = torch.tensor([[-0.3, -2.0], [-1.0, -1.1], [-0.7, -0.4]], dtype=torch.float64)
    v = replace(v, text=replace(v.text, perp=PerpNeg(first, second, weights)))
    together = g(v, g.init(prior))
    queries = g.ask(v, together.noised, torch.nn.Module())
    assert all(torch.equal(q.x_t, together.noised.x_t) and torch.equal(q.t, together.noised.t) for q in queries)
    negatives = [q.condition.tokens for q in queries]
    assert any(torch.equal(first.tokens, t) for t in negatives) and any(torch.equal(second.tokens, t) for t in negatives)
    for i in range(3):
        at = slice(i, i + 1)
        alone = {k: getattr(v.text, k)[at] for k in ("positive", "negative", "null", "plain")}
        text = replace(v.text, **alone, cameras=None, texts=(), perp=PerpNeg(first[at], second[at], weights[at]))
        own = replace(v, x=v.x[at], text=text)
        n = Noised(together.noised.x_t[at], together.noised.t[at], together.noised.eps[at])
        residual = g.residual(own, n, prior.answer(g.ask(own, n, torch.nn.Module())), torch.nn.Module())
        torch.testing.assert_close(residual, together.residual[at], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_guidance_rescale(phi):
    """arXiv:2305.08891, eq. 15 and 16, image by image; at phi 1 the contrast is that of the prompt alone."""
    prior, v = mixture(), view(mixture(), 3)
    base = SDS(scale=30.0, times=Times(t_min=0.6, t_max=0.6))
    plain, got = (replace(base, rescale=r)(view(prior, 3), torch.nn.Module()) for r in (0.0, phi))
    for i in range(3):
        pos = prior.eps(got.noised.x_t[i : i + 1], got.noised.t[i : i + 1], v.text.positive[i : i + 1]).numpy()
        cfg = plain.eps_hat[i : i + 1].numpy()
        expected = phi * (cfg * pos.std() / cfg.std()) + (1 - phi) * cfg
        torch.testing.assert_close(got.eps_hat[i : i + 1], torch.from_numpy(expected), rtol=1e-9, atol=1e-11)
        if phi == 1:
            assert abs(float(got.eps_hat[i].std(correction=0)) / pos.std() - 1) < 1e-9
    assert torch.equal(rescaled(plain.eps_hat, plain.eps_hat, 1.0), plain.eps_hat)


def test_clipping_comes_before_normalising_and_the_raw_gradient_stays():
    prior = mixture()
    free = SDS()(view(prior, 3), torch.nn.Module())
    limit = float(free.grad.abs().median())
    clipped = SDS(grad_clip=limit)(view(prior, 3), torch.nn.Module())
    assert torch.equal(clipped.raw, free.grad) and torch.equal(clipped.grad, free.grad.clamp(-limit, limit))
    both = SDS(grad_clip=limit, normalise=True)(view(prior, 3), torch.nn.Module())
    torch.testing.assert_close(both.grad, clipped.grad / (clipped.grad.square().sum().sqrt() + 1e-8), rtol=1e-12, atol=0)
    assert abs(float(both.grad.norm()) - 1) < 1e-6  # of the whole batch
    assert shaped(torch.zeros(2, 3), None, True).isfinite().all()
    nan = torch.tensor([[float("nan"), 1.0]])
    assert shaped(nan, 0.5, False).isnan().any()  # what is not finite is for the trainer to refuse, not to hide


@dataclass(frozen=True)
class Averaged(SDS):
    """All views move alike."""

    def mix(self, view, n, residual, memory):
        return residual.mean(0, keepdim=True).expand_as(residual)


def test_mixing_comes_between_the_residual_and_its_weight():
    prior = mixture()
    own, mixed = (kind(weight="sigma2")(view(prior, 3), torch.nn.Module()) for kind in (SDS, Averaged))
    assert torch.equal(own.residual, mixed.residual)
    sigma = prior.schedule(mixed.noised.t)[1]
    torch.testing.assert_close(mixed.grad, sigma**2 * own.residual.mean(0, keepdim=True), rtol=1e-12, atol=1e-14)
    assert issubclass(Averaged, Guidance)


@pytest.mark.parametrize("progress, limit", [(0.0, 1.5), (0.25, 1.75), (0.5, 2.0), (0.9, 2.0)])
def test_clipping_may_be_annealed(progress, limit):
    """threestudio's grad_clip [0, 1.5, 2.0, s] in a run of 2 s steps."""
    prior = mixture()
    v = view(prior, 3, progress=progress)
    annealed = SDS(scale=100.0, grad_clip=1.5, grad_clip_end=2.0, grad_clip_until=0.5)(v, torch.nn.Module())
    assert annealed.raw.abs().max() > 2 and float(annealed.grad.abs().max()) == pytest.approx(limit)
    torch.testing.assert_close(annealed.grad, annealed.raw.clamp(-limit, limit))


def test_an_annealed_clipping_has_a_start():
    with pytest.raises(UserError, match="grad-clip-end needs a grad-clip at the start, got 2.0"):
        SDS(grad_clip_end=2.0)


@pytest.mark.parametrize("name, value", [("rescale", 1.5), ("rescale", -0.1), ("grad_clip", 0.0)])
@pytest.mark.parametrize("cls", GUIDANCES.values())
def test_numbers_that_make_no_sense_are_refused(cls, name, value):
    if name in {f.name for f in fields(cls)}:
        with pytest.raises(UserError, match=name.replace("_", "-")):
            cls(**{name: value})


@pytest.mark.parametrize("cls", GUIDANCES.values())
def test_every_number_of_every_method_must_be_finite(cls):
    names = [n for n, hint in get_type_hints(cls).items() if hint in (float, float | None, tuple[float, float])]
    assert {"scale", "grad_clip"} <= set(names)
    for name in names:
        for bad in (math.nan, math.inf, -math.inf):
            with pytest.raises(UserError, match=name.replace("_", "-")):
                cls(**{name: (0.0, bad) if isinstance(getattr(cls(), name), tuple) else bad})


@pytest.mark.parametrize(
    "cls, wrong",
    [
        (SDI, {"inversion_steps": 0}),
        (SDI, {"inversion_steps": -5}),
        (SDI, {"jitter": -0.1}),
        (SDI, {"eta": 1.5}),
        (SDI, {"times": Times("linear", t_min=None, t_max=0.1)}),
        (ISM, {"stride": -1.0}),
        (ISM, {"interval": -0.1}),
        (ISM, {"interval_first": 2.0}),
        (ISM, {"begin": -0.1}),
        (NFSD, {"threshold": 1.2}),
        (ASD, {"eta": -0.1}),
        (CSD, {"until": 0.0}),
        (VSD, {"rank": 0}),
        (VSD, {"adapter_rate": -1e-4}),
        (VSD, {"adapter_steps": -1}),
        (VSD, {"camera_dropout": 1.1}),
        (SSD, {"decay": 1.0}),
    ],
)
def test_each_method_refuses_what_it_could_not_live_with(cls, wrong):
    with pytest.raises(UserError, match=f"--{next(iter(wrong)).replace('_', '-')}") as refused:
        cls(**wrong)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError):
        replace(cls(), **wrong)


@pytest.mark.parametrize("cls", [CSD, NFSD])
def test_rescale_is_no_option_where_nothing_is_guided(cls):
    assert "rescale" not in {f.name for f in fields(cls)} and "rescale" in {f.name for f in fields(SDS)}


def test_weights_by_their_formulas():
    """In terms of acp = alphas_cumprod; threestudio's unified guidance has 1 - sqrt(acp) under the name "dreamfusion"."""
    acp = torch.tensor([0.9, 0.5, 0.01], dtype=torch.float64)
    expected = {
        "sigma2": 1 - acp,
        "sigma": (1 - acp).sqrt(),
        "sigma_alpha": ((1 - acp) / acp).sqrt(),
        "alpha_sigma2": acp.sqrt() * (1 - acp),
        "one_minus_alpha": 1 - acp.sqrt(),
        "inverse_alpha": acp.rsqrt(),
        "one": torch.ones(3, dtype=torch.float64),
    }
    assert set(expected) == set(get_args(Weight))
    for kind, w in expected.items():
        torch.testing.assert_close(weight_of(kind, acp.sqrt(), (1 - acp).sqrt()), w, rtol=1e-12, atol=1e-14)
