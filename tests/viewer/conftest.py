"""A browser for the tests of this folder."""

import pytest
from chromium import ARGS, CHROMIUM, PATIENCE


@pytest.fixture(scope="module")
def browser():
    """Yield a headless Chromium with its software renderer."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Yield an empty page of a small window."""
    page = browser.new_page(viewport={"width": 1000, "height": 480}, accept_downloads=True)
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()
