"""The page that is exported, in a real browser: all of the object on every screen, named views, buttons and keys.

    pip install playwright && apt-get install chromium     (any Chromium: name it with $CHROMIUM)
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from marked_cube import cube
from PIL import Image

from splatdistill.cameras import orbit
from splatdistill.io.html import Start, write_html
from splatdistill.render import rasterizer

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one with $CHROMIUM")
ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
SCREENS = {"phone": (390, 844), "phone on its side": (844, 390), "laptop": (1280, 800), "window": (640, 500)}
VIEWS = {"Front": (0, 15), "Back": (180, 15), "Left": (90, 15), "Right": (270, 15), "Top": (0, 89), "Three-quarter": (30, 15)}
START = Start(distance=3.4, fov=42.0)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGS)
        yield browser
        browser.close()


def opened(browser, path: Path, size: tuple[int, int], start: Start | None = START):
    write_html(path, cube(), ["prompt a cube"], "a cube", start)
    page = browser.new_page(viewport=dict(zip(("width", "height"), size)), accept_downloads=True)
    page.set_default_timeout(120_000)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-state=ready]")
    return page


def seen(page, bare: bool = True) -> np.ndarray:
    """Return the pixels of the window once it has drawn, without the controls over it."""
    page.evaluate("bare => new Promise(done => { document.body.classList.toggle('bare', bare);"
                  " requestAnimationFrame(() => requestAnimationFrame(() => done())) })", bare)  # fmt: skip
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(np.float32) / 255


@pytest.mark.parametrize("screen", SCREENS)
def test_all_of_it_is_in_the_window_and_buttons_are_in_reach(browser, tmp_path: Path, screen: str) -> None:
    page = opened(browser, tmp_path / "a.html", SCREENS[screen], None)
    width, height = SCREENS[screen]
    object_ = (seen(page) < 0.9).any(2)
    rows, columns = np.flatnonzero(object_.any(1)), np.flatnonzero(object_.any(0))
    assert rows[0] > 0 and rows[-1] < height - 1 and columns[0] > 0 and columns[-1] < width - 1
    assert max(np.ptp(rows), np.ptp(columns)) > 0.6 * min(width, height)
    page.evaluate("document.body.classList.remove('bare')")
    boxes = [(each.inner_text(), each.bounding_box()) for each in page.get_by_role("button").all()]
    assert {*VIEWS, "Start", "Turn", "Background", "Picture"} <= {text for text, _ in boxes}
    for text, box in boxes:
        assert box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height, text
        assert box["height"] >= 36 and box["width"] >= 36
    page.close()


@pytest.mark.parametrize("screen", ["phone", pytest.param("window", marks=pytest.mark.slow)])
def test_named_views_are_what_we_render_from_there(browser, tmp_path: Path, screen: str) -> None:
    """By button and by key; the middle square of the window, whatever its shape, is our picture."""
    page = opened(browser, tmp_path / "a.html", SCREENS[screen])
    width, height = SCREENS[screen]
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    pictures = {}
    for k, (name, (azimuth, elevation)) in enumerate(VIEWS.items()):
        seen(page, False)
        if k % 2:
            page.keyboard.press(str(k + 1))
        else:
            page.get_by_role("button", name=name, exact=True).click()
        shown = seen(page)[top : top + side, left : left + side]
        camera = orbit([float(azimuth)], float(elevation), START.distance, START.fov, width=side)
        expected = rasterizer("cpu")(cube(), camera, torch.ones(1, 3)).rgb[0].clamp(0, 1).permute(1, 2, 0).numpy()
        assert np.abs(shown - expected).mean() < 0.006, name
        pictures[name] = shown
    assert min(np.abs(pictures[a] - pictures[b]).mean() for a in VIEWS for b in VIEWS if a < b) > 0.02
    page.close()


def test_buttons_and_keys_turn_change_the_background_and_keep_a_picture(browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path / "a.html", (500, 400))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    before = seen(page)
    seen(page, False)
    turn = page.get_by_role("button", name="Turn", exact=True)
    turn.click()
    assert turn.get_attribute("aria-pressed") == "true"
    page.wait_for_timeout(1000)
    page.locator("canvas").press(" ")
    assert turn.get_attribute("aria-pressed") == "false"
    assert np.abs(seen(page) - before).mean() > 0.002
    seen(page, False)
    page.get_by_role("button", name="Start", exact=True).click()
    assert np.array_equal(seen(page), before)
    seen(page, False)
    page.get_by_role("button", name="Background", exact=True).click()
    assert np.allclose(seen(page)[5, 5], 0.5, atol=0.01)
    page.keyboard.press("b")
    assert np.allclose(seen(page)[5, 5], 0, atol=0.01)
    seen(page, False)
    with page.expect_download() as caught:
        page.get_by_role("button", name="Picture", exact=True).click()
    caught.value.save_as(tmp_path / "picture.png")
    kept = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(np.float32) / 255
    assert kept.shape == (400, 500, 3) and np.abs(kept - seen(page)).mean() < 0.01
    seen(page, False)
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_timeout(200)
    assert not errors
    page.close()
