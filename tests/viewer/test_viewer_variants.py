"""Variants in one page: the grid, the choice, and what goes on; from the command line, with someone who looks on."""

import threading

import numpy as np
import pytest
import torch
import yaml
from looker import Looker, browser_of, until
from splatdistill_viewer import variants_page
from splatdistill_viewer.server import FOV
from splatdistill_viewer.tiles import APART, NAMED, places, reach, shape, stand, under
from splatdistill_viewer.variants_page import VariantsPage
from train.small import config, red_and_blue

from splatdistill.cli import main
from splatdistill.export.saved_splats import load_all
from splatdistill.gaussians import Gaussians
from splatdistill.scene.initial import Ball
from splatdistill.settings.resolve import cards
from splatdistill.train.commands import Continue, Pause, SetField, Stop
from splatdistill.train.events import StepDone
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant, take_turns

pytestmark = pytest.mark.usefixtures("short_films")


def test_few_stand_in_a_row_and_more_in_a_grid():
    assert [shape(n) for n in (1, 2, 3, 4, 5, 9)] == [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]
    four = np.array(places(4, 2.0))
    assert four.tolist() == [[0, -1, 1], [0, 1, 1], [0, -1, -1], [0, 1, -1]] and len(set(places(9, 1.0))) == 9


@pytest.mark.parametrize("n", [2, 4, 9])
def test_names_stand_above_tall_objects_within_the_view(n):
    tall, line = 0.95, 0.1  # a snowman with its hat; a name's height in a page of 800 pixels
    eye = np.array(stand(n, APART))
    ahead = -eye / np.linalg.norm(eye)
    up = np.array([0, 0, 1.0]) - ahead[2] * ahead
    up /= np.linalg.norm(up)
    assert NAMED[2] >= tall and NAMED[2] + line <= APART - tall
    for place in places(n, APART):
        for z in (NAMED[2] + line, -tall):
            seen = np.add(place, (0, 0, z)) - eye
            assert abs(seen @ up) / (seen @ ahead) < np.tan(np.radians(FOV / 2))


def test_how_far_a_tall_object_reaches_is_its_height_and_not_its_mean_side():
    g = Gaussians(torch.zeros(100, 3), torch.tensor([[1.0, 0, 0, 0]]).expand(100, 4), torch.full((100, 3), 0.01), torch.ones(100), torch.zeros(100, 1, 3))
    g.means[:, 2] = torch.linspace(-0.9, 0.9, 100)
    g.means[0, 0] = 50.0  # a stray
    assert 0.85 < reach(g) < 0.95 and reach(g[:0]) == 1.0


def test_all_are_shown_and_steered_and_one_is_chosen(tmp_path):
    prior, steps = red_and_blue(), []
    runs = [
        Variant(Session(config(steps=100_000, seed=s, init=Ball(count=60, opacity=0.5)), prior), RunDir.create("p", tmp_path / f"seed-{s}"))
        for s in range(4)
    ]
    page = VariantsPage(runs, 8760)
    for k, r in enumerate(runs):
        r.commands.put(Pause())
        r.callbacks += [lambda e: steps.append(e.step) if isinstance(e, StepDone) else None, page.callback(k)]
    thread = threading.Thread(target=take_turns, args=(runs,))
    thread.start()
    try:
        with Looker(page.where[0], height=60, width=60) as looker:
            until(lambda: page.browsers.any)
            browser = browser_of(page)
            handles = browser.row.handles
            before = [h.centers.copy() for h in handles]
            page.put(Continue())
            until(lambda: all(not np.array_equal(h.centers, b) for h, b in zip(handles, before)))
            looker.set(page.steering.handles["guidance.scale"], 3.5)
            until(lambda: all(r.session.config.guidance.scale == 3.5 for r in runs))
            drawn, draw = [], page.browsers.draw
            page.browsers.draw = lambda views: (drawn.extend(views), draw(views))
            looker.set(browser.display.mode, "RGB (exact)")
            until(lambda: drawn)
            image = drawn[-1].image
            tiles = [image[r : r + 30, c : c + 30] for r in (0, 30) for c in (0, 30)]
            assert image.shape == (60, 60, 3) and all(t.std() > 3 for t in tiles)
            looker.click(browser.display.preparing)
            until(lambda: not any(h.visible for h in handles))
            page.choose(2)
            until(lambda: sum(r.result is not None for r in runs) == 3)
            assert page.chosen == 2 and runs[2].result is None and "stopped" in page.states[0]
            runs[2].commands.put(Stop())
            thread.join(300)
    finally:
        page.put(Stop())
        thread.join(300)
        page.close()
    assert not page.guard.off and not thread.is_alive()
    assert all(SetField("guidance.scale", 3.5) in [g.command for g in commands_of(r)] for r in runs)


def commands_of(run):
    return run.folder.commands()


@pytest.fixture
def train(tmp_path, monkeypatch):
    from helpers import write_sd_folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prior = write_sd_folder(tmp_path / "sd")
    small = ["--prompt", "a red mushroom", "--steps", "3", "--batch", "1", "--init.count", "40", "--device", "cpu", "--prior", str(prior)]
    return lambda *more: main(["train", *small, *more])


def test_refine_this_one_goes_on_in_the_same_page(train, tmp_path, monkeypatch, capsys):
    class Clicked(VariantsPage):
        """Someone presses the second button at the first step."""

        def receive(self, k, event):
            if isinstance(event, StepDone) and self.chosen is None:
                with Looker(self.where[0]) as looker:
                    until(lambda: self.browsers.any)
                    button = [h for h in self.server.gui._gui_input_handle_from_uuid.values() if getattr(h, "label", "") == "Refine this one"][1]
                    looker.click(button)
                    until(lambda: self.chosen is not None)
            super().receive(k, event)

    monkeypatch.setattr(variants_page, "VariantsPage", Clicked)
    assert train("--variants", "3", "--viewer", "--no-wait", "--port", "8770", "--out", "v") == 0
    said = capsys.readouterr().out
    assert said.count("watch and steer it at http://127.0.0.1:87") == 2 and len({w for w in said.split() if w.startswith("http://127")}) == 1
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == ["seed-0", "seed-1", "seed-1-refined", "seed-2"]
    before, after = (yaml.safe_load((tmp_path / "v" / n / "config.yaml").read_text(encoding="utf-8")) for n in ("seed-1", "seed-1-refined"))
    assert after["batch"] == 2 * before["batch"] and 0.4 < after["guidance"]["times"]["t_max"] < (before["guidance"]["times"]["t_max"] or 0.98)
    assert after["init"]["path"].endswith("seed-1/splats.ply") and after["seed"] == before["seed"] == 1
    assert (tmp_path / "v" / "seed-1-refined" / "replay.html").exists()
    assert len(load_all(tmp_path / "v")) == 4


def test_variants_are_spread_over_the_devices_that_there_are(train, tmp_path, capsys, monkeypatch):
    """Of a CPU torch knows two names; the same seeds make the same splats on either."""
    assert train("--variants", "3", "--out", "alone") == 0
    monkeypatch.setattr("splatdistill.cli.train.cards", lambda device: [device, "cpu:0"])
    assert train("--variants", "3", "--out", "spread") == 0
    assert "spread over cpu, cpu:0" in capsys.readouterr().out
    for seed in range(3):
        one, other = (tmp_path / where / f"seed-{seed}" for where in ("alone", "spread"))
        assert (one / "splats.ply").read_bytes() == (other / "splats.ply").read_bytes()
        assert yaml.safe_load((other / "config.yaml").read_text(encoding="utf-8"))["device"] == ("cpu:0" if seed == 1 else "cpu")


def test_all_cards_are_counted_where_any_was_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert cards("cuda") == ["cuda", "cuda:1", "cuda:2"] and cards("cuda:1") == ["cuda:1"] and cards("cpu") == ["cpu"]


def test_variants_and_refining_without_a_page(train, tmp_path, capsys):
    assert train("--variants", "2", "--seed", "5", "--out", "v") == 0
    assert "splatdistill train --refine v/seed-5" in capsys.readouterr().out
    assert main(["train", "--refine", "v/seed-6", "--steps", "2", "--out", "r"]) == 0
    made = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text(encoding="utf-8"))
    assert made["steps"] == 2 and made["init"]["name"] == "file" and made["prompt"] == "a red mushroom"
    for bad in (["--refine", "v"], ["--refine", "v/seed-5", "--replay", "v/seed-5"], ["--prompt", "a red mushroom", "--variants", "50"]):
        assert main(["train", *bad]) == 2
    assert "directory of a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 120, 400])
def test_a_picture_has_its_name_at_its_top_where_there_is_room(width):
    plain = np.full((120, width, 3), 90, np.uint8)
    named = under("a run in a folder with quite a long name", plain)
    changed = (named != plain).any(2)
    assert changed.any() and not changed[30:].any() and not changed[:, [0, -1]].any(), "the name stays within its picture"
    assert np.array_equal(plain, np.full_like(plain, 90)) and under("", plain) is plain
    np.testing.assert_array_equal(under("a", plain[:50]), plain[:50])
