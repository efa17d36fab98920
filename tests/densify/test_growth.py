"""Densification by gradients: the statistic, who grows, what is conserved, what is removed."""

import math
from dataclasses import replace

import pytest
import torch
from scenes import moments, push, scene, used

from splatdistill.cameras import orbit
from splatdistill.densify import CountChange, Fixed, Gradient
from splatdistill.densify.gradient import SHRINK, GradientState, halves
from splatdistill.gaussians import rotation_matrices
from splatdistill.render import Screen
from splatdistill.render.reference import reference_rasterizer
from splatdistill.scene.splats import PARAMETERS, Splats

ALWAYS = Gradient(every=1, since=0.0, until=1.0, prune_opacity=0.0, prune_scale=None)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(gradient: torch.Tensor, visible: torch.Tensor) -> Screen:
    """Return a screen after its backward pass. gradient (b,n,2) in 1/pixel, visible (b,n)."""
    means = torch.zeros_like(gradient).requires_grad_()
    means.grad = gradient.clone()
    return Screen(means, visible.int() * 5)


def with_statistic(values: torch.Tensor) -> GradientState:
    return GradientState(values.clone(), torch.ones(len(values)))


def update(d: Gradient | Fixed, state, s: Splats, optimizer, seed: int = 0, most: int = 1000, step: int = 1) -> CountChange:
    return d.update(state, s, optimizer, step, 0.5, rng(seed), most)


def test_statistic_counts_every_view_in_which_a_gaussian_is_visible() -> None:
    gradient = torch.zeros(4, 3, 2)
    gradient[2, 0] = torch.tensor([3.0, 4.0])  # Gaussian 0 is visible in one view only, and not in the last
    gradient[:, 1] = torch.tensor([[1.0, 0], [-1.0, 0], [1.0, 0], [-1.0, 0]])  # opposite pulls do not cancel
    gradient[:, 2] = 7.0  # never visible: whatever stands there is noise
    visible = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]).bool()
    state = ALWAYS.init(3)
    ALWAYS.observe(state, seen(gradient, visible), 64, 32)
    assert state.views.tolist() == [1, 4, 0]
    expected = [math.hypot(3 * 32, 4 * 16), 32.0, 0.0]
    torch.testing.assert_close(state.mean, torch.tensor(expected))
    ALWAYS.observe(state, seen(torch.zeros(4, 3, 2), visible), 64, 32)
    torch.testing.assert_close(state.mean, torch.tensor(expected) / 2)


def test_statistic_does_not_depend_on_resolution() -> None:
    """The same loss on more pixels gives the same statistic; as the mean over twice the views, half of it."""
    s, results = scene(8, degree=0, dtype=torch.float64), []
    with torch.no_grad():
        s.log_scales.add_(1)  # large, since small ones are blurred by the pixels
    for size, azimuths in ((32, [0.0, 90.0]), (48, [0.0, 90.0]), (32, [0.0, 90.0, 0.0, 90.0])):
        cameras = orbit(azimuths, 10.0, width=size).to(dtype=torch.float64)
        out = reference_rasterizer()(s.gaussians(), cameras)
        out.rgb.square().mean().backward()
        state = ALWAYS.init(8)
        ALWAYS.observe(state, out.screen, size, size)
        results.append(state.mean)
    ratio = results[1] / results[0]  # single ones differ a little, by where the pixels lie
    assert 0.85 < ratio.median() < 1.2 and (ratio > 0.75).all() and (ratio < 1.3).all()
    torch.testing.assert_close(results[2], results[0] / 2, rtol=1e-5, atol=1e-9)
    assert (results[0] > 0).all()


def test_statistic_does_not_depend_on_how_a_step_is_divided_into_batches() -> None:
    """Four views in one batch, or two accumulated batches of two whose losses are halved."""
    s, states = scene(8, degree=0, dtype=torch.float64), []
    azimuths = [0.0, 90.0, 180.0, 270.0]
    for batches in (1, 2):
        state = ALWAYS.init(8)
        for part in range(batches):
            cameras = orbit(azimuths[part::batches], 10.0, width=32).to(dtype=torch.float64)
            out = reference_rasterizer()(s.gaussians(), cameras)
            (out.rgb.square().mean() / batches).backward()
            ALWAYS.observe(state, out.screen, 32, 32)
        states.append(state.mean)
    torch.testing.assert_close(states[1], states[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("azimuths", [[20.0], [0.0, 90.0, 180.0, 270.0]], ids=["one-view", "four-views"])
def test_statistic_is_threestudios(azimuths: list[float]) -> None:
    """threestudio-3dgs, written out: each view has viewspace points of its own, in coordinates in which an image is 2 wide; the
    loss is the guidance's, lambda sum(|x - target|^2) / 2 / batch; update_states adds the norm of each view's own gradient to the
    splats that it shows (add_densification_stats), and densify divides by how often each was shown.
    """
    s, size, batch, weight = scene(8, degree=0, dtype=torch.float64), 32, len(azimuths), 0.1
    with torch.no_grad():
        s.means[0] = torch.tensor([30.0, 0.0, 0.0])  # out of sight of some
    target = torch.rand(batch, 3, size, size, generator=rng(3), dtype=torch.float64)
    accumulated, shown = torch.zeros(8, dtype=torch.float64), torch.zeros(8)
    for k, azimuth in enumerate(azimuths):
        out = reference_rasterizer()(s.gaussians(), orbit([azimuth], 10.0, width=size).to(dtype=torch.float64))
        (own,) = torch.autograd.grad(weight * 0.5 * (out.rgb[0] - target[k]).square().sum() / batch, out.screen.means)
        points = own[0] * size / 2  # pixel = (point + 1) size / 2
        visible = out.screen.radii[0] > 0
        accumulated[visible] += points[visible].norm(dim=1)
        shown += visible
    theirs = accumulated / shown.clamp(min=1)
    out = reference_rasterizer()(s.gaussians(), orbit(azimuths, 10.0, width=size).to(dtype=torch.float64))
    (weight * 0.5 * (out.rgb - target).square().sum() / batch).backward()
    state = ALWAYS.init(8)
    ALWAYS.observe(state, out.screen, size, size)
    seen_by_any = shown > 0
    assert seen_by_any.sum() >= 7 and not seen_by_any.all() if batch == 1 else seen_by_any.any()
    torch.testing.assert_close(state.mean[seen_by_any] / theirs[seen_by_any].float(), torch.ones(int(seen_by_any.sum())), rtol=1e-4, atol=0)
    assert not state.mean[~seen_by_any].any()


def test_statistics_need_a_backward_pass() -> None:
    with pytest.raises(ValueError, match="after the backward pass"):
        ALWAYS.observe(ALWAYS.init(2), Screen(torch.zeros(1, 2, 2), torch.ones(1, 2).int()), 8, 8)


def test_small_ones_are_cloned_large_ones_split() -> None:
    s = scene(6)
    with torch.no_grad():
        s.log_scales[:] = torch.tensor([0.01, 0.1, 0.01, 0.1, 0.01, 0.1])[:, None].log()
    optimizer = used(s)
    before = {n: getattr(s, n).detach().clone() for n in PARAMETERS}
    state = with_statistic(torch.tensor([1.0, 1.0, 0.001, 0.001, 1.0, 0.001]))
    change = update(replace(ALWAYS, threshold=0.5, split_scale=0.05), state, s, optimizer)
    assert change == CountChange(added=4, removed=1)  # clones of 0 and 4, two halves of 1 for 1
    assert len(s) == 9 == len(state.gradient) == len(state.views)
    for name in PARAMETERS:
        p = getattr(s, name)
        assert torch.equal(p[:5], before[name][[0, 2, 3, 4, 5]])
        assert torch.equal(p[5:7], before[name][[0, 4]])
    torch.testing.assert_close(s.log_scales[7:].exp(), torch.full((2, 3), 0.1 / SHRINK), rtol=0.05, atol=0)
    for name in ("quats", "logits", "sh_dc", "sh_rest"):
        assert torch.equal(getattr(s, name)[7:], before[name][[1, 1]])
    assert not state.gradient.any() and not state.views.any()
    assert not any(v[5:].any() for v in moments(s, optimizer).values())


def test_halves_are_drawn_from_the_gaussian() -> None:
    s = scene(1, dtype=torch.float64)
    drawn = halves(s, torch.zeros(20_000, dtype=torch.long), rng())["means"]
    torch.testing.assert_close(drawn.mean(0), s.means[0].detach(), rtol=0, atol=0.005)
    g = s.gaussians().detach()
    half = rotation_matrices(g.quats)[0] * g.scales[0]
    torch.testing.assert_close(drawn.T.cov(), half @ half.T, rtol=0.05, atol=2e-4)


def test_revised_clones_look_like_the_original() -> None:
    s, cameras = scene(5, degree=0, dtype=torch.float64), orbit([20.0], 10.0, width=32).to(dtype=torch.float64)
    before = reference_rasterizer()(s.gaussians(), cameras).rgb
    wanted = 1 - (1 - s.gaussians().opacities.detach()).sqrt()
    revised = replace(ALWAYS, threshold=0.5, split_scale=9.0, revised_opacity=True)
    assert update(revised, with_statistic(torch.ones(5)), s, used(s, 0)).added == 5
    torch.testing.assert_close(s.gaussians().opacities, wanted.repeat(2))
    after = reference_rasterizer()(s.gaussians(), cameras).rgb
    plain = scene(5, degree=0, dtype=torch.float64)
    update(replace(revised, revised_opacity=False), with_statistic(torch.ones(5)), plain, used(plain, 0))
    brighter = reference_rasterizer()(plain.gaussians(), cameras).rgb
    assert (after - before).abs().mean() < 0.25 * (brighter - before).abs().mean()


def test_growth_stops_at_the_limit_and_takes_the_highest_gradients() -> None:
    s = scene(10)
    optimizer, state = used(s), with_statistic(torch.arange(10.0) + 1)
    means = s.means.detach().clone()
    update(replace(ALWAYS, threshold=0.5, split_scale=9.0), state, s, optimizer, most=13)
    assert len(s) == 13
    assert torch.equal(s.means[10:], means[[7, 8, 9]])
    assert update(replace(ALWAYS, threshold=0.0), with_statistic(torch.ones(13)), s, optimizer, most=13).added == 0
    assert update(replace(ALWAYS, threshold=0.0), with_statistic(torch.ones(13)), s, optimizer, most=5).added == 0


def test_a_fraction_grows_whatever_the_scale_of_the_loss() -> None:
    for scale in (1e-8, 1e3):
        s = scene(10)
        means, state = s.means.detach().clone(), with_statistic(scale * (1.0 + torch.arange(10)))
        update(replace(ALWAYS, fraction=0.2, split_scale=9.0), state, s, used(s, 0))
        assert len(s) == 12 and torch.equal(s.means[10:], means[8:])
    s = scene(10)
    update(replace(ALWAYS, fraction=0.2), with_statistic(torch.zeros(10)), s, used(s, 0))
    assert len(s) == 10  # nothing was pulled anywhere


def test_transparent_and_huge_ones_are_removed_and_make_room() -> None:
    s = scene(6)
    with torch.no_grad():
        s.logits[1], s.log_scales[4, 2] = -8.0, 1.0
    optimizer, means = used(s, 0), s.means.detach().clone()
    d = replace(ALWAYS, threshold=0.5, split_scale=9.0, prune_opacity=0.005, prune_scale=0.5)
    change = update(d, with_statistic(torch.ones(6)), s, optimizer, most=7)
    assert change == CountChange(added=3, removed=2) and len(s) == 7
    assert torch.equal(s.means[:4], means[[0, 2, 3, 5]])


def test_opacities_are_reset_on_time() -> None:
    s = scene(6)
    with torch.no_grad():
        s.logits[0] = -6.0
    optimizer = used(s)
    low = s.logits[0].item()
    d = replace(ALWAYS, every=1000, reset_every=3, reset_opacity=0.02)
    for step in (1, 2):
        update(d, d.init(6), s, optimizer, step=step)
        assert s.gaussians().opacities.max() > 0.1
    update(d, d.init(6), s, optimizer, step=3)
    torch.testing.assert_close(s.gaussians().opacities[1:], torch.full((5,), 0.02))
    assert s.logits[0].item() == low  # it was lower already
    for key, value in moments(s, optimizer).items():
        assert value.any() != key.startswith("logits")


@pytest.mark.parametrize(
    ("step", "progress", "happens"), [(100, 0.5, True), (101, 0.5, False), (100, 0.05, False), (100, 0.9, False)]
)
def test_updates_keep_to_the_schedule(step: int, progress: float, happens: bool) -> None:
    s, d = scene(4), Gradient(every=100, since=0.1, until=0.8, threshold=0.5)
    change = d.update(with_statistic(torch.ones(4)), s, used(s, 0), step, progress, rng(), 100)
    assert (change.added > 0) == happens == (len(s) > 4)


def test_same_generator_same_splats_and_never_the_global_one() -> None:
    results = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(noise)
        s = scene(6)
        update(replace(ALWAYS, threshold=0.5, split_scale=0.0), with_statistic(torch.ones(6)), s, used(s, 0), seed)
        results.append(s.means.detach())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_state_survives_saving() -> None:
    state = ALWAYS.init(3)
    ALWAYS.observe(state, seen(torch.rand(2, 3, 2), torch.ones(2, 3).bool()), 8, 8)
    saved = {k: v.clone() for k, v in state.tensors().items()}
    twin = ALWAYS.init(3)
    twin.load(saved)
    assert torch.equal(twin.mean, state.mean) and (twin.mean > 0).all()
    with pytest.raises(ValueError, match="do not fit"):
        ALWAYS.init(4).load(saved)
    with pytest.raises(ValueError, match="do not fit"):
        Fixed().init(3).load(saved)
    Fixed().init(3).load(Fixed().init(3).tensors())


def test_fixed_keeps_the_count_unless_asked_to_remove_the_dead() -> None:
    s = scene(6)
    with torch.no_grad():
        s.logits[2] = -9.0
    optimizer = used(s, 1)
    state = Fixed().init(6)
    assert update(Fixed(), state, s, optimizer, step=100) == CountChange() and len(s) == 6
    assert update(Fixed(prune_opacity=0.01), state, s, optimizer, step=100) == CountChange(removed=1) and len(s) == 5
    push(s, optimizer, 0)
    moments(s, optimizer)
