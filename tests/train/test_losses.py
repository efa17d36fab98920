"""Regularisers against the codes that they are from, whatever the number of splats, and when they act."""

from dataclasses import replace

import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput
from splatdistill.render.reference import reference_rasterizer
from splatdistill.scene.initial import Ball
from splatdistill.train.losses import Regularisers


def scene(count: int) -> Gaussians:
    """Return a ball of different splats, whose sizes and opacities require gradients."""
    rng = torch.Generator().manual_seed(count)
    g = Ball(count=count).make(rng)
    scales = (0.1 * torch.rand(count, 3, generator=rng)).requires_grad_()
    return replace(g, scales=scales, opacities=torch.rand(count, generator=rng).requires_grad_())


def seen(g: Gaussians) -> RenderOutput:
    return reference_rasterizer()(g, orbit([0.0, 90.0], width=16))


@pytest.mark.parametrize("count", [7, 70])
def test_sums_are_threestudio_3dgs_and_pull_at_each_splat_alike(count):
    """system/gaussian_splatting.py: (scaling.norm(dim=-1).detach().unsqueeze(-1) * opacity).sum() and torch.sum(scaling)."""
    g = scene(count)
    scaling, opacity = g.scales, g.opacities[:, None]
    theirs = 1e-4 * (scaling.norm(dim=-1).detach().unsqueeze(-1) * opacity).sum() + 1e-4 * torch.sum(scaling)
    ours = Regularisers(scale_sum=1e-4, opacity_sum=1e-4)(seen(g), g)
    torch.testing.assert_close(ours, theirs)
    scales, opacities = torch.autograd.grad(ours, (g.scales, g.opacities))
    torch.testing.assert_close(scales, torch.full((count, 3), 1e-4))
    torch.testing.assert_close(opacities, 1e-4 * g.scales.detach().norm(dim=1))


def test_smooth_is_half_of_tv_loss():
    """threestudio's and LucidDreamer's tv_loss, 2 (h_tv / count_h + w_tv / count_w) / batch, transcribed."""
    g = scene(20)
    out = seen(g)
    x = out.rgb
    (b, c, h, w), down, across = x.shape, x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    theirs = 2 * (down.square().sum() / (c * (h - 1) * w) + across.square().sum() / (c * h * (w - 1))) / b
    torch.testing.assert_close(Regularisers(smooth=2.0)(out, g), theirs)


@pytest.mark.parametrize(("progress", "sparsity", "opaque"), [(0.0, 10.0, 0.0), (0.25, 5.5, 0.0), (0.39, 2.98, 0.0), (0.4, 2.8, 100.0), (0.5, 1.0, 100.0), (1.0, 1.0, 100.0)])
def test_sparsity_falls_and_opaque_begins(progress, sparsity, opaque):
    """CSD's [0, 10, 1, s] and ScaleDreamer's [s', 0, 100, s' + 1]."""
    g = scene(20)
    out, r = seen(g), Regularisers(sparsity=10.0, sparsity_end=1.0, sparsity_until=0.5, opaque=100.0, opaque_since=0.4)
    got = r.terms(out, g, progress)
    a = out.alpha.clamp(1e-3, 1 - 1e-3)
    torch.testing.assert_close(got["sparsity"], sparsity * out.alpha.mean())
    torch.testing.assert_close(got.get("opaque", torch.zeros(())), opaque * -(a * a.log() + (1 - a) * (1 - a).log()).mean())
    torch.testing.assert_close(r(out, g, progress), sum(got.values(), torch.zeros(())))


def test_a_weight_that_has_fallen_to_nothing_is_no_term():
    g = scene(5)
    r = Regularisers(sparsity=0.15, sparsity_end=0.0, sparsity_until=0.3)
    assert list(r.terms(seen(g), g, 0.2)) == ["sparsity"] and not r.terms(seen(g), g, 0.3)
    assert not r(seen(g), g, 0.5).requires_grad


@pytest.mark.parametrize("wrong", [{"scale_sum": -1.0}, {"sparsity_end": -0.1}, {"sparsity_until": 0.0}, {"opaque_since": 1.5}])
def test_weights_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        Regularisers(**wrong)


def plate(turn: float) -> Gaussians:
    """Return flat splats in the plane x = 0, whose thin axes are turned away from its normal by an angle, radians."""
    grid = torch.linspace(-0.5, 0.5, 24)
    y, z = (v.reshape(-1) for v in torch.meshgrid(grid, grid, indexing="ij"))
    half = torch.tensor(turn / 2)
    quats = torch.stack([half.cos(), torch.tensor(0.0), torch.tensor(0.0), half.sin()]).expand(len(y), 4).clone().requires_grad_()
    ball = Ball(count=len(y)).make(torch.Generator().manual_seed(0))
    return replace(ball, means=torch.stack([torch.zeros_like(y), y, z], 1), quats=quats, scales=torch.tensor([0.002, 0.04, 0.04]).expand(len(y), 3), opacities=torch.full((len(y),), 0.95))


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_normal_consistency_is_one_minus_the_cosine_between_splats_and_their_surface(turn):
    """On a plane whose splats are all turned alike, a pixel that they cover counts 1 - cos, and the gradient turns them back."""
    g = plate(turn)
    out = reference_rasterizer()(g, orbit([0.0], 0.0, width=48), normals=True)
    term = Regularisers(normal_consistency=2.0)(out, g)
    inside = (out.normal * out.normal_from_depth()).sum(1)[:, 20:28, 20:28] / out.alpha[:, 0, 20:28, 20:28]
    assert inside.mean().item() == pytest.approx(torch.tensor(turn).cos().item(), abs=0.02)
    (grad,) = torch.autograd.grad(term, g.quats)
    assert grad[:, 3].sum().item() > 0 if turn else term.item() < 0.02 * 2 * out.alpha.mean().item() + 0.05
    assert Regularisers(normal_consistency=2.0).renders_normals() and not Regularisers(smooth=1.0).renders_normals()
