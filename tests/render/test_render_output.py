"""Normals from depth on surfaces whose normals are known."""

import torch

from splatdistill.cameras import Cameras, orbit
from splatdistill.render import RenderOutput, Screen

F64 = torch.float64


def output(depth: torch.Tensor, cameras: Cameras) -> RenderOutput:
    """Return an output in which only the depth matters."""
    b, _, h, w = depth.shape
    screen = Screen(torch.zeros(b, 0, 2), torch.zeros(b, 0, dtype=torch.int32))
    return RenderOutput(torch.zeros(b, 3, h, w), torch.ones(b, 1, h, w), depth, None, screen, cameras)


def rays(cameras: Cameras) -> torch.Tensor:
    """Return world directions (b,h,w,3) through the pixel centres, of length 1 along the optical axis."""
    y, x = torch.meshgrid(torch.arange(cameras.height), torch.arange(cameras.width), indexing="ij")
    pixels = torch.stack([x + 0.5, y + 0.5, torch.ones(x.shape)], -1).to(F64)
    directions = pixels @ cameras.intrinsics.inverse().mT[:, None]
    return torch.einsum("bji,bhwj->bhwi", cameras.world_to_camera[:, :3, :3], directions)


def views(width: int = 24, height: int = 18) -> Cameras:
    return orbit([0.0, 70.0, -160.0], [0.0, 35.0, 60.0], 3.0, [43.0, 60.0, 30.0], width, height).to(dtype=F64)


def test_plane_is_exact() -> None:
    """Points of a plane differ by vectors in it: its normal, on the camera's side, at every pixel and the border."""
    cameras = views()
    tilt = torch.tensor([0.3, -0.2, 0.4], dtype=F64)
    normal = torch.nn.functional.normalize(cameras.position / 3 + tilt, dim=1)  # roughly towards each camera
    directions, position = rays(cameras), cameras.position
    depth = -((position * normal).sum(1)[:, None, None]) / torch.einsum("bhwi,bi->bhw", directions, normal)
    assert (depth > 0).all()
    got = output(depth[:, None], cameras).normal_from_depth()
    torch.testing.assert_close(got, normal[:, :, None, None].expand_as(got), rtol=0, atol=1e-6)  # float32 poses


def test_sphere() -> None:
    """Away from the outline, the radial direction, to within the curvature over a pixel."""
    cameras = views(96, 96)
    directions, position = rays(cameras), cameras.position
    a = (directions * directions).sum(-1)
    b = torch.einsum("bhwi,bi->bhw", directions, position)
    discriminant = b * b - a * (position * position).sum(1)[:, None, None] + a * 0.7**2
    hit = discriminant > 0
    depth = torch.where(hit, (-b - discriminant.clamp(min=0).sqrt()) / a, 0)
    truth = (position[:, None, None] + depth[..., None] * directions).movedim(-1, 1) / 0.7
    got = output(depth[:, None], cameras).normal_from_depth()
    facing = -(truth * directions.movedim(-1, 1)).sum(1) / a.sqrt()  # cosine to the line of sight
    well_seen = hit & (facing > 0.5)
    assert well_seen.sum() > 3000
    cosine = (got * truth).sum(1)[well_seen]
    assert cosine.min() > 0.999
    assert ((got * directions.movedim(-1, 1)).sum(1)[well_seen] < 0).all()


def test_empty_surroundings_are_zero_and_gradients_stay_moderate() -> None:
    """A few lit pixels in the void; a normalisation with a small epsilon would send gradients of 1e12 through it."""
    cameras = views(7, 7)
    depth = torch.zeros(3, 1, 7, 7, dtype=F64)
    depth[:, :, 3, 3], depth[:, :, 3, 4], depth[:, :, 5, 3] = 3, 2.5, 3.5
    depth.requires_grad_()
    normal = output(depth, cameras).normal_from_depth()
    assert (normal[:, :, 0, 0] == 0).all()
    normal.sum().backward()
    assert depth.grad.isfinite().all() and depth.grad.abs().max() < 1e3


def test_differentiable_in_depth(rng: torch.Generator) -> None:
    cameras = views(4, 3)
    depth = (3 + 0.3 * torch.rand(3, 1, 3, 4, generator=rng, dtype=F64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: output(d, cameras).normal_from_depth(), (depth,))
