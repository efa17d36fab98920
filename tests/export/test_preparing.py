"""Splats are moved, scaled, turned and thinned as asked, and stay what they look like."""

import dataclasses
from pathlib import Path

import pytest
import torch
from marked_cube import cube
from splats import ball, blobs, join

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.export.prepare import TARGETS, Preparation, thinned
from splatdistill.export.saved_splats import chosen, load
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import along_a_curve, box, importance, sphere
from splatdistill.io.ply import write_ply
from splatdistill.io.spz import write_spz
from splatdistill.render.reference import reference_rasterizer


def picture(g: Gaussians, azimuth: float = 30.0, distance: float = 3.0) -> torch.Tensor:
    return reference_rasterizer()(g, orbit([azimuth], 15.0, distance, 43.0, 48)).rgb[0]


def test_the_box_holds_what_is_seen_and_no_strays():
    low, high = box(cube())
    torch.testing.assert_close(low, torch.tensor([-0.4, -0.4, -0.4]), rtol=0, atol=0.05)
    torch.testing.assert_close(high, torch.tensor([0.43, 0.4, 0.69]), rtol=0, atol=0.05)
    stray = ball([50.0, 0, 0], 0.01, 0.01, [1.0, 0, 0]).to(dtype=torch.float32).with_degree(1)
    torch.testing.assert_close(torch.stack(box(join(cube(), stray))), torch.stack([low, high]), rtol=0, atol=0.02)
    middle, radius = sphere(join(cube(), stray))
    assert 0.5 < radius < 1.0 and middle.norm() < 0.3


@pytest.mark.parametrize(
    ("pivot", "origin"), [("keep", None), ("centre", [0.5, 0.5, 0.5]), ("ground", [0.5, 0.5, 0.0])]
)
def test_the_origin_becomes_what_was_asked(pivot, origin):
    g = dataclasses.replace(cube(), means=cube().means + torch.tensor([3.0, -2.0, 7.0]))
    low, high = box(Preparation(pivot=pivot).of(g))
    if origin is None:
        assert torch.equal(Preparation(pivot=pivot).of(g).means, g.means)
    else:
        at = -low / (high - low)
        torch.testing.assert_close(at, torch.tensor(origin), rtol=0, atol=1e-4)


def test_height_and_scale_make_it_so_tall():
    ready = Preparation(height=2.0, scale=3.0).of(cube())
    low, high = box(ready)
    assert (high - low)[2].item() == pytest.approx(6.0, rel=1e-4)
    factor = (ready.means[0] / cube().means[0])[0]
    torch.testing.assert_close(ready.scales, factor * cube().scales)
    bigger = picture(ready, distance=3.0 * factor.item())
    torch.testing.assert_close(bigger, picture(cube()), rtol=0, atol=1e-3)


def test_facing_turns_that_side_to_the_front():
    turned = Preparation(facing=90.0).of(cube())
    torch.testing.assert_close(picture(turned, 30.0), picture(cube(), 120.0), rtol=0, atol=2e-3)


def test_degree_and_opacity_cut():
    g = join(cube(), ball([0, 0, 0], 0.1, 0.02, [1, 1, 1]).to(dtype=torch.float32).with_degree(1))
    ready = Preparation(degree=0, min_opacity=0.1).of(g)
    assert ready.degree == 0 and len(ready) == len(g) - 1
    assert Preparation(degree=3).of(g).degree == 1  # nothing is made up


def test_a_budget_keeps_what_matters_in_order(rng):
    g = blobs(50, rng)
    few = thinned(g, 20)
    assert len(few) == 20 and thinned(g, 99) is g
    cut = importance(g).sort(descending=True).values[19]
    assert torch.equal(few.means, g.means[importance(g) >= cut])


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0.0},
        {"scale": -1.0},
        {"scale": float("inf")},
        {"degree": 4},
        {"min_opacity": 1.0},
        {"facing": float("nan")},
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        Preparation(**wrong).of(cube())


def test_nothing_left_is_explained():
    with pytest.raises(UserError, match="most opaque"):
        Preparation(min_opacity=0.999).of(cube())
    with pytest.raises(UserError, match="--budget"):
        thinned(cube(), 0)


def test_engines_get_the_floor_and_their_units():
    assert all(TARGETS[t].pivot == "ground" for t in ("blender", "unity", "unreal"))
    assert TARGETS["unreal"].unit == 100 and TARGETS["web"].pivot == "keep"


def test_runs_and_files_are_found(tmp_path: Path):
    run = tmp_path / "run"
    write_ply(run / "splats.ply", cube(), ["prompt a cube", "prior tiny"])
    write_ply(run / "splats-2.ply", cube()[:9])
    write_spz(tmp_path / "a.spz", cube())
    assert [len(w.gaussians) for w in load(run)] == [len(cube()), 9]
    assert load(run)[0].comments == ("prompt a cube", "prior tiny")
    assert len(chosen(run, 2).gaussians) == 9 and len(chosen(tmp_path / "a.spz", 1).gaussians) == len(cube())
    for path, message in ((tmp_path, "holds neither"), (tmp_path / "x", "there is no")):
        with pytest.raises(UserError, match=message):
            load(path)
    with pytest.raises(UserError, match="no --particle 3"):
        chosen(run, 3)


def test_a_curve_keeps_neighbours_together(rng):
    places = torch.rand(500, 3, generator=rng).numpy()
    order = along_a_curve(places)
    assert sorted(order) == list(range(500))
    step = abs(places[order][1:] - places[order][:-1]).sum(1).mean()
    assert step < 0.4 * abs(places[1:] - places[:-1]).sum(1).mean()
