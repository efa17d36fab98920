"""Rows that are no Gaussians are left out and counted by reason; flat ones are surfels; whatever was changed is told."""

import gzip
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from test_ply import OTHERS, gaussians

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.export.saved_splats import load
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats, read_splats
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.io.points import read_points
from splatdistill.io.rows import FLAT, judged
from splatdistill.io.sog import write_sog
from splatdistill.io.spz import write_spz
from splatdistill.render.reference import reference_rasterizer
from splatdistill.scene.initial import FromFile

RGB = ("red", "green", "blue")


def rows(n: int = 12, without: tuple[str, ...] = (), **columns: object) -> np.ndarray:
    """Round opaque splats around the origin, as a file's rows; some columns otherwise, or not there."""
    rng = np.random.default_rng(0)
    names = [name for name in [*OTHERS, *(c for c in columns if c not in OTHERS)] if name not in without]
    out = np.zeros(n, [(name, np.asarray(columns[name]).dtype if name in columns else "f4") for name in names])
    usual = {"rot_0": 1, "opacity": 3, "scale_0": -2, "scale_1": -2, "scale_2": -2, "f_dc_0": 1.5, "f_dc_1": -1}
    for name in names:
        out[name] = columns.get(name, rng.normal(scale=0.4, size=n) if name in "xyz" else usual.get(name, 0))
    return out


def write(path: Path, data: np.ndarray, **options: object) -> Path:
    PlyData([PlyElement.describe(data, "vertex")], **options).write(str(path))
    return path


def picture(g: Gaussians) -> torch.Tensor:
    return reference_rasterizer()(g, orbit([20.0], 10.0, 4.0, 40.0, 40)).rgb[0]


def test_every_reason_is_counted_once(tmp_path: Path) -> None:
    g = gaussians(12)
    g.means[0, 1] = torch.nan
    g.means[1, 2], g.quats[1] = 1e25, torch.zeros(4)  # two things are wrong: counted under the first
    g.scales[2, 0], g.scales[3], g.scales[4, 1] = torch.inf, 0.0, -1.0
    g.quats[5], g.quats[6, 0] = 0.0, torch.nan
    g.opacities[7], g.sh[8, 3, 1] = torch.nan, torch.inf
    found = judged(tmp_path / "a.ply", g)
    assert list(found.dropped.values()) == [2, 1, 2, 2, 1, 1] and found.rows == 12 and len(found.gaussians) == 3
    assert [reason.split()[1] for reason in found.dropped] == ["position", "size", "size", "rotation", "opacity", "colour"]
    assert "left out 9 of 12 rows (2 with a position" in found.messages()[0]
    with pytest.raises(UserError, match=r"9 of 12 rows \(2 with a position.*--init\.drop-invalid"):
        found.strict()
    assert torch.equal(found.strict(drop_invalid=True).means, g.means[9:])
    with pytest.raises(UserError, match=r"no usable.*2 of 2 rows \(2 with a position"):
        judged(tmp_path / "a.ply", g[:2])
    with pytest.warns(UserWarning, match="left out 2 of 12"):
        read_splats(write(tmp_path / "a.ply", rows(x=np.where(np.arange(12) < 2, np.inf, 0.1).astype("f4"))), drop_invalid=True)


def test_quaternions_of_any_length_are_rotations(tmp_path: Path) -> None:
    for length in (1e-30, 1e-8, 1.0, 1e25, 3e38):
        write(tmp_path / "a.ply", rows(rot_0=np.full(12, length, "f4")))
        found = load_splats(tmp_path / "a.ply")
        assert not found.dropped
        torch.testing.assert_close(found.gaussians.quats.norm(dim=1), torch.ones(12))


def test_opaque_without_bounds_is_opaque(tmp_path: Path) -> None:
    logits = np.array([np.inf, -np.inf, 200, -200] * 3, "f4")
    found = load_splats(write(tmp_path / "a.ply", rows(opacity=logits)))
    assert not found.dropped and found.gaussians.opacities.tolist() == pytest.approx([1, 0, 1, 0] * 3)


@pytest.mark.parametrize("kind", ["minus infinity", "underflow", "denormal", "two scales"])
def test_flat_splats_are_surfels_and_are_seen(tmp_path: Path, kind: str) -> None:
    """Their picture is that of the same discs with a little thickness, written as such."""
    logs = {"minus infinity": -np.inf, "underflow": -104.0, "denormal": -90.0}
    data = rows(without=("scale_2",)) if kind == "two scales" else rows(scale_2=np.full(12, logs[kind], "f4"))
    found = load_splats(write(tmp_path / "a.ply", data))
    assert not found.dropped and "12 flat splats" in found.messages()[0]
    thin, longest = found.gaussians.scales.min(1).values, found.gaussians.scales.amax(1)
    torch.testing.assert_close(thin, FLAT * longest)
    disc = load_splats(write(tmp_path / "b.ply", rows(scale_2=np.full(12, -2 + np.log(2e-3), "f4"))))
    assert not disc.notes
    shown = picture(found.gaussians)
    assert shown.mean() > 0.02
    torch.testing.assert_close(shown, picture(disc.gaussians), rtol=0, atol=0.02)
    write_ply(tmp_path / "c.ply", found.gaussians)  # and again: nothing is flat any more
    assert len(load_ply(tmp_path / "c.ply").strict()) == 12


def test_what_is_thin_but_not_flat_stays_as_it_is(tmp_path: Path) -> None:
    found = load_splats(write(tmp_path / "a.ply", rows(scale_1=np.full(12, -2 + np.log(2e-4), "f4"))))
    assert not found.notes and found.gaussians.scales.min().item() == pytest.approx(2e-4 * np.exp(-2), rel=1e-4)


def test_a_scene_with_an_axis_that_vanished_is_written(tmp_path: Path) -> None:
    g = gaussians(4)
    g.scales[2, 1] = 0.0
    assert write_ply(tmp_path / "a.ply", g).dropped == 0 and len(load_ply(tmp_path / "a.ply").strict()) == 4


def test_balls_have_one_size(tmp_path: Path) -> None:
    found = load_splats(write(tmp_path / "a.ply", rows(without=("scale_1", "scale_2"))))
    torch.testing.assert_close(found.gaussians.scales, torch.full((12, 3), float(np.exp(-2))))


@pytest.mark.parametrize(("full", "kind"), [(255, "u1"), (65535, "u2"), (255, "f4"), (65535, "f4"), (1, "f4"), (1, "f8")])
def test_colours_of_every_range_are_the_same(tmp_path: Path, full: int, kind: str) -> None:
    """As integers, as floats of 0 to 1, and as floats of the integers' range, which is told; of splats and of points."""
    colour = {c: (np.full(12, v) * full).round(0 if full > 1 else 3).astype(kind) for c, v in zip(RGB, (0.8, 0.16, 0.12))}
    data = rows(without=("f_dc_0", "f_dc_1", "f_dc_2"), **colour)
    found = load_splats(write(tmp_path / "a.ply", data))
    torch.testing.assert_close(found.gaussians.rgb, torch.tensor([[0.8, 0.16, 0.12]]).expand(12, 3), rtol=0, atol=2e-3)
    guessed = full > 1 and kind[0] == "f"
    assert ("taken as 0 to" in " ".join(found.messages())) == guessed
    for prefix in ("", "diffuse_"):
        names = {f"{prefix}{c}": v for c, v in colour.items()}
        points = np.zeros(12, [*((n, "f4") for n in "xyz"), *((n, kind) for n in names)])
        for name, values in names.items():
            points[name] = values
        got = read_points(write(tmp_path / "b.ply", points))
        assert got.rgb is not None and bool(got.notes) == guessed
        torch.testing.assert_close(got.rgb[0], torch.tensor([0.8, 0.16, 0.12]), rtol=0, atol=2e-3)


def test_colours_that_shine_a_little_are_no_bytes(tmp_path: Path) -> None:
    colour = {c: np.full(12, v, "f4") for c, v in zip(RGB, (1.3, 0.5, 0.1))}
    found = load_splats(write(tmp_path / "a.ply", rows(without=("f_dc_0", "f_dc_1", "f_dc_2"), **colour)))
    assert not found.notes and found.gaussians.rgb[0].tolist() == pytest.approx([1.3, 0.5, 0.1], abs=1e-5)


def test_alpha_stands_for_opacity(tmp_path: Path) -> None:
    colour = {c: np.full(12, v, "u1") for c, v in zip((*RGB, "alpha"), (204, 40, 30, 51))}
    found = load_splats(write(tmp_path / "a.ply", rows(without=("opacity", "f_dc_0", "f_dc_1", "f_dc_2"), **colour)))
    assert found.gaussians.opacities[0].item() == pytest.approx(0.2)


def test_doubles_stay_double_until_they_are_moved(tmp_path: Path) -> None:
    at = np.array([4.5e5, 5.4e6, 100.0])
    near = rows()
    far = rows(**{c: near[c].astype("f8") + o for c, o in zip("xyz", at)})
    found = load_splats(write(tmp_path / "a.ply", far)).gaussians
    assert found.means.dtype == torch.float64 and found.scales.dtype == torch.float32
    here = read_splats(write(tmp_path / "b.ply", near))
    torch.testing.assert_close(
        found.means - found.means.mean(0), here.means.double() - here.means.double().mean(0), rtol=0, atol=1e-6
    )
    with pytest.raises(UserError, match=r"a run's cameras.*--init\.centre"):
        FromFile(path=tmp_path / "a.ply").make(torch.Generator())
    begun = FromFile(path=tmp_path / "a.ply", centre=True).make(torch.Generator())
    assert begun.means.dtype == torch.float32
    torch.testing.assert_close(begun.means - begun.means.mean(0), here.means - here.means.mean(0), rtol=0, atol=1e-5)
    points = write(tmp_path / "c.ply", far[["x", "y", "z"]].astype([(c, "f8") for c in "xyz"]))
    begun = FromFile(path=points, centre=True).make(torch.Generator())
    assert begun.means.abs().max() < 2 and begun.scales.min() > 1e-3


def test_floats_that_lost_their_places_are_told(tmp_path: Path) -> None:
    far = rows(x=(rows()["x"] + 431_000).astype("f4"), scale_0=np.full(12, -4, "f4"), scale_1=np.full(12, -4, "f4"), scale_2=np.full(12, -4, "f4"))
    assert "steps of 0.031" in load_splats(write(tmp_path / "a.ply", far)).messages()[0]
    assert not load_splats(write(tmp_path / "a.ply", rows())).messages()


def test_an_spz_of_several_gzip_members_is_one_file(tmp_path: Path) -> None:
    write_spz(tmp_path / "a.spz", gaussians(50, 1))
    raw, expected = gzip.decompress((tmp_path / "a.spz").read_bytes()), read_splats(tmp_path / "a.spz")
    for cuts in ([7], [16, 17, 400], [0, len(raw)], [300, 300]):
        parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)])]
        for between in (b"", bytes(70_000)):
            (tmp_path / "b.spz").write_bytes(between.join(gzip.compress(part, 1) for part in parts) + between)
            assert torch.equal(read_splats(tmp_path / "b.spz").means, expected.means)
    (tmp_path / "b.spz").write_bytes(gzip.compress(raw[:300]) + b"something else")
    with pytest.raises(UserError, match="truncated"):
        read_splats(tmp_path / "b.spz")


def test_an_unbundled_sog_is_read_by_its_folder_and_by_its_meta(tmp_path: Path, rng: torch.Generator) -> None:
    write_sog(tmp_path / "a.sog", gaussians(40, 1))
    expected, folder = read_splats(tmp_path / "a.sog"), tmp_path / "scene"
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        archive.extractall(folder)
    for path in (folder, folder / "meta.json"):
        assert torch.equal(read_splats(path).means, expected.means)
        assert torch.equal(FromFile(path=path).make(rng).means, expected.means)
        assert torch.equal(load(path)[0].gaussians.means, expected.means)
    with zipfile.ZipFile(tmp_path / "b.sog", "w") as archive:  # and as a zipped folder
        for file in folder.iterdir():
            archive.write(file, f"a/scene/{file.name}")
    assert torch.equal(read_splats(tmp_path / "b.sog").means, expected.means)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    shutil.move(folder / "means_l.webp", tmp_path / "elsewhere.webp")
    for name, message in (("../elsewhere.webp", "not in the folder"), ("means_l.webp", "no file"), ("..", "not in the folder")):
        meta["means"]["files"][0] = name
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_splats(folder)


def test_paths_may_be_text(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ply")
    write_ply(path, gaussians(8))
    assert len(load_ply(path).strict()) == len(read_splats(path)) == len(load(path)[0].gaussians) == 8
    assert len(read_points(path).xyz) == 8
    for kind, writer in (("spz", write_spz), ("sog", write_sog)):
        writer(f"{tmp_path}/a.{kind}", gaussians(8, 0))
        assert len(read_splats(f"{tmp_path}/a.{kind}")) == 8
    with pytest.raises(UserError, match="no file"):
        load_ply(str(tmp_path / "b.ply")).strict()


def test_names_that_no_system_takes_are_explained(tmp_path: Path) -> None:
    for name in ("a\0b.ply", "x" * 5000 + ".ply"):
        for read in (read_splats, load):
            with pytest.raises(UserError, match="cannot read|no file|there is no"):
                read(tmp_path / name)


def test_a_file_of_another_kind_says_what_is_taken(tmp_path: Path, rng: torch.Generator) -> None:
    for name in ("a.glb", "a.stl"):
        (tmp_path / name).write_bytes(b"glTF" + bytes(60))
    for read in (read_splats, load):
        with pytest.raises(UserError, match=r"a \.glb is no format.*expected \.ply, \.splat, \.spz, \.sog"):
            read(tmp_path / "a.glb")
    with pytest.raises(UserError, match=r"a\.glb cannot be read as a mesh.*expected \.glb, \.gltf, \.obj"):  # which a start may be
        FromFile(path=tmp_path / "a.glb").make(rng)
    with pytest.raises(UserError, match=r"a \.stl is no format.*expected \.ply"):
        FromFile(path=tmp_path / "a.stl").make(rng)


def test_rows_that_are_replaced_keep_their_checks() -> None:
    g = gaussians(3)
    assert len(judged("x.ply", replace(g, quats=2 * g.quats)).gaussians) == 3


@pytest.mark.parametrize("most", [1e-6, 0.003, 0.005, 0.9])
def test_splats_that_nothing_shows_are_told(most: float) -> None:
    """As of a run that has faded away."""
    g = gaussians(5)
    told = judged("x.ply", replace(g, opacities=torch.full((5,), most))).messages()
    assert ("nothing of it is seen" in " ".join(told)) == (most < 1 / 255)
