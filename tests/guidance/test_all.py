"""What every guidance owes, whatever its method; a new one inherits these tests by being listed."""

import pytest
import torch

from splatdistill.guidance import GUIDANCES
from guidance.worlds import mixture, view


def variants(cls):
    """The forms of a method: an official code's too, where there is one."""
    return ("paper", "code") if "variant" in cls.__dataclass_fields__ else ("paper",)


def made(cls, variant):
    """A guidance with its defaults."""
    return cls(variant=variant) if "variant" in cls.__dataclass_fields__ else cls()


ALL = [pytest.param(cls, variant, id=f"{name}-{variant}") for name, cls in GUIDANCES.items() for variant in variants(cls)]


@pytest.mark.parametrize("cls, variant", ALL)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_loss_has_the_gradient_it_reports(cls, variant, batch):
    prior, guidance = mixture(), made(cls, variant)
    v = view(prior, batch)
    d = guidance(v, guidance.init(prior))
    (grad,) = torch.autograd.grad(d.loss, v.x)
    assert d.grad.shape == v.x.shape and d.grad.abs().max() > 0
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
    if cls.__name__ == "SDI" and variant == "code":
        assert n.x_t.isfinite().all()  # the code gives x at t' to the network as if at t, on purpose
    else:
        alpha, sigma = prior.schedule(n.t)
        torch.testing.assert_close(n.x_t, (alpha * v.x + sigma * n.eps).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cls, variant", ALL)
@pytest.mark.parametrize("progress", [0.0, 1.0, 1.7])
def test_times_stay_in_range_to_the_end_and_beyond(cls, variant, progress):
    prior, guidance = mixture(), made(cls, variant)
    d = guidance(view(prior, 2, progress=progress), guidance.init(prior))
    assert d.grad.isfinite().all()
    assert (d.noised.t >= guidance.times.low - 1e-9).all() and (d.noised.t <= min(guidance.times.high, 0.999) + 1e-9).all()


@pytest.mark.parametrize("cls, variant", ALL)
def test_no_view_of_a_batch_depends_on_another(cls, variant):
    prior, guidance = mixture(), made(cls, variant)
    one = guidance(view(prior, 3), guidance.init(prior)).grad
    v = view(prior, 3)
    with torch.no_grad():
        v.x[2] += 5.0
    other = guidance(v, guidance.init(prior)).grad
    torch.testing.assert_close(one[:2], other[:2], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(one[2], other[2], rtol=1e-6, atol=0)


PINNED = {("sds", "paper"): 2, ("sds", "code"): 2, ("sdi", "paper"): 2 * 7 + 2, ("sdi", "code"): 2 * 9 + 2, ("ssd", "paper"): 2}


@pytest.mark.parametrize("name, variant", list(PINNED))
def test_network_evaluations_per_view_are_pinned(name, variant):
    """SDI at progress 0.3: paper t = 0.76, int(10 t) = 7 moves; code t = 0.761: -99, 1, ..., 701 are 9 moves."""
    prior, guidance = mixture(), made(GUIDANCES[name], variant)
    prior.calls = 0
    guidance(view(prior, 2), guidance.init(prior))
    assert prior.calls / 2 == PINNED[name, variant]


def test_scale_one_asks_half():
    prior, guidance = mixture(), GUIDANCES["sds"](scale=1.0)
    prior.calls = 0
    guidance(view(prior, 2), guidance.init(prior))
    assert prior.calls == 2
