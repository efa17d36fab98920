"""Relocation: copies look like the original, the dead come back, noise explores, the limit holds."""

import math
from dataclasses import replace

import pytest
import torch
from scenes import moments, push, scene, used

from splatdistill.cameras import orbit
from splatdistill.densify import CountChange, Relocate
from splatdistill.densify.relocate import MOST, shared
from splatdistill.gaussians import rotation_matrices
from splatdistill.render.reference import reference_rasterizer
from splatdistill.scene import optim
from splatdistill.scene.splats import PARAMETERS, Splats

ALWAYS = Relocate(every=1, since=0.0, until=1.0, growth=0.0, noise=0.0)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def update(d: Relocate, s: Splats, optimizer: torch.optim.Optimizer, seed: int = 0, most: int = 1000) -> CountChange:
    return d.update(d.init(len(s)), s, optimizer, 1, 0.5, rng(seed), most)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, MOST])
@pytest.mark.parametrize("o", [0.02, 0.5, 0.99])
def test_copies_have_the_opacity_and_the_integral_of_the_one(n: int, o: float) -> None:
    opacity, scale = torch.tensor([o], dtype=torch.float64), torch.tensor([[0.3, 0.1, 0.2]], dtype=torch.float64)
    new, scales = shared(opacity, scale, torch.tensor([n]))
    torch.testing.assert_close(1 - (1 - new) ** n, opacity)  # in the centre
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64) * 0.3
    one = opacity * torch.exp(-0.5 * (x / 0.3) ** 2)
    together = 1 - (1 - new * torch.exp(-0.5 * (x / scales[0, 0]) ** 2)) ** n  # alphas composed, not the sum formula
    torch.testing.assert_close(torch.trapezoid(together, x), torch.trapezoid(one, x), rtol=1e-6, atol=0)
    torch.testing.assert_close(scales / scale, (scales / scale)[:, :1].expand(1, 3))
    if n == 1:
        torch.testing.assert_close((new, scales), (opacity, scale))


def test_the_double_sum_of_the_paper() -> None:
    n, o = 6, 0.8
    new = 1 - (1 - o) ** (1 / n)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1) for i in range(1, n + 1) for k in range(i)
    )
    _, scales = shared(torch.tensor([o]), torch.ones(1, 3), torch.tensor([n]))
    torch.testing.assert_close(scales, torch.full((1, 3), o / total))


def test_too_many_copies_are_finite() -> None:
    new, scales = shared(torch.tensor([1.0, 0.5]), torch.ones(2, 3), torch.tensor([5000, 1]), min_opacity=0.005)
    assert new.isfinite().all() and scales.isfinite().all() and (scales > 0).all() and (new >= 0.005).all()


def with_dead(dead: list[int], n: int = 12, dtype: torch.dtype = torch.float64) -> Splats:
    s = scene(n, degree=0, dtype=dtype)
    with torch.no_grad():
        s.logits[dead] = -7.0
    return s


def test_relocation_leaves_the_picture_nearly_as_it_was() -> None:
    s, cameras = with_dead([1, 2, 5, 8]), orbit([0.0, 130.0], 15.0, width=40).to(dtype=torch.float64)
    render = reference_rasterizer()
    before = render(s.gaussians(), cameras).rgb.detach()
    naive = Splats({n: getattr(s, n).detach() for n in PARAMETERS})
    assert update(ALWAYS, s, used(s, 0)) == CountChange(moved=4)
    after = render(s.gaussians(), cameras).rgb.detach()
    alive = (s.gaussians().means[:, None] == naive.means[None]).all(2).long().argmax(1)  # whose copy each one is
    with torch.no_grad():
        naive.means[:], naive.logits[:] = naive.means[alive].clone(), naive.logits[alive].clone()
        naive.log_scales[:], naive.quats[:] = naive.log_scales[alive].clone(), naive.quats[alive].clone()
        naive.sh_dc[:] = naive.sh_dc[alive].clone()
    plain = render(naive.gaussians(), cameras).rgb.detach()  # the same copies without eq. 9
    assert (after - before).abs().mean() < 0.2 * (plain - before).abs().mean()
    assert (after - before).abs().mean() < 0.01


def test_the_dead_become_copies_of_the_living_and_are_forgotten() -> None:
    s = with_dead([1, 5])
    optimizer = used(s)
    with torch.no_grad():
        s.logits[[1, 5]] = -7.0
    update(ALWAYS, s, optimizer)
    means = s.means.detach()
    source = [int(next(j for j in range(12) if j not in (1, 5) and torch.equal(means[j], means[i]))) for i in (1, 5)]
    assert (s.gaussians().opacities > 0.01).all()
    for name in PARAMETERS:
        assert torch.equal(getattr(s, name)[[1, 5]], getattr(s, name)[source])
    touched = {1, 5, *source}
    for value in moments(s, optimizer).values():
        for i in range(12):
            assert value[i].any() != (i in touched) or value[i].numel() == 0


def test_sources_are_drawn_by_opacity() -> None:
    s = with_dead(list(range(2, 2002)), n=2002, dtype=torch.float32)
    with torch.no_grad():
        s.logits[0], s.logits[1] = math.log(0.6 / 0.4), math.log(0.2 / 0.8)
    means = s.means[:2].detach().clone()
    update(ALWAYS, s, used(s, 0))
    share = (s.means == means[0]).all(1).float().mean().item()
    assert share == pytest.approx(0.75, abs=0.04)


def test_growth_is_five_per_cent_up_to_the_limit_and_keeps_the_picture() -> None:
    s, cameras = scene(40, degree=0, dtype=torch.float64), orbit([60.0], 15.0, width=32).to(dtype=torch.float64)
    before = reference_rasterizer()(s.gaussians(), cameras).rgb.detach()
    optimizer, d = used(s, 0), replace(ALWAYS, growth=0.05)
    assert update(d, s, optimizer) == CountChange(added=2) and len(s) == 42
    after = reference_rasterizer()(s.gaussians(), cameras).rgb.detach()
    assert (after - before).abs().mean() < 0.01
    counts = [len(s)]
    for i in range(30):
        push(s, optimizer, i)
        update(d, s, optimizer, seed=i, most=50)
        counts.append(len(s))
    assert max(counts) == 50 == counts[-1] and counts == sorted(counts)
    assert update(d, s, optimizer, most=10).added == 0 and len(s) == 50  # a lowered limit removes nobody


def test_nothing_to_copy_from_changes_nothing() -> None:
    s = with_dead(list(range(12)))
    assert update(replace(ALWAYS, growth=0.5), s, used(s, 0)) == CountChange() and len(s) == 12


def test_noise_moves_the_transparent_along_their_covariance() -> None:
    s = with_dead(list(range(20_000)), n=20_006)
    with torch.no_grad():
        for name in ("log_scales", "quats"):
            getattr(s, name)[:] = getattr(s, name)[:1].clone()
        s.means.zero_()
    optimizer, d = used(s, 0), replace(ALWAYS, noise=100.0)
    d.after_step(d.init(20_006), s, optimizer, rng())
    g = s.gaussians().detach()
    half = rotation_matrices(g.quats)[0] * g.scales[0]
    sigma = half @ half.T
    gate = torch.sigmoid(-100 * (g.opacities[0] - 0.005))
    expected = (100.0 * optim.group(optimizer, "means")["lr"] * gate) ** 2 * sigma @ sigma
    torch.testing.assert_close(g.means[:20_000].T.cov(), expected, rtol=0.05, atol=0.03 * expected.abs().max().item())
    assert g.means[20_000:].abs().max() < 1e-3 * g.means.abs().max()  # the opaque stay


def test_same_generator_same_splats_and_never_the_global_one() -> None:
    results = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(noise)
        s = with_dead([0, 3, 4])
        optimizer, d = used(s, 0), replace(ALWAYS, growth=0.5, noise=1e3)
        d.after_step(d.init(12), s, optimizer, generator := rng(seed))
        d.update(d.init(12), s, optimizer, 1, 0.5, generator, 100)
        results.append(s.means.detach())
    assert torch.equal(results[0], results[1])
    assert results[0].shape != results[2].shape or not torch.equal(results[0], results[2])


def test_updates_keep_to_the_schedule() -> None:
    d = Relocate(every=10, since=0.2, until=0.6)
    cases = ((10, 0.4, True), (11, 0.4, False), (10, 0.1, False), (10, 0.7, False), (0, 0.2, False))
    for step, progress, happens in cases:
        s = with_dead([1])
        assert (d.update(d.init(12), s, used(s, 0), step, progress, rng(), 100) != CountChange()) == happens
