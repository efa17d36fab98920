"""The pages in a real browser: headless Chromium, driven by playwright.

    pip install playwright && apt-get install chromium     (any Chromium: name it with $CHROMIUM)
"""

import io
import json
import os
import shutil
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from splatdistill.io.ply import read_ply
from splatdistill.scene.initial import Ball
from splatdistill.train import loop
from splatdistill.train.events import Commands, StepDone, Stop
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill_viewer.live import Live
from train.small import config, red_and_blue

ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
PATIENCE = 300_000  # milliseconds: a busy machine draws slowly

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one with $CHROMIUM")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 760, "height": 480}, accept_downloads=True)
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def scene(page) -> np.ndarray:
    """What the canvas shows, away from the panel."""
    clip = {"x": 0, "y": 40, "width": 340, "height": 400}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(float)


def until(condition, seconds=PATIENCE / 1000):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.3)
    return found


class Running:
    """A run and its viewer; `end` lets the page stay."""

    def __init__(self, folder, steps=1_000_000):
        self.session = Session(config(steps=steps, init=Ball(count=400, radius=0.7, opacity=0.5, colour="random")), red_and_blue())
        self.commands, self.steps = Commands(), []
        self.folder = RunDir.create("p", folder / "run")
        self.live = Live(self.session, self.folder, self.commands, 8800)
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
        return [e["command"] for e in map(json.loads, self.folder.log.read_text().splitlines()) if e["event"] == kind]


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
        # a control changes the log
        page.get_by_role("tab", name="Steer").click()
        scale = page.get_by_label("scale", exact=True).first
        field = scale if scale.evaluate("e => e.tagName") == "INPUT" else page.locator("input[value='1']").first
        field.fill("3.5")
        field.press("Enter")
        until(lambda: {"name": "SetField", "path": "guidance.scale", "value": 3.5} in r.log("Applied"))
        # a pause holds the step counter, a single step moves it by one
        page.get_by_role("button", name="Pause").click()
        until(lambda: {"name": "Pause"} in r.log("Applied"))
        held = len(r.steps)
        page.get_by_text("paused").first.wait_for()
        time.sleep(1)
        assert len(r.steps) == held
        page.get_by_role("button", name="One step").click()
        until(lambda: len(r.steps) == held + 1)
        time.sleep(1)
        assert len(r.steps) == held + 1
        # what is exported loads
        page.get_by_role("tab", name="Keep").click()
        page.get_by_role("button", name="Splats").click()
        ply = until(lambda: list(r.folder.path.glob("exports/*.ply")))[0]
        assert len(read_ply(ply)) == 400
        # the finished page stays
        r.commands.put(Stop())
        page.get_by_text("stopped").first.wait_for()
        until(lambda: (r.folder.path / "replay.html").exists())
        page.get_by_role("tab", name="Watch").click()
        box = page.get_by_label("turntable")
        before = scene(page)
        box.check()
        until(lambda: np.abs(scene(page) - before).mean() > 0.5)
        assert not r.live.guard.off
    finally:
        r.commands.put(Stop())
        r.live.guard.off = True
        if r.thread.is_alive():
            r.thread.join(60)
        r.live.close()
    # the replay opens from disk and plays
    page.goto((r.folder.path / "replay.html").as_uri())
    until(lambda: scene(page).std() > 3)
    pictures = [scene(page)]
    until(lambda: pictures.append(scene(page)) or max(np.abs(p - pictures[0]).mean() for p in pictures) > 0.5)
