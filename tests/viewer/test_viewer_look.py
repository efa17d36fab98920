"""Looks of a page in a real browser: exact pictures that come without a gap, backgrounds, keys, full screen, phones."""

import io
import math
import threading
import time

import numpy as np
import pytest
import torch
from chromium import PATIENCE, choose, needs_chromium, scene, until
from PIL import Image
from splatdistill_viewer.gallery import Gallery

from splatdistill.export.saved_splats import load_all
from splatdistill.io.ply import write_ply
from splatdistill.scene.initial import Ball

pytestmark = needs_chromium


@pytest.fixture
def gallery(tmp_path):
    """Yield a page of one red ball."""
    g = Ball(count=400, radius=0.6, opacity=0.95, scale=0.1).make(torch.Generator().manual_seed(0))
    g.sh[:, 0] = (torch.tensor([0.8, 0.2, 0.2]) - 0.5) * math.sqrt(4 * math.pi)  # of the constant harmonic
    gallery = Gallery(load_all(write_ply(tmp_path / "thing.ply", g).path), 8860)
    thread = threading.Thread(target=gallery.hold, daemon=True)
    thread.start()
    yield gallery
    assert not gallery.guard.off
    gallery.guard.off = True
    thread.join(60)
    gallery.close()


def corner(page) -> float:
    """Return brightness of the scene's lower left corner."""
    return scene(page)[-40:-10, 10:40].mean()


def red(page) -> float:
    """Return how much redder than green the scene's middle is."""
    h, w, _ = (shot := scene(page)).shape
    middle = shot[h // 2 - 40 : h // 2 + 40, w // 2 - 40 : w // 2 + 40]
    return float((middle[..., 0] - middle[..., 1]).mean())


SLOW = """() => {
    const src = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
    const late = function (url) { setTimeout(() => src.set.call(this, url), String(url).startsWith("blob:") ? 1500 : 0); };
    Object.defineProperty(HTMLImageElement.prototype, "src", {...src, set: late});
}"""
"""Has a browser take another second and a half to decode a picture that is not a page's own."""


def test_splats_stay_until_an_exact_picture_is_there_and_each_page_has_its_own_look(gallery, page, browser):
    ready, render = threading.Event(), gallery.kernels.rasterizer
    gallery.kernels.rasterizer = lambda *args, **options: (ready.wait(120), render(*args, **options))[1]
    page.goto(gallery.where[0])
    until(lambda: red(page) > 60)
    assert page.locator("canvas").first.evaluate("e => getComputedStyle(e).opacity") == "1"  # viser's own is 0.05 until a light is loaded
    other = browser.new_page(viewport={"width": 700, "height": 480})
    other.set_default_timeout(PATIENCE)
    other.goto(gallery.where[0])
    choose(page, "background", "dark grey")
    until(lambda: abs(corner(page) - 56) < 6)
    page.evaluate(SLOW)
    choose(page, "render mode", "clay")
    page.get_by_text("preparing the exact picture").wait_for()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert red(page) > 60 and abs(corner(page) - 56) < 6, "the splats are still there"
    ready.set()
    least = 255.0
    while red(page) > 20:  # until the surface is grey
        least = min(least, float(scene(page)[190:210].max()))
    assert least > 100, "never black, never only the background"
    until(lambda: not page.get_by_text("preparing the exact picture").count())
    assert abs(corner(page) - 56) < 6
    choose(page, "render mode", "splats")
    until(lambda: red(page) > 60)
    until(lambda: corner(other) > 250 and red(other) > 60)  # the other page is as it was
    other.close()


def test_keys_and_full_screen(gallery, page):
    page.goto(gallery.where[0])
    until(lambda: red(page) > 60)
    (b,) = gallery.browsers.there.values()
    page.keyboard.press("b")
    until(lambda: b.display.background == "light grey" and abs(corner(page) - 217) < 8)
    page.keyboard.press("3")
    until(lambda: abs(math.remainder(b.azimuth() - math.pi, math.tau)) < 0.01)
    page.keyboard.press("m")
    until(lambda: b.display.exact == "rgb")
    for leave in ("button", "key"):
        narrow = page.locator("canvas").first.bounding_box()["width"]
        page.get_by_label("full screen").click()
        until(lambda: page.evaluate("innerWidth") == page.locator("canvas").first.bounding_box()["width"] > narrow + 200)  # noqa: B023
        page.get_by_label("full screen").click() if leave == "button" else page.keyboard.press("f")
        until(lambda: page.locator("canvas").first.bounding_box()["width"] == narrow)  # noqa: B023
    page.locator("input:visible").last.click()
    page.keyboard.press("b")  # typed into a box, it is no key
    time.sleep(0.5)
    assert b.display.background == "light grey"


@pytest.mark.parametrize(("wide", "tall", "ratio"), [(390, 844, 1), (844, 390, 1), (844, 390, 2)])  # a phone's pixels are fine
def test_on_a_phone_the_object_has_most_of_the_room_and_panels_fold(gallery, browser, wide, tall, ratio):
    page = browser.new_page(viewport={"width": wide, "height": tall}, is_mobile=True, has_touch=True, device_scale_factor=ratio)
    page.set_default_timeout(PATIENCE)
    page.goto(gallery.where[0])
    mode = page.get_by_text("render mode")
    until(lambda: page.locator("canvas").count() and not (mode.count() and seen(mode, wide, tall)))
    until(lambda: whole(ball(page), wide, tall))
    if wide < tall:
        page.locator("div[style*='max-height: 60%'] div[style*='cursor: pointer']").first.click()
    else:
        page.get_by_label("Expand column").last.click()
    until(lambda: seen(mode, wide, tall))
    page.close()


def seen(locator, wide, tall) -> bool:
    """Return whether an element lies within the window."""
    spot = locator.first.bounding_box()
    return spot is not None and spot["height"] > 0 and 0 <= spot["x"] < wide and 0 <= spot["y"] < tall - 4


def whole(edges, wide, tall) -> bool:
    """Return whether the ball is seen as a whole, large, in the middle."""
    if edges is None:
        return False
    left, right, top, bottom = edges
    inside = 0 < left < right < wide - 1 and 0 < top < bottom < tall - 1
    return inside and right - left > 0.3 * min(wide, tall) and abs((left + right) / 2 - wide / 2) < 0.12 * wide


def ball(page):
    """Return edges of the red ball in the window: left, right, top, bottom; None while it is not there."""
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(scale="css"))).convert("RGB")).astype(int)
    rows, columns = np.nonzero((shot[..., 0] - shot[..., 1] > 60) & (abs(shot[..., 1] - shot[..., 2]) < 30))
    return (columns.min(), columns.max(), rows.min(), rows.max()) if len(rows) > 500 else None
