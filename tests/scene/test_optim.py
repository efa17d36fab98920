"""The optimizer of splats: one rate per parameter, an exponential schedule, a state that survives saving."""

from dataclasses import replace

import pytest
import torch

from splatdistill.errors import UserError
from splatdistill.scene import optim
from splatdistill.scene.initial import Ball
from splatdistill.scene.optim import LearningRates
from splatdistill.scene.splats import PARAMETERS, Splats

RATES = LearningRates(means=0.1, means_end=0.001, quats=0.2, scales=0.3, opacities=0.4, colours=0.5, sh_rest=0.6)


def splats(count: int = 12, degree: int = 1) -> Splats:
    start = Ball(count=count, colour="random").make(torch.Generator().manual_seed(1))
    return Splats.from_gaussians(start.with_degree(degree))


def step(scene: Splats, optimizer: torch.optim.Optimizer, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for p in scene.parameters():
        p.grad = torch.randn(p.shape, generator=rng)
    optimizer.step()


def test_first_step_moves_each_parameter_by_its_rate() -> None:
    scene = splats()
    before = {n: p.detach().clone() for n, p in scene.named_parameters()}
    optimizer = RATES.optimizer(scene)
    RATES.apply(optimizer, 0.5)
    step(scene, optimizer, 0)  # Adam's first step is the rate times the gradient's sign
    expected = dict(zip(PARAMETERS, (0.01, 0.2, 0.3, 0.4, 0.5, 0.6)))
    for name, p in scene.named_parameters():
        moved = (p - before[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, expected[name]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("progress", "rate"), [(0.0, 0.1), (0.5, 0.01), (1.0, 0.001)])
def test_means_decay_exponentially(progress: float, rate: float) -> None:
    assert RATES.at("means", progress) == pytest.approx(rate)
    assert RATES.at("logits", progress) == 0.4


@pytest.mark.parametrize(("progress", "rate"), [(0.0, 0.1), (0.1, 0.01), (0.2, 0.001), (0.7, 0.001), (1.0, 0.001)])
def test_means_may_have_decayed_early(progress: float, rate: float) -> None:
    early = replace(RATES, means_until=0.2)
    assert early.at("means", progress) == pytest.approx(rate)
    assert replace(early, tuned_for_steps=300).over(600).means_until == 0.2


@pytest.mark.parametrize("until", [0.0, -0.1, 1.5])
def test_means_decay_within_the_run(until: float) -> None:
    with pytest.raises(UserError, match="means-until"):
        LearningRates(means_until=until)


@pytest.mark.parametrize(("meant", "steps", "factor"), [(0, 900, 1), (300, 300, 1), (300, 40, 1), (300, 1200, 0.25), (300, 450.0, 2 / 3)])
def test_a_run_longer_than_they_are_meant_for_has_slower_rates(meant: int, steps: float, factor: float) -> None:
    long = replace(RATES, tuned_for_steps=meant).over(steps)
    for name in PARAMETERS:
        for progress in (0.0, 0.3, 1.0):
            assert long.at(name, progress) == pytest.approx(factor * RATES.at(name, progress), rel=1e-12)


def test_tiny_gradients_still_move_a_splat() -> None:
    scene = splats()
    optimizer = RATES.optimizer(scene)
    before = scene.means.detach().clone()
    for p in scene.parameters():
        p.grad = torch.full_like(p, 1e-12)
    optimizer.step()
    assert ((scene.means - before).abs() > 0.09).all()


@pytest.mark.parametrize("degree", [0, 1])
def test_state_survives_saving(degree: int) -> None:
    scene = splats(degree=degree)
    optimizer = RATES.optimizer(scene)
    for i in range(3):
        step(scene, optimizer, i)
    saved = {k: v.clone() for k, v in optim.tensors(optimizer).items()}
    twin = Splats({n: p.detach() for n, p in scene.named_parameters()})
    twin_optimizer = RATES.optimizer(twin)
    optim.load(twin_optimizer, saved)
    for i in range(3, 6):
        step(scene, optimizer, i)
        step(twin, twin_optimizer, i)
    for a, b in zip(scene.parameters(), twin.parameters()):
        assert torch.equal(a, b)


def test_state_of_another_count_is_refused() -> None:
    scene, other = splats(12), splats(13)
    optimizer = RATES.optimizer(scene)
    step(scene, optimizer, 0)
    with pytest.raises(ValueError, match="shape"):
        optim.load(RATES.optimizer(other), optim.tensors(optimizer))


def test_nothing_is_saved_before_the_first_step_and_loading_nothing_forgets() -> None:
    scene = splats()
    optimizer = RATES.optimizer(scene)
    assert optim.tensors(optimizer) == {}
    step(scene, optimizer, 0)
    optim.load(optimizer, {})
    assert optim.tensors(optimizer) == {}


@pytest.mark.parametrize("fused", [True, False])
def test_one_kernel_or_many_a_saved_state_goes_on_bit_for_bit(fused: bool) -> None:
    """The fused form, which CUDA takes by default, runs on a CPU too; it wants its count of steps where the parameter is."""
    whole, scene = splats(), splats()
    steps = [RATES.optimizer(whole, fused=fused), RATES.optimizer(scene, fused=fused)]
    for seed in range(3):
        step(whole, steps[0], seed)
    for seed in range(2):
        step(scene, steps[1], seed)
    saved = {k: v.clone() for k, v in optim.tensors(steps[1]).items()}
    resumed = Splats.from_gaussians(scene.gaussians().detach())
    for name in PARAMETERS:
        getattr(resumed, name).data.copy_(getattr(scene, name))
    again = RATES.optimizer(resumed, fused=fused)
    optim.load(again, saved)
    step(resumed, again, 2)
    assert all(torch.equal(getattr(resumed, n), getattr(whole, n)) for n in PARAMETERS)
    assert all(bool(g["fused"]) is fused for g in again.param_groups) and saved["means.step"] == 2


def test_the_fused_form_moves_as_the_other_does_and_is_asked_for_on_cuda_only() -> None:
    pair = splats(), splats()
    for scene, fused in zip(pair, (True, False)):
        optimizer = RATES.optimizer(scene, fused=fused)
        for seed in range(3):
            step(scene, optimizer, seed)
    for name in PARAMETERS:
        torch.testing.assert_close(getattr(pair[0], name), getattr(pair[1], name), rtol=1e-5, atol=1e-6)
    assert optim.fuses(*pair[0].parameters()) is None
    assert not RATES.optimizer(pair[0]).param_groups[0]["fused"]


def test_what_is_remembered_is_where_its_form_expects_it() -> None:
    p = torch.nn.Parameter(torch.zeros(2, device="meta"))
    saved = {"step": torch.ones(()), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    assert {k: v.device.type for k, v in optim.remembered(saved, p, fused=True).items()} == dict.fromkeys(saved, "meta")
    assert {k: v.device.type for k, v in optim.remembered(saved, p, fused=False).items()} == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
