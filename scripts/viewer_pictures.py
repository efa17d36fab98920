"""The picture of the live viewer in scripts/pictures, and if asked a film of it: a run watched by a real browser.

    pip install playwright && apt-get install chromium
    python scripts/viewer_pictures.py                      # scripts/pictures/viewer.png
    python scripts/viewer_pictures.py --film viewer.mp4    # and a film of the page while the object forms
"""

import argparse
import dataclasses
import io
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from splatdistill.cli.distil import settle
from splatdistill.io.video import write_mp4
from splatdistill.priors import weights
from splatdistill.train.events import Commands, Pause, StepDone, Stop
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill_viewer.live import Live

OUT = Path(__file__).parent / "pictures" / "viewer.png"
ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
PATIENCE = 600_000  # milliseconds


def save(shot: bytes, path: Path, colours: int = 128) -> None:
    """A screenshot as a small .png."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


def quiet(page: Page) -> None:
    """Without the notes that a software renderer brings up."""
    page.add_style_tag(content=".mantine-Notifications-root { display: none !important; }")


def main() -> None:
    """Run, look, take pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a red mushroom")
    parser.add_argument("--steps", type=int, default=0, help="of the run; 0: as the recipe says")
    parser.add_argument("--at", type=float, default=0.7, help="progress at which the picture is taken")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    config = settle(args.prompt, "sdi", {"prior": "tiny"})[0].config
    config = dataclasses.replace(config, steps=args.steps or config.steps)
    session = Session(config, weights.load(weights.find("tiny"), "cpu", "auto"))
    commands, there, shots = Commands(), threading.Event(), []
    with tempfile.TemporaryDirectory() as folder:
        live = Live(session, RunDir.create("p", Path(folder) / "run"), commands, 8950)

        def pause(event: object) -> None:
            if isinstance(event, StepDone) and event.step == int(args.at * config.steps):
                commands.put(Pause())
                there.set()

        runner = threading.Thread(target=run, args=(session, live.folder, [live, pause], commands))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.chromium, headless=True, args=ARGS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(PATIENCE)
            page.goto(live.where[0])
            page.get_by_role("tab", name="Watch").wait_for()
            quiet(page)
            runner.start()
            while not there.wait(0.5):
                if args.film:
                    shots.append(page.screenshot())
            time.sleep(3)
            save(page.screenshot(), args.out)
            browser.close()
        commands.put(Stop())
        runner.join()
        live.close()
    if args.film and shots:
        frames = [torch.from_numpy(np.array(Image.open(io.BytesIO(s)).convert("RGB"))).permute(2, 0, 1) / 255 for s in shots]
        print(args.film, write_mp4(args.film, frames, fps=6), "frames")


if __name__ == "__main__":
    main()
