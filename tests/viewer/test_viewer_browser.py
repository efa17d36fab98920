"""The pages in a real browser: headless Chromium, driven by playwright."""

import json
import threading
import time
from functools import partial

import numpy as np
import torch
from chromium import box, choose, needs_chromium, scene, until
from looker import browser_of
from splatdistill_viewer.gallery import Gallery
from splatdistill_viewer.run_page import RunPage
from splatdistill_viewer.variants_page import VariantsPage
from train.small import config, red_and_blue

from splatdistill.export.saved_splats import load_all
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.scene.initial import Ball, FromFile
from splatdistill.train import loop
from splatdistill.train.commands import Commands, SetField, Stop
from splatdistill.train.events import StepDone
from splatdistill.train.loop import run
from splatdistill.train.replay import Replay
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant, take_turns

pytestmark = needs_chromium


def curve(page) -> dict:
    """Return the first plot's points, and the range of its x."""
    return page.evaluate("""() => {
        const all = Object.values((window.__viserTestpoints || {}).uplots || {})
        if (!all.length) return {points: 0, min: 0, max: 0}
        const u = all[0].chart
        return {points: u.data[0].length, min: u.scales.x.min, max: u.scales.x.max}
    }""")


class Running:
    """Run and its viewer; `end` lets the page stay."""

    def __init__(self, folder, steps=1_000_000):
        self.config = config(steps=steps, init=Ball(count=400, radius=0.7, opacity=0.5, colour="random"))
        self.session = Session(self.config, red_and_blue())
        self.commands, self.steps = Commands(), []
        self.folder = RunDir.create("p", folder / "run")
        self.live = RunPage(self.session, self.folder, self.commands, 8800)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        note = lambda e: self.steps.append(e.step) if isinstance(e, StepDone) else None  # noqa: E731
        run(self.session, self.folder, [note, self.slowly, self.live], self.commands)
        self.live.write_replay()
        self.live.hold()

    def slowly(self, event):
        if isinstance(event, StepDone):
            time.sleep(0.05)  # leaves the browser some of a small machine

    def log(self, kind):
        lines = self.folder.log.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half written
        return [e["command"] for e in whole if e["event"] == kind]


def test_a_run_watched_steered_and_kept_in_a_browser(page, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))
    r = Running(tmp_path)
    try:
        # splats appear
        page.goto(r.live.where[0])
        page.get_by_role("tab", name="Watch").wait_for()
        until(lambda: scene(page).std() > 3)
        first = scene(page)
        # and change as steps go by
        r.thread.start()
        until(lambda: len(r.steps) > 40)
        until(lambda: np.abs(scene(page) - first).mean() > 0.5)
        page.get_by_text("running").first.wait_for()
        # what the prior wants: four pictures that are there
        pictures = page.locator("figure img")
        until(lambda: pictures.count() == 4 and all(pictures.nth(k).evaluate("e => e.naturalWidth") == 16 for k in range(4)))
        # curves that found their range, in a page that was open before the first step
        until(lambda: curve(page)["points"] > 20 and curve(page)["min"] < curve(page)["max"])
        # a slider changes the log
        page.get_by_role("tab", name="Steer").click()
        slider = page.locator("[role=slider]:visible").first
        slider.focus()
        slider.press("ArrowRight")
        until(lambda: {"name": "SetField", "path": "guidance.scale", "value": 1.1} in r.log("Applied"))
        # a number that may be none, to and fro
        page.get_by_text("times", exact=True).click()
        for typed, value in (("0.05", 0.05), ("", None)):
            box(page, "t min end").fill(typed)
            wanted = {"name": "SetField", "path": "guidance.times.t_min_end", "value": value}
            until(lambda wanted=wanted: wanted in r.log("Applied"))
        box(page, "t min end").fill("little")
        page.get_by_text("little").first.wait_for()  # why not
        until(lambda: box(page, "t min end").input_value() == "")
        # other words, which the run's prior must know, and another background
        box(page, "prompt").fill("a blue disc")
        box(page, "negative prompt").fill("a red disc")
        page.get_by_role("button", name="Apply prompt").click()
        until(lambda: {"name": "SetField", "path": "negative", "value": "a red disc"} in r.log("Applied"))
        page.get_by_text("a blue disc").first.wait_for()
        box(page, "prompt").fill("a green disc")
        page.get_by_role("button", name="Apply prompt").click()
        page.get_by_text("does not know the prompt").first.wait_for()  # in a note and beside the field
        assert box(page, "prompt").input_value() == "a green disc"  # to be edited
        page.get_by_text("training background", exact=True).click()
        box(page, "kind").click()
        page.get_by_role("option", name="black").click()
        until(lambda: {"name": "SetField", "path": "background.kind", "value": "black"} in r.log("Applied"))
        assert [(c["path"], c["value"]) for c in r.log("Refused")] == [("guidance.times.t_min_end", "little"), ("prompt", "a green disc")]
        # a pause holds the step counter, a single step moves it by one
        page.get_by_role("button", name="Pause", exact=True).click()
        until(lambda: {"name": "Pause"} in r.log("Applied"))
        held = len(r.steps)
        page.get_by_text("paused").first.wait_for()
        time.sleep(1)
        assert len(r.steps) == held
        page.get_by_role("button", name="Step", exact=True).click()
        until(lambda: len(r.steps) == held + 1)
        time.sleep(1)
        assert len(r.steps) == held + 1
        # what is exported loads
        page.get_by_role("tab", name="Keep").click()
        page.get_by_role("button", name="Export", exact=True).click()
        ply = until(lambda: list(r.folder.path.glob("exports/*.ply")))[0]
        assert len(load_ply(ply).strict()) == 400
        # the finished page stays
        r.commands.put(Stop())
        page.get_by_text("stopped").first.wait_for()
        until(lambda: page.get_by_role("button", name="Pause", exact=True).count() == 0)
        until(lambda: (r.folder.path / "replay.html").exists())
        page.get_by_role("tab", name="Watch").click()
        before = scene(page)
        page.get_by_label("turntable").check()
        until(lambda: np.abs(scene(page) - before).mean() > 0.5)
        assert not r.live.guard.off
    finally:
        r.commands.put(Stop())
        r.live.guard.off = True
        if r.thread.is_alive():
            r.thread.join(60)
        r.live.close()
    # the log repeats the run, bit for bit
    again, log = Session(r.config, red_and_blue()), r.folder.commands()
    assert {"prompt", "negative", "background.kind"} <= {g.command.path for g in log if isinstance(g.command, SetField)}
    run(again, RunDir.create("p", tmp_path / "again"), commands=Replay(given=log))
    assert again.state.step == r.session.state.step and torch.equal(again.gaussians().sh, r.session.gaussians().sh)
    # the film opens from disk and plays
    page.goto((r.folder.path / "replay.html").as_uri())
    until(lambda: scene(page).std() > 3)
    shots = [scene(page)]
    until(lambda: shots.append(scene(page)) or max(np.abs(s - shots[0]).mean() for s in shots) > 0.5)
    timeline = page.locator("[role=slider]").first  # hidden until the pointer is over it
    at = timeline.get_attribute("aria-valuenow")
    until(lambda: timeline.get_attribute("aria-valuenow") != at)


def test_variants_are_a_grid_and_one_is_refined_in_the_same_page(page, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))
    prior, ball = red_and_blue(), Ball(count=400, radius=0.7, opacity=0.5, colour="random")
    runs = [
        Variant(Session(config(steps=30, seed=s, init=ball), prior), RunDir.create("p", tmp_path / f"seed-{s}")) for s in range(4)
    ]
    grid, done, lives = VariantsPage(runs, 8820), [], []
    for k, r in enumerate(runs):
        r.callbacks.append(grid.callback(k))

    def work():
        take_turns(runs)
        done.append("variants")
        grid.hold()
        chosen = runs[grid.chosen]
        session = Session(config(steps=10, init=FromFile(chosen.folder.splats)), prior)
        live = RunPage(session, RunDir.create("p", tmp_path / "refined"), Commands(), server=grid.hand_over())
        lives.append(live)
        run(session, live.folder, [live], live.commands)
        live.hold()

    thread = threading.Thread(target=work, daemon=True)
    try:
        page.goto(grid.where[0])
        page.get_by_role("tab", name="Choose").wait_for()
        thread.start()
        until(lambda: done)
        page.get_by_text("done at step 30").nth(3).wait_for()
        until(lambda: scene(page).std() > 3)
        shot = scene(page)
        half = shot.shape[1] // 2
        for tile in (shot[:200, :half], shot[:200, half:], shot[200:, :half], shot[200:, half:]):
            assert tile.std() > 3, "something in every quarter"
        page.get_by_role("button", name="Refine this one").nth(2).click()
        page.get_by_role("tab", name="Watch").wait_for()
        page.get_by_text("done, step 10 of 10").first.wait_for()
        assert grid.chosen == 2 and len(lives) == 1 and not lives[0].guard.off
        until(lambda: scene(page).std() > 3)
    finally:
        for live in lives:
            live.guard.off = True
        grid.guard.off = True
        grid.chosen = grid.chosen or 0
        thread.join(60)
        (lives or [grid])[0].close()


def test_finished_work_is_looked_at_cleaned_and_exported_in_a_browser(page, tmp_path):
    g = Ball(count=300, radius=0.7, opacity=0.9, colour="random").make(torch.Generator().manual_seed(0))
    g.opacities[:40] = 0.02
    gallery = Gallery(load_all(write_ply(tmp_path / "thing.ply", g).path), 8840)
    thread = threading.Thread(target=gallery.hold, daemon=True)
    thread.start()
    try:
        page.goto(gallery.where[0])
        page.get_by_text("clean up").wait_for()
        until(lambda: scene(page).std() > 3)
        choose(page, "render mode", "normals")
        until(lambda: browser_of(gallery).has is not None and scene(page).std() > 3)
        sliders = page.locator("[role=slider]:visible")  # opacity, anisotropy, isolation
        sliders.first.focus()
        for _ in range(8):
            sliders.first.press("ArrowRight")
        page.get_by_text("Taken away: 40 of 300").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export cleaned").click()
        assert len(load_ply(download.value.path()).strict()) == len(load_ply(tmp_path / "thing-cleaned.ply").strict()) == 260
    finally:
        gallery.guard.off = True
        thread.join(60)
        gallery.close()


def test_ten_pages_come_and_go(browser, tmp_path):
    r = Running(tmp_path)
    r.thread.start()
    try:
        for _ in range(10):
            page = browser.new_page(viewport={"width": 320, "height": 240})
            page.goto(r.live.where[0])
            until(lambda: r.live.browsers.any)
            page.close()
            until(lambda: not r.live.browsers.any)
        steps = len(r.steps)
        until(lambda: len(r.steps) > steps + 5)
        assert r.live.server.get_clients() == {} and not r.live.guard.off
    finally:
        r.commands.put(Stop())
        r.live.guard.off = True
        r.thread.join(60)
        r.live.close()
