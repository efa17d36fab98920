"""The triangle rasteriser against casting rays, against the tracer, and the frame of the real objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from packs import box

from splatdistill.cameras import orbit
from splatdistill.toybox import render
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.parts import Part
from splatdistill.toybox.real import RealCaption, parse_real, truth, truth_pack
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.rooms import HALF, Paint, RoomCaption, room_mesh
from splatdistill.toybox.triangles import CornerMesh, corner_normals, rasterise

CAMERAS = orbit([25.0, 200.0], [20.0, 50.0], 2.8, 42.0, 24)


def plain(corners: np.ndarray, colour: tuple[float, float, float] = (0.5, 0.4, 0.3)) -> CornerMesh:
    """Return a mesh of one colour, open to all light."""
    corners, n = corners.astype(np.float32), len(corners)
    table = np.array([[*colour, -1, 0, 0]], np.float32)
    open_, uv = np.ones((n, 3), np.float32), np.zeros((n, 3, 2), np.float32)
    return CornerMesh(corners, corner_normals(corners), uv, open_, np.zeros(n, np.int32), table, np.zeros((1, 3), np.uint8))


def cast(mesh: CornerMesh, camera: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return depth and unit face normal of the first face that the ray through each pixel's middle meets (Moller and Trumbore, 1997)."""
    pose, k = CAMERAS.world_to_camera[camera].double().numpy(), CAMERAS.intrinsics[camera].double().numpy()
    rotation, origin = pose[:3, :3], -pose[:3, :3].T @ pose[:3, 3]
    u, v = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1).reshape(-1, 3) @ rotation
    a, b, c = mesh.corners.astype(float).transpose(1, 0, 2)
    e1, e2, s = b - a, c - a, origin - a
    nearest, normal = np.full(len(rays), np.inf), np.zeros((len(rays), 3))
    flat = np.cross(e1, e2)
    for i, d in enumerate(rays):
        p = np.cross(d, e2)
        det = (p * e1).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            x, q = (p * s).sum(1) / det, np.cross(s, e1)
            y, t = q @ d / det, (q * e2).sum(1) / det
        hit = (x >= 0) & (y >= 0) & (x + y <= 1) & (t > 0)
        if hit.any():
            f = np.flatnonzero(hit)[t[hit].argmin()]
            nearest[i], normal[i] = t[f], flat[f] / np.linalg.norm(flat[f]) * -np.sign(flat[f] @ d)
    return nearest.reshape(size, size), normal.reshape(size, size, 3)


@pytest.mark.parametrize("prompt", ["a green teddy bear", "a purple couch", "a blue forklift"])
def test_depth_alpha_and_normals_are_those_of_rays(prompt: str) -> None:
    caption = parse_real(prompt)
    assert caption is not None
    mesh = truth(caption)
    seen = rasterise([replace(mesh, normals=corner_normals(mesh.corners, 0.0))], CAMERAS, samples=1)
    for view in range(2):
        depth, normal = cast(mesh, view, 24)
        hit = np.isfinite(depth)
        alpha = seen.alpha[view, 0].numpy()
        assert (alpha != hit).mean() < 0.005 and hit.mean() > 0.05  # an edge through a pixel's middle may fall to either side
        both = hit & (alpha > 0)
        wrong = np.abs(seen.depth[view, 0].numpy() - depth)[both] > 1e-3
        assert wrong.mean() < 0.01
        along = (seen.normal[view].numpy().transpose(1, 2, 0) * normal).sum(-1)[both]
        assert (along > 0.99).mean() > 0.97


def test_the_light_is_the_tracers() -> None:
    """The same box, traced and as triangles."""
    places, faces = box((-0.5, -0.6, -0.3), (0.5, 0.6, 0.3))
    colour = COLOURS["orange"]
    mesh = rasterise([plain(places[faces], colour)], CAMERAS, samples=4)
    traced = render([[Part("box", (0, 0, 0), (0.5, 0.6, 0.3), colour)]], CAMERAS, samples=4)
    inside = (mesh.alpha > 0.999) & (traced.alpha > 0.999)
    close = ((mesh.rgb - traced.rgb).abs() < 0.02).all(1, keepdim=True)
    assert close[inside].float().mean() > 0.75  # the tracer's edges are rounded, and lit so
    assert (mesh.alpha - traced.alpha).abs().mean() < 0.02
    assert (mesh.depth - traced.depth)[inside].abs().max() < 0.05


def test_samples_smooth_the_outline_and_a_background_shows_through() -> None:
    places, faces = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    red = torch.tensor([[1.0, 0.0, 0.0]]).repeat(2, 1)
    coarse, fine = (rasterise([plain(places[faces])], CAMERAS, red, samples=s) for s in (1, 4))
    assert set(coarse.alpha.unique().tolist()) == {0.0, 1.0} and len(fine.alpha.unique()) > 8
    shown = fine.rgb + 0.0
    black = rasterise([plain(places[faces])], CAMERAS, torch.zeros(2, 3), samples=4)
    assert torch.allclose(shown, black.rgb + (1 - fine.alpha) * red[:, :, None, None], atol=1e-5)
    lengths = fine.normal.norm(dim=1, keepdim=True)
    assert torch.allclose(lengths[fine.alpha > 0], torch.ones(()), atol=1e-4) and (lengths[fine.alpha == 0] == 0).all()


def test_a_face_is_seen_from_both_sides_and_lit_on_the_side_that_is_seen() -> None:
    square = np.array([[[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0]], [[-0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]]])
    above, below = (rasterise([plain(square)], orbit([0.0], [e], 2.8, 42.0, 16)) for e in (60.0, -60.0))
    middle = (0, slice(None), 8, 8)
    assert above.normal[middle][2] > 0.99 and below.normal[middle][2] < -0.99
    assert above.rgb[middle].sum() > 1.8 * below.rgb[middle].sum()


def test_corner_normals_stop_at_creases() -> None:
    places, faces = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
    sharp, round_ = (corner_normals(places[faces].astype(np.float32), crease) for crease in (50.0, 100.0))
    assert np.allclose(np.abs(sharp).max(-1), 1) and (np.abs(round_).max(-1) < 0.95).all()


def test_a_pattern_repeats_and_stands_upright() -> None:
    """A texture of two rows, white above black, twice over a wall."""
    square = np.array([[[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5]], [[0, -0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]])
    uv = np.array([[[0, 0], [2, 0], [2, 2]], [[0, 0], [2, 2], [0, 2]]], np.float32)
    table = np.array([[1, 1, 1, 0, 1, 8]], np.float32)
    texels = np.repeat(np.array([[255] * 3, [0] * 3], np.uint8), 4, 0)
    mesh = replace(plain(square), uv=uv, materials=table, texels=texels)
    column = rasterise([mesh], orbit([0.0], [0.0], 2.8, 42.0, 64), samples=1).rgb[0, 0, :, 32]
    rows = torch.linspace(0.18, 0.82, 9)[:-1] + 0.04  # the wall covers the middle of the picture
    shades = torch.stack([column[int(64 * ((r - 0.18) / 0.64 * 0.46 + 0.27))] for r in rows])
    assert (shades[[0, 1, 4, 5]] > 0.5).all() and (shades[[2, 3, 6, 7]] < 0.2).all()


def test_pictures_are_the_same_every_time_and_in_any_number_of_threads() -> None:
    mesh = truth(RealCaption("mailbox", "purple"))
    first, second = (rasterise([mesh, mesh], CAMERAS, threads=n) for n in (1, 2))
    assert all(torch.equal(getattr(first, k), getattr(second, k)) for k in ("rgb", "alpha", "depth", "normal"))
    with pytest.raises(ValueError, match="3 objects for 2 cameras"):
        rasterise([mesh] * 3, CAMERAS)


# -- the objects -----------------------------------------------------------------------------------


def test_the_package_has_the_truth_of_every_acceptance_prompt() -> None:
    pack = truth_pack()
    assert {o.name for o in pack.objects} == set(SPLIT.truth.values())
    for prompt, name in SPLIT.truth.items():
        caption, thing = parse_real(prompt), pack[name]
        assert caption is not None and str(caption) == prompt and thing.kind == caption.kind
        assert thing.licence == "CC0-1.0" and thing.tinted and len(thing.surface["faces"]) <= 3000
        reach = np.linalg.norm(thing.surface["places"], axis=1).max()
        assert 0.93 < reach < 0.97
        assert np.abs(thing.surface["places"].min(0) + thing.surface["places"].max(0)).max() < 0.12


@pytest.mark.parametrize("kind", ["armchair", "plastic chair", "dining chair", "couch", "bed", "toilet"])
def test_what_has_a_back_has_it_behind(kind: str) -> None:
    """Its highest parts, the back or the head, stand at -x: its front looks along +x."""
    corners = truth(RealCaption(kind)).corners.reshape(-1, 3)
    high = corners[corners[:, 2] > np.quantile(corners[:, 2], 0.9)]
    assert high[:, 0].mean() < -0.1


def test_what_was_turned_by_hand_looks_along_x() -> None:
    """The fork of the forklift and the wheel of the barrow are in front, and low."""
    for kind in ("forklift", "wheelbarrow"):
        corners = truth(RealCaption(kind)).corners.reshape(-1, 3)
        assert np.ptp(corners[:, 0]) > 1.2 * np.ptp(corners[:, 1]), kind  # long along x
    fork = truth(RealCaption("forklift")).corners.reshape(-1, 3)
    assert fork[fork[:, 0] > 0.6][:, 2].max() < -0.3 < 0.3 < fork[fork[:, 0] < 0.3][:, 2].max()
    barrow = truth(RealCaption("wheelbarrow")).corners.reshape(-1, 3)
    lowest = barrow[barrow[:, 2] < np.quantile(barrow[:, 2], 0.03)]
    assert lowest[:, 0].max() > 0.3


@pytest.mark.parametrize("prompt", list(SPLIT.truth))
def test_another_colour_is_seen(prompt: str) -> None:
    """Of the pixels that change with the colour, most have its hue; they are no small part of the object."""
    caption = parse_real(prompt)
    assert caption is not None and caption.colour is not None
    own, given = (rasterise([truth(c)], orbit([35.0], [15.0], 2.8, 42.0, 48)) for c in (RealCaption(caption.kind), caption))
    assert torch.equal(own.alpha, given.alpha) and torch.equal(own.depth, given.depth)
    covered = given.alpha[0, 0] > 0.99
    moved = ((own.rgb - given.rgb).abs().amax(1)[0] > 0.03) & covered
    assert moved.sum() > 0.25 * covered.sum()
    rgb = given.rgb[0][:, moved]
    nearest = torch.stack([torch.nn.functional.cosine_similarity(rgb, torch.tensor(c)[:, None], dim=0) for c in COLOURS.values()])
    hue = list(COLOURS).index(caption.colour)
    assert (nearest[hue] > 0.97).float().mean() > 0.7  # a mesh of thin wires is mixed with what is behind it


def test_what_takes_no_colour_says_so() -> None:
    thing = replace(truth_pack()["BlendSwap-CC-0-86"], tinted=())
    with pytest.raises(ValueError, match="no material that takes a colour"):
        thing.mesh("red")
    assert parse_real("a red horse") is None and parse_real("a horse, side view") == RealCaption("horse")


def test_a_room_is_closed_and_painted_as_it_is_told() -> None:
    caption = RoomCaption(Paint("blue"), Paint("red", "checkered", "white"), RealCaption("armchair", "green"))
    assert str(caption) == "a green armchair in a room with blue walls and a checkered red and white floor"
    mesh = room_mesh(caption, truth(RealCaption("armchair", "green")), azimuth=180.0)
    inside = orbit([0.0, 90.0, 200.0, 300.0], [20.0, -5.0, 10.0, 25.0], [0.3, 0.6, 1.0, 1.0], 75.0, 48)
    seen = rasterise([mesh], inside)
    assert (seen.alpha == 1).all() and (seen.depth > 0.2).all() and seen.depth.max() < 2 * np.linalg.norm(HALF)
    from_front = seen.rgb[0]  # looks along -x at the wall where the armchair stands
    assert ((from_front[1] > 1.5 * from_front[2]) & (from_front[1] > 1.5 * from_front[0])).float().mean() > 0.02
    blue = rasterise([room_mesh(RoomCaption(Paint("blue"), Paint("white")))], inside).rgb[:, :, 20, 24]
    assert (blue[:, 2] > 2 * blue[:, 0]).all()
