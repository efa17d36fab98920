"""The film of the live viewer in scripts/pictures: a run watched by a real browser.

    pip install playwright && apt-get install chromium
    python scripts/viewer_pictures.py                      # scripts/pictures/viewer.webp

The run waits for every picture, so that the film is as even on a slow machine as on a fast one.
"""

import argparse
import dataclasses
import io
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from splatdistill_viewer.cameras import turntable
from splatdistill_viewer.run_page import RunPage
from splatdistill_viewer.splats import pose_of

from splatdistill.api import settle
from splatdistill.priors import weights
from splatdistill.train.begin import begin
from splatdistill.train.commands import Commands
from splatdistill.train.events import StepDone
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir

OUT = Path(__file__).parent / "pictures"
LIMIT = 2_000_000  # bytes of the film
TURN = 4.0  # degrees between two pictures
ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
PATIENCE = 600_000  # milliseconds
DRAWN = "() => new Promise(r => { let n = 0; const drawn = () => ++n > 8 ? r() : requestAnimationFrame(drawn); drawn(); })"
"""Waits until the browser has drawn a few frames, however slow it is."""


def film(shots: list[bytes], path: Path, wide: int = 960, seconds: float = 0.2) -> None:
    """Write screenshots as an animated .webp under LIMIT bytes, the last one held for a while."""
    frames = [Image.open(io.BytesIO(s)).convert("RGB") for s in shots]
    frames = [f.resize((wide, round(f.height * wide / f.width)), Image.Resampling.LANCZOS) for f in frames]
    times = [int(1000 * seconds)] * (len(frames) - 1) + [2500]
    for quality in range(80, 10, -10):
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=quality, method=5)
        if path.stat().st_size <= LIMIT:
            break
    print(f"{path}: {path.stat().st_size} bytes, {len(frames)} frames, quality {quality}")


class Sitter:
    """Callback that lets the run wait now and then until the page is up to date and its picture is taken."""

    def __init__(self, live: RunPage, every: int) -> None:
        self.live, self.every = live, every
        self.ready, self.taken = threading.Event(), threading.Event()

    def __call__(self, event: object) -> None:
        """Handle an event of the run."""
        if not isinstance(event, StepDone) or event.step % self.every:
            return
        until = time.monotonic() + 1.5
        while time.monotonic() < until:  # the curves are drawn once a second
            self.live.guard(self.live.tick, True)
            time.sleep(0.05)
        self.ready.set()
        self.taken.wait()
        self.taken.clear()


def turned(live: RunPage) -> None:
    """Turn every page a little further around the object."""
    for b in live.browsers.all():
        if (pose := pose_of(b.client)) is not None:
            b.client.camera.position = turntable(pose, TURN, (0.0, 0.0, 0.0))
            b.client.camera.look_at = (0.0, 0.0, 0.0)


def main() -> None:
    """Run, look, take pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a red mushroom")
    parser.add_argument("--steps", type=int, default=0, help="of the run; 0: as the recipe says")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--out", type=Path, default=OUT, help="a folder")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    parsed, found = settle(args.prompt, "sdi", {"prior": weights.DEFAULT})
    config = dataclasses.replace(parsed.config, steps=args.steps or parsed.config.steps)
    session = begin(config, found.find(config.prior))
    commands, shots = Commands(), []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        live = RunPage(session, RunDir.create("p", Path(folder) / "run"), commands, 8950)
        sitter = Sitter(live, max(1, config.steps // args.frames))
        runner = threading.Thread(target=run, args=(session, live.folder, [live, sitter], commands), daemon=True)
        browser = playwright.chromium.launch(executable_path=args.chromium, headless=True, args=ARGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        page.goto(live.where[0])
        page.get_by_role("tab", name="Watch").wait_for()
        page.add_style_tag(content=".mantine-Notifications-root { display: none !important; }")  # of a software renderer
        runner.start()
        while runner.is_alive():
            if not sitter.ready.wait(1.0):
                continue
            sitter.ready.clear()
            page.wait_for_timeout(600)
            page.evaluate(DRAWN)
            shots.append(page.screenshot())
            turned(live)
            sitter.taken.set()
        browser.close()
        live.close()
    film(shots, args.out / "viewer.webp")


if __name__ == "__main__":
    main()
