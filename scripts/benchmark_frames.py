"""Frames a second that a browser draws of many splats: on our page, and on viser's own example with nothing but them.

    pip install playwright && apt-get install chromium
    python scripts/benchmark_frames.py                     # 100,000 splats at 1280 x 800 by Chromium's software renderer
    python scripts/benchmark_frames.py --gpu               # by the graphics card

A hand drags the object round without a pause, and the frames that the browser draws meanwhile are counted. The two pages take
turns, so that both meet the same machine.
"""

import argparse
import math
import statistics
import threading
import time
from pathlib import Path

import torch
import viser
from playwright.sync_api import Page, sync_playwright
from splatdistill_viewer.gallery import Gallery
from splatdistill_viewer.server import FOV, START, quietly
from splatdistill_viewer.snapshot import snapshot
from viewer_pictures import ARGS, PATIENCE

from splatdistill.export.saved_splats import SavedSplats
from splatdistill.gaussians import Gaussians

COUNT = "() => { window.drawn = []; const on = t => { window.drawn.push(t); requestAnimationFrame(on); }; requestAnimationFrame(on); }"
RENDERER = """() => {
    const gl = document.createElement("canvas").getContext("webgl2"), info = gl?.getExtension("WEBGL_debug_renderer_info");
    return gl ? gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER) : "no WebGL";
}"""
WIDE, TALL = 1280, 800


def ball(count: int) -> Gaussians:
    """Return splats throughout a ball, half opaque, in random colours, smaller the more they are."""
    draw = torch.Generator().manual_seed(0)
    ways = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1)
    means = 0.8 * ways * torch.rand(count, 1, generator=draw) ** (1 / 3)
    quats, sh = torch.randn(count, 4, generator=draw), torch.randn(count, 1, 3, generator=draw)
    return Gaussians(means, quats, torch.full((count, 3), 3 / math.sqrt(count)), torch.full((count,), 0.5), sh)


def times(page: Page, seconds: float) -> list[float]:
    """Return milliseconds between a page's frames while its object is turned."""
    page.evaluate(COUNT)
    page.mouse.move(450, 400)
    page.mouse.down()
    end, k = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        k += 1
        page.mouse.move(450 + 80 * math.sin(k / 15), 400 + 20 * math.cos(k / 15))
        page.wait_for_timeout(15)
    page.mouse.up()
    drawn: list[float] = page.evaluate("() => window.drawn")
    return [b - a for a, b in zip(drawn, drawn[1:])]


def plain(splats: Gaussians) -> viser.ViserServer:
    """Return viser's server with splats and nothing else, seen from where our page sees them."""
    with quietly():
        server, s = viser.ViserServer(host="127.0.0.1", port=8970, verbose=False), snapshot(splats)
    server.scene.set_up_direction("+z")
    server.initial_camera.position, server.initial_camera.look_at = START, (0.0, 0.0, 0.0)
    server.initial_camera.fov = math.radians(FOV)
    server.scene.add_gaussian_splats("/splats", s.centers, s.covariances, s.rgbs, s.opacities)
    return server


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splats", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=2, help="of each page")
    parser.add_argument("--settle", type=float, default=8.0, help="seconds that a page has before it is measured")
    parser.add_argument("--gpu", action="store_true", help="let the browser use the graphics card")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    splats = ball(args.splats)
    ours, theirs = Gallery([SavedSplats("ball", Path("ball.ply"), splats, Path("ball.ply"))], 8960, report=lambda text: None), plain(splats)
    threading.Thread(target=ours.hold, daemon=True).start()
    pages = {"our page": ours.where[0], "viser's own": f"http://127.0.0.1:{theirs.get_port()}"}
    found: dict[str, list[float]] = {name: [] for name in pages}
    renderer = ""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--ignore-gpu-blocklist"] if args.gpu else ARGS
        browser = playwright.chromium.launch(executable_path=args.chromium, headless=True, args=flags)
        for turn in range(args.turns):
            for name in list(pages)[:: 1 if turn % 2 == 0 else -1]:  # ours, viser's, viser's, ours
                page = browser.new_page(viewport={"width": WIDE, "height": TALL})
                page.set_default_timeout(PATIENCE)
                page.goto(pages[name])
                page.locator("canvas").first.wait_for()
                page.wait_for_timeout(1000 * args.settle)
                renderer = renderer or page.evaluate(RENDERER)
                found[name] += times(page, args.seconds)
                page.close()
        browser.close()
    ours.guard.off = True
    theirs.stop()
    print(f"{args.splats} splats, {WIDE} x {TALL}, {renderer}")
    for name, each in found.items():
        if not each:
            raise SystemExit(f"error: {name} drew no two frames in {args.seconds:g} s; give more --seconds")
        print(f"{name:12} {1000 * len(each) / sum(each):5.1f} frames a second; {statistics.median(each):.0f} ms a frame (median of {len(each)})")


if __name__ == "__main__":
    main()
