"""Duties of every guidance, by any method; a new one inherits these tests by being listed."""

from dataclasses import replace

import pytest
import torch
from helpers import write_sd_folder
from methods import forms, made
from safetensors.torch import load, save

from guidance.worlds import mixture, view
from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES, Guidance, Times, View
from splatdistill.priors import PerpNeg
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior


def midway(cls: type[Guidance], variant: str) -> Guidance:
    """Return a guidance at t = 0.6, where every component of the mixture counts; SDI at its own time."""
    guidance = made(cls, variant)
    own = guidance.times.schedule != "uniform" and not (guidance.times.t_max and guidance.times.t_max < 0.5)
    return guidance if own else replace(guidance, times=Times(t_min=0.6, t_max=0.6))


ALL = [pytest.param(cls, v, id=f"{name}-{v}") for name, cls in GUIDANCES.items() for v in forms(cls)]
MIXING = ("Collaborative",)  # methods in which views act on each other


@pytest.mark.parametrize("cls, variant", ALL)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_loss_has_the_gradient_it_reports(cls, variant, batch):
    prior, guidance = mixture(), made(cls, variant)
    v = view(prior, batch)
    d = guidance(v, guidance.init(prior))
    (grad,) = torch.autograd.grad(d.loss, v.x)
    assert d.grad.shape == v.x.shape and d.grad.isfinite().all() and d.grad.abs().max() > 0
    torch.testing.assert_close(grad, d.grad / batch, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls, variant", ALL)
def test_same_seed_same_gradient_other_seed_other_gradient(cls, variant):
    prior, guidance = mixture(), made(cls, variant)
    first, again = (guidance(view(prior, 2), guidance.init(prior)) for _ in range(2))
    assert torch.equal(first.grad, again.grad)
    v = view(prior, 2)
    v.rng.manual_seed(99)
    assert not torch.equal(first.grad, guidance(v, guidance.init(prior)).grad)


@pytest.mark.parametrize("cls, variant", ALL)
def test_noised_latents_are_consistent(cls, variant):
    prior, guidance = mixture(), made(cls, variant)
    v = view(prior, 3)
    n = guidance(v, guidance.init(prior)).noised
    alpha, sigma = prior.schedule(n.t)
    torch.testing.assert_close(n.x_t, (alpha * v.x + sigma * n.eps).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cls, variant", ALL)
@pytest.mark.parametrize("progress", [0.0, 1.0, 1.7])
def test_times_stay_in_range_to_the_end_and_beyond(cls, variant, progress):
    prior, guidance = mixture(), made(cls, variant)
    d = guidance(view(prior, 2, progress=progress), guidance.init(prior))
    assert d.grad.isfinite().all()
    times = guidance.value("times")
    low, high = times.ends(progress) if times.schedule == "uniform" else times.begin()
    slack = 0.001 if variant == "code" else 1e-9  # whole steps
    assert (d.noised.t >= low - slack).all() and (d.noised.t <= min(high, 0.999) + slack).all()


@pytest.mark.parametrize("cls, variant", ALL)
def test_views_act_on_each_other_only_where_they_are_said_to(cls, variant):
    prior, guidance = mixture(), midway(cls, variant)
    one = guidance(view(prior, 3), guidance.init(prior))
    v = view(prior, 3)
    with torch.no_grad():
        v.x[2] += 5.0
    other = guidance(v, guidance.init(prior))
    torch.testing.assert_close(one.residual[:2], other.residual[:2], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(one.residual[2], other.residual[2])
    assert torch.allclose(one.raw[:2], other.raw[:2], rtol=1e-12, atol=1e-14) == (cls.__name__ not in MIXING)


@pytest.mark.parametrize("cls, variant", ALL)
@pytest.mark.parametrize("shaping", [{}, {"grad_clip": 0.05, "normalise": True}], ids=["free", "shaped"])
def test_the_loss_towards_the_target_has_the_reported_gradient_where_it_began(cls, variant, shaping):
    """And less of it at the target's side, none at the target."""
    prior, guidance = mixture(), made(cls, variant, **shaping)
    v = view(prior, 3)
    d = guidance(v, guidance.init(prior))
    x = v.x.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(d.loss_at(x), x)
    torch.testing.assert_close(grad, d.grad / 3, rtol=1e-9, atol=1e-13 + 1e-11 * float(d.grad.abs().max()))
    half = ((x + d.target) / 2).detach().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(d.loss_at(half), half)[0], d.grad / 6, rtol=1e-9, atol=1e-10 * float(d.grad.abs().max()))


@pytest.mark.parametrize("cls, variant", ALL)
def test_a_target_is_the_priors_estimate_of_the_clean_latents_or_there_is_none(cls, variant):
    prior, guidance = mixture(), made(cls, variant)
    v = view(prior, 1)  # alone, so that nothing is mixed
    d = guidance(v, guidance.init(prior))
    alpha, sigma = prior.schedule(d.noised.t)
    estimate = (d.noised.x_t - sigma * d.eps_hat) / alpha
    has = torch.allclose(d.target, estimate, rtol=1e-8, atol=1e-9)
    if cls.__name__ in ("JSD", "SDEdit"):  # a mean of two estimates, the end of several moves; test_jsd.py and test_sdedit.py have them
        return
    assert has == (guidance.targetless() == "") == ((cls.__name__, variant) != ("SSD", "paper") and cls.__name__ in ("SDS", "SDI", "SJC", "SSD", "Collaborative", "CFD"))


def test_methods_that_may_have_a_target_say_when_they_have_none():
    assert "noise stays" in GUIDANCES["sjc"](variance_reduction=False).targetless()
    assert "direction" in GUIDANCES["collaborative"](base_residual="csd").targetless()


EVALUATIONS = {  # network evaluations per view, and the batched calls they are made in
    ("sds", "paper"): (2, 1),
    ("sds", "code"): (2, 1),
    ("sdi", "paper"): (2 * 7 + 2, 8),  # at progress 0.3, t = 0.76: int(10 t) = 7 moves
    ("sdi", "code"): (2 * 9 + 2, 10),  # t = 0.761: -99, 1, ..., 701 are 9 moves
    ("sjc", "paper"): (2, 1),
    ("sjc", "code"): (2, 1),
    ("csd", "paper"): (2, 1),  # the negative prompt has no weight
    ("csd", "code"): (2, 1),
    ("nfsd", "paper"): (3, 1),
    ("ism", "paper"): (3 + 1 + 2, 5),  # t = 0.6, s = 0.506: three moves of 0.2 at most
    ("ism", "code"): (3 + 1 + 2, 5),
    ("asd", "paper"): (3, 1),
    ("asd", "code"): (3, 1),
    ("vsd", "paper"): (3, 1),
    ("vsd", "code"): (3, 1),
    ("ssd", "ours"): (2, 1),
    ("ssd", "paper"): (2, 1),
    ("collaborative", "paper"): (2, 1),
    ("collaborative", "code"): (2, 1),
    ("cfd", "paper"): (2, 1),
    ("dsd", "paper"): (2 + 3 + 4, 4 + 2),  # first the path of the one text, four guided moves down to t+ = 0.63 or so
    ("dsd", "code"): (2 + 3 + 4, 4 + 2),
    ("jsd", "paper"): (2 * 7 + 4, 9),  # SDI's, and a pair
    ("jsd", "code"): (2 * 9 + 4, 11),
    ("sdedit", "paper"): (2 * 30, 30),  # int(50 t) moves
}


@pytest.mark.parametrize("cls, variant", ALL)
def test_network_evaluations_are_pinned_and_share_their_batches(cls, variant, monkeypatch):
    name = next(n for n, c in GUIDANCES.items() if c is cls)
    prior, guidance = mixture(), midway(cls, variant)
    calls, answer = [], prior.answer
    monkeypatch.setattr(prior, "answer", lambda queries: calls.append(len(queries)) or answer(queries))
    memory = guidance.init(prior)
    prior.calls = 0
    guidance(view(prior, 2), memory)
    assert (prior.calls / 2, len(calls)) == EVALUATIONS[name, variant]


@pytest.mark.parametrize("cls, variant", ALL)
def test_views_that_a_prior_sees_together_share_their_time_and_not_their_noise(cls, variant):
    """Sets of two in a batch of four; a batch that is no whole number of sets is refused."""
    prior, guidance = mixture(), made(cls, variant)
    prior.views = 2
    n = guidance(view(prior, 4), guidance.init(prior)).noised
    assert torch.equal(n.t[0::2], n.t[1::2]) and n.eps.flatten(1).unique(dim=0).shape[0] == 4
    if guidance.value("times").schedule == "uniform" and not guidance.value("times").shared:
        assert n.t[0] != n.t[2]
    with pytest.raises(UserError, match="2 views of one object at a time; expected a multiple of that, got 3"):
        guidance(view(prior, 3), guidance.init(prior))


def test_scale_one_asks_half():
    prior, guidance = mixture(), GUIDANCES["sds"](scale=1.0)
    prior.calls = 0
    guidance(view(prior, 2), guidance.init(prior))
    assert prior.calls == 2


@pytest.mark.parametrize("cls, variant", ALL)
def test_what_is_remembered_survives_a_checkpoint(cls, variant):
    prior, guidance = mixture(), made(cls, variant)
    memory = guidance.init(prior)
    for seed in range(3):
        v = view(prior, 2, seed=seed)
        guidance(v, memory)
        guidance.learn(v, memory)
    again = guidance.init(prior)
    again.load_state_dict(load(save({k: t.contiguous() for k, t in memory.state_dict().items()})))
    one, two = (guidance(view(prior, 2, seed=9), m) for m in (memory, again))
    assert torch.equal(one.grad, two.grad)
    for m in (memory, again):
        guidance.learn(view(prior, 2, seed=10), m)
    one, two = (guidance(view(prior, 2, seed=11), m) for m in (memory, again))
    assert torch.equal(one.grad, two.grad)


@pytest.mark.parametrize("cls, variant", ALL)
def test_perp_neg_reaches_every_method_and_weights_of_zero_change_nothing(cls, variant):
    prior, guidance = mixture(), midway(cls, variant)

    def run(weight: float | None) -> torch.Tensor:
        v = view(prior, 2, prompts=Prompts("ball"))
        if weight is not None:
            v = replace(v, text=replace(v.text, perp=PerpNeg(prior.embed(["cube"] * 2), v.text.null, torch.full((2, 2), weight, dtype=torch.float64))))
        return guidance(v, guidance.init(prior)).grad

    without = run(None)
    torch.testing.assert_close(run(0.0), without, rtol=1e-8, atol=1e-10)
    assert (run(-1.0) - without).norm() > 1e-3 * without.norm()


class PredictsV(StableDiffusionPrior):
    """Same network, made to predict v = (eps - sigma x_t) / alpha."""

    def predict(self, x_t, t, condition, unet):
        alpha, sigma = self.schedule(t)
        return (super().predict(x_t, t, condition, unet) - sigma * x_t) / alpha


@pytest.fixture(scope="module")
def eps_and_v(tmp_path_factory) -> tuple[StableDiffusionPrior, StableDiffusionPrior]:
    folder = write_sd_folder(tmp_path_factory.mktemp("sd"))
    pair = tuple(kind.from_folder(folder, precision="float64") for kind in (StableDiffusionPrior, PredictsV))
    pair[1].prediction = "v_prediction"
    return pair


@pytest.mark.parametrize("cls, variant", ALL)
def test_networks_that_predict_eps_and_v_give_one_gradient(cls, variant, eps_and_v):
    guidance, grads = made(cls, variant), []
    for prior in eps_and_v:
        rng = torch.Generator().manual_seed(0)
        x = torch.randn(2, 4, 8, 8, generator=rng, dtype=torch.float64).requires_grad_()
        text = Prompts("a red ball", "blue").conditions(prior, orbit([0.0, 100.0]))
        v = View(x, text, prior, rng, progress=0.6)
        grads.append(guidance(v, guidance.init(prior)).grad)  # what is learned differs: the loss is that of the prediction
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-7, atol=1e-9)
