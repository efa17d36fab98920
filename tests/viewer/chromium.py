"""A real browser for the tests: headless Chromium, driven by playwright, and what they read of a page.

    pip install playwright && apt-get install chromium     (any Chromium: name it with $CHROMIUM)
"""

import io
import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
PATIENCE = 300_000  # milliseconds: a busy machine draws slowly

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one with $CHROMIUM")


def scene(page) -> np.ndarray:
    """Return pixels of the canvas, away from the panels."""
    box = page.locator("canvas").first.bounding_box()
    clip = {"x": box["x"], "y": 40, "width": box["width"], "height": 400}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(float)


def box(page, label):
    """Return the text typed or chosen beside a label."""
    return page.locator(f'xpath=//*[normalize-space(text())="{label}"]/following::input[1]').first


def choose(page, label, option):
    """Choose from a list."""
    box(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()


def until(condition, seconds=PATIENCE / 1000):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.3)
    return found
