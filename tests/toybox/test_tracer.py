"""The tracer against closed forms and against the distance functions it marches through."""

import math

import pytest
import torch

from splatdistill.cameras import Cameras, orbit
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, Truth, build, render
from splatdistill.toybox.catalogue import SYMMETRIC
from splatdistill.toybox.parts import Part, table
from splatdistill.toybox.tracer import REACH, _nearest

AROUND = orbit(
    [0.0, 50.0, 100.0, 180.0, 250.0, 310.0, 20.0, 0.0], [0.0, 15.0, -15.0, 30.0, 60.0, 75.0, 89.0, -80.0], 3.0, 43.0, 64
)
R = 0.7


def rays(cameras: Cameras) -> torch.Tensor:
    """Return camera-space directions (b,h,w,3) of unit z through the pixel centres."""
    u = (torch.arange(cameras.width) + 0.5 - cameras.width / 2) / cameras.intrinsics[0, 0, 0]
    v, u = torch.meshgrid(u, u, indexing="ij")
    return torch.stack([u, v, torch.ones_like(u)], -1).expand(len(cameras), -1, -1, -1).double()


def surface(truth: Truth, cameras: Cameras, view: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return world points and normals (n,3) of the pixels that the object covers wholly."""
    inside = truth.alpha[view, 0] == 1
    points = (rays(cameras)[view] * truth.depth[view, 0, :, :, None].double())[inside]
    pose = cameras.world_to_camera[view].double()
    return (points - pose[:3, 3]) @ pose[:3, :3], truth.normal[view][:, inside].T.double()


def test_a_ball_is_a_ball():
    cameras = orbit([0.0, 130.0], [0.0, 40.0], 3.0, 43.0, 96)
    truth = render([[Part("ball", (0, 0, 0), (R,), COLOURS["red"])]], cameras, samples=1)
    d = rays(cameras)
    along = d[..., 2] * 3 / d.norm(dim=-1)  # of the nearest approach, for a centre at (0, 0, 3)
    miss2 = 9 - along**2
    hits = miss2 < R * R
    exact = (along - (R * R - miss2).clamp(min=0).sqrt()) / d.norm(dim=-1)
    alpha = truth.alpha[:, 0]
    clear = (miss2.sqrt() - R).abs() > 0.01
    assert torch.equal(alpha[clear] == 1, hits[clear])
    inner = (R - miss2.clamp(min=0).sqrt()) > 0.05
    assert (truth.depth[:, 0].double() - exact)[inner].abs().max() < 0.015  # a ray stops within a fifth of a pixel
    for view in range(2):
        points, normals = surface(truth, cameras, view)
        assert ((points / R * normals).sum(1) > 0.998).all()
    # the cone that touches the ball cuts the image plane in a circle of radius f tan(asin(R / 3))
    radius = cameras.intrinsics[0, 0, 0] * math.tan(math.asin(R / 3))
    smooth = render([[Part("ball", (0, 0, 0), (R,), COLOURS["red"])]], cameras, samples=3).alpha.sum((1, 2, 3))
    assert (smooth / (math.pi * radius**2) - 1).abs().max() < 0.01


@pytest.mark.parametrize("kind", [*NAMED, *PRIMITIVES])
def test_depth_lies_on_the_surface_and_normals_face_the_camera(kind):
    parts = Caption(kind, "blue").parts()
    truth = render([parts], AROUND, samples=1)
    numbers = table(parts)
    for view in range(len(AROUND)):
        points, normals = surface(truth, AROUND, view)
        distance = torch.tensor([_nearest(numbers, *p)[0] for p in points[::7].tolist()])
        assert len(distance) > 10
        assert distance.abs().max() < 0.01
        toward = torch.nn.functional.normalize(AROUND.position[view].double() - points, dim=1)
        assert ((normals.norm(dim=1) - 1).abs() < 1e-4).all()
        assert ((normals * toward).sum(1) > -0.05).float().mean() > 0.98  # grazing rays stop just before an edge
        assert points.norm(dim=1).max() < REACH - 0.01  # nothing is cut off by the sphere that rays start on


def test_normals_are_those_of_the_depth():
    """Finite differences of the depth, at places where it is smooth, give the same normal."""
    cameras = orbit([30.0], 20.0, 3.0, 43.0, 96)
    truth = render([[Part("ellipsoid", (0, 0, 0), (0.8, 0.5, 0.4), COLOURS["red"])]], cameras, samples=1)
    points = rays(cameras)[0] * truth.depth[0, 0, :, :, None].double()
    du, dv = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = (
        torch.nn.functional.normalize(torch.linalg.cross(dv, du), dim=-1) @ cameras.world_to_camera[0, :3, :3].double()
    )
    inside = torch.nn.functional.max_pool2d(1 - truth.alpha, 9, 1, 4)[0, 0, 1:-1, 1:-1] == 0
    agreement = (normal * truth.normal[0, :, 1:-1, 1:-1].permute(1, 2, 0)).sum(-1)[inside]
    assert agreement.median() > 0.999
    assert agreement.min() > 0.97


@pytest.mark.parametrize("kind", [*NAMED, *PRIMITIVES])
def test_fronts(kind):
    """Symmetric things look the same after half a turn, but for the light; the others have a front."""
    seen = render([Caption(kind, "blue").parts()], orbit([0.0, 180.0], 15.0, 3.0, 43.0, 64))
    differs = (seen.rgb[0] - seen.rgb[1]).abs().amax(0) > 0.2
    share = differs.sum() / (seen.alpha[:, 0].amax(0) > 0.5).sum()
    assert (share == 0) if kind in SYMMETRIC else (share > 0.03)


def test_a_nose_shows_from_the_front_only():
    def orange(azimuth: float) -> int:
        rgb = render([build("snowman", "white")], orbit([azimuth], 10.0, 2.8, 42.0, 64)).rgb[0]
        return int((rgb[0] - rgb[2] > 0.3).sum())

    assert orange(0) > 10
    assert orange(180) == 0


def test_background_shows_where_nothing_is():
    cameras = AROUND[:2]
    ground = torch.tensor([[0.2, 0.4, 0.6], [0.9, 0.1, 0.3]])
    on_colour, on_black = (render([build("mug", "red")], cameras, g) for g in (ground, torch.zeros(2, 3)))
    assert torch.allclose(on_colour.rgb, on_black.rgb + (1 - on_black.alpha) * ground[:, :, None, None], atol=1e-6)
    empty = on_colour.alpha == 0
    assert empty.any()
    assert (on_colour.depth[empty] == 0).all()


def test_the_same_pictures_every_time_and_for_any_threads():
    one, two = (render([build("duck", "red")], AROUND, threads=n) for n in (1, 2))
    assert torch.equal(one.rgb, two.rgb)
    assert torch.equal(one.depth, two.depth)


def test_one_object_per_camera_or_one_for_all():
    with pytest.raises(ValueError, match="2 objects for 8 cameras"):
        render([build("duck", "red"), build("mug", "red")], AROUND)
    both = render([build("duck", "red"), build("mug", "red")], AROUND[:2], samples=1)
    alone = render([build("mug", "red")], AROUND[1:2], samples=1)
    assert torch.equal(both.rgb[1], alone.rgb[0])
