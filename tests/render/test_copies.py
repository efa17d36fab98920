"""Rendering through copies gives what the CPU gives, gradients too."""

import torch
from splats import blobs

from splatdistill.cameras import orbit
from splatdistill.render import rasterizer
from splatdistill.render.copies import CopyingRasterizer


def test_images_and_gradients_are_those_of_the_cpu():
    inner, seen = rasterizer("cpu"), []
    for render in (inner, CopyingRasterizer(inner)):
        g = blobs(20, torch.Generator().manual_seed(0))
        leaves = [x.requires_grad_() for x in (g.means, g.quats, g.scales, g.opacities, g.sh)]
        behind = torch.full((2, 3), 0.25, requires_grad=True)
        out = render(g, orbit([0.0, 90.0], 15.0, 2.8, 42.0, 24), behind, normals=True)
        (out.rgb.square().sum() + out.depth.sum() + out.normal.square().sum()).backward()
        seen.append([out.rgb, out.alpha, out.depth, out.normal, out.screen.radii, out.screen.means.grad, behind.grad, *(x.grad for x in leaves)])
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def test_a_device_without_a_rasteriser_of_its_own_gets_copies():
    assert isinstance(rasterizer("mps"), CopyingRasterizer) and isinstance(rasterizer("meta"), CopyingRasterizer)
