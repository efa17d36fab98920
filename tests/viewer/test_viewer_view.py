"""`splatdistill view`: what it opens, how works are shown together, and what cleaning writes."""

import dataclasses

import numpy as np
import pytest
import torch
from looker import FRONT, Looker, browser_of, until
from splatdistill_viewer.gallery import Gallery
from splatdistill_viewer.tiles import middle
from train.small import config, red_and_blue

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.export.saved_splats import SavedSplats, load_all
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.scene.initial import Ball, FromFile
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session


def some(n=80, seed=0):
    g = Ball(count=n, opacity=0.5).make(torch.Generator().manual_seed(seed))
    return dataclasses.replace(g, scales=torch.full((n, 3), 0.05))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a run of two particles."""
    folder = RunDir.create("p", tmp_path_factory.mktemp("view") / "run")
    session = Session(config(steps=3, particles=2), red_and_blue())
    run(session, folder)
    return folder, session


def test_runs_checkpoints_and_files_are_opened(finished, tmp_path):
    folder, session = finished
    means = [session.gaussians(k).means for k in range(2)]
    for path in (folder.path, folder.newest_checkpoint().path):
        works = load_all(path)
        assert len(works) == 2 and len({w.name for w in works}) == 2
        for w, m in zip(works, means):
            torch.testing.assert_close(w.gaussians.means, m, atol=1e-5, rtol=0)
    (one,) = load_all(folder.path / "splats-2.ply")
    torch.testing.assert_close(one.gaussians.means, means[1], atol=1e-5, rtol=0)
    for bad in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="expected a run, a checkpoint or a file of splats"):
            load_all(bad)


def test_cleaned_splats_are_written_beside_and_can_be_trained_further(tmp_path):
    g = some()
    g.means[5] = torch.tensor([3.5, 0.0, 0.0])
    g.opacities[7] = 0.002
    source = write_ply(tmp_path / "thing.ply", g).path
    told = []
    gallery = Gallery(load_all(source), 8720, report=told.append)
    try:
        with Looker(gallery.where[0]) as looker:
            until(lambda: gallery.browsers.any)
            looker.set(gallery.high, (1.5, 1.5, 1.5))
            looker.set(gallery.opacity, 0.01)
            until(lambda: gallery.opacity.value == 0.01 and gallery.high.value[0] == 1.5)
            until(lambda: "2 of 80" in gallery.left.content and len(browser_of(gallery).row.handles[0].centers) == 78, gallery.tick)
            assert len(browser_of(gallery).boxes) == 1
            gallery.ask_export(None)
            gallery.ask_export(None)  # pressed again before anything was done
            until(lambda: gallery.asked.empty, gallery.tick)
            gallery.ask_export(None)
            until(lambda: (tmp_path / "thing-cleaned-2.ply").exists(), gallery.tick)
            looker.set(gallery.low, (1.4, 1.4, 1.4))
            until(lambda: gallery.low.value[0] == 1.4)
            gallery.ask_export(None)
            until(lambda: gallery.asked.empty, gallery.tick)
    finally:
        gallery.close()
    assert not gallery.guard.off and sorted(p.name for p in tmp_path.iterdir()) == ["thing-cleaned-2.ply", "thing-cleaned.ply", "thing.ply"]
    cleaned = load_ply(tmp_path / "thing-cleaned.ply").strict()
    stays = torch.ones(80, dtype=torch.bool)
    stays[[5, 7]] = False
    torch.testing.assert_close(cleaned.means, g.means[stays], atol=1e-5, rtol=0)
    assert "--init" in told[0]
    session = Session(config(init=FromFile(tmp_path / "thing-cleaned.ply")), red_and_blue())
    assert session.step().gaussians == 78


@pytest.mark.parametrize("words", [["--init", "a/thing.ply"], ["--init=a/thing.ply"], ["--init", "ball", "--init=a/thing.ply"]])
def test_a_file_to_start_from_is_given_in_one_word(words):
    from splatdistill.cli.train import from_splats

    assert from_splats([*words, "--steps", "3"])[-4:] == ["--steps", "3", "--init=file", "--init.path=a/thing.ply"]
    assert from_splats(["--init", "blob"]) == ["--init", "blob"] and from_splats([]) == []


def test_several_works_are_looked_at_from_one_camera(tmp_path):
    works = [SavedSplats(n, tmp_path, some(seed=1), tmp_path) for n in "ab"]
    gallery = Gallery(works, 8730)
    drawn, draw = [], gallery.browsers.draw
    gallery.browsers.draw = lambda views: (drawn.extend(views), draw(views))
    try:
        with Looker(gallery.where[0], height=120, width=240) as looker:
            until(lambda: gallery.browsers.any)
            page = browser_of(gallery)
            looker.set(page.display.mode, "RGB (exact)")
            until(lambda: drawn and drawn[-1].what[2] == 120, gallery.tick)
            image = drawn[-1].image.astype(int)
            assert image.shape == (120, 240, 3) and image.std() > 3
            np.testing.assert_array_equal(image[30:, :120], image[30:, 120:], "the same splats from the same camera")
            assert (image[:30, :120] != image[:30, 120:]).any(), "each under its own name"
            until(lambda: not any(h.visible for h in page.row.handles), gallery.tick)  # from a browser that does not answer too
    finally:
        gallery.close()
    assert not gallery.guard.off


@pytest.mark.parametrize("side", [(0.0, 2.8, 0.5), (-2.0, -1.0, 1.0), (3.0, 0.0, 0.0)])
def test_works_stand_side_by_side_from_wherever_one_looks(tmp_path, side):
    for name in "ab":
        write_ply(tmp_path / f"{name}.ply", some())
    gallery = Gallery([*load_all(tmp_path / "a.ply"), *load_all(tmp_path / "b.ply")], 8760)
    try:
        with Looker(gallery.where[0]) as looker:
            until(lambda: gallery.browsers.any)
            looker.stand(FRONT[0], side)
            sight = np.array(side)[:2] / np.hypot(*side[:2])
            right = np.array([-sight[1], sight[0]])  # of one who looks along -sight

            def across() -> list[float]:
                first, second = (np.array(h.position)[:2] for h in browser_of(gallery).row.handles)
                return [float((second - first) @ right), abs(float((second - first) @ sight)), float(np.abs(first + second).max())]

            until(lambda: across()[1] < 1e-3 and across()[0] > 0.5, gallery.tick)
            assert across()[2] < 1e-6, "around the middle"
    finally:
        gallery.close()


def test_a_tile_sees_the_middle_of_the_view_at_its_size():
    from splatdistill.cameras import orbit
    from splatdistill.render import rasterizer

    whole, render = orbit([20.0], width=64, height=32), rasterizer("cpu")
    tile = render(some(), middle(whole, 32, 16)).rgb
    torch.testing.assert_close(tile, render(some(), whole).rgb[..., 8:24, 16:48], atol=1e-5, rtol=0)


def test_view_without_paths_and_of_nothing_are_explained(capsys, tmp_path):
    assert main(["view"]) == 2
    assert "what to look at" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "nothing")]) == 2
    assert "expected a run" in capsys.readouterr().err


def test_view_says_where_and_ends_with_ctrl_c(capsys, tmp_path, monkeypatch):
    path = write_ply(tmp_path / "thing.ply", some()).path

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Gallery, "tick", interrupted)
    assert main(["view", str(path), str(path), "--port", "8740"]) == 0
    said = capsys.readouterr().out
    assert "2 to see at http://127.0.0.1:87" in said and "ssh -L" in said
