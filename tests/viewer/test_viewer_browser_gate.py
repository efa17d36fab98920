"""The gate in a real browser: the printed address opens the page, a page of another origin gets nowhere, names stay words."""

import functools
import http.server
import os
import shutil
import threading

import pytest
import torch
import viser
from looker import until
from splatdistill_viewer.gallery import Gallery

from splatdistill.export.saved_splats import load_all
from splatdistill.io.ply import write_ply
from splatdistill.scene.initial import Ball

ARGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-dev-shm-usage"]
ARGS += ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or name one with $CHROMIUM")
EVIL = "<img src=x onerror=\"document.title='PWNED'\"> **b** `c` ![i](http:x) <iframe srcdoc='<script>parent.document.title=1<|script>'>"
TRY = """async ([address, protocol]) => {
    const answers = []
    for (const url of [address, address.split('?')[0]]) {
        answers.push(await new Promise(done => {
            const s = new WebSocket(url.replace('http', 'ws'), [protocol])
            s.onopen = () => done('open'); s.onerror = () => done('refused'); setTimeout(() => done('nothing'), 20000)
        }))
    }
    for (const url of [address, address.split('?')[0]])
        answers.push(await fetch(url).then(r => r.text()).then(t => t.length > 1000 ? 'read' : 'short').catch(() => 'refused'))
    return answers
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def gallery(tmp_path):
    """Yield the served page of two files with names that are HTML and Markdown."""
    g = Ball(count=60, radius=0.7, opacity=0.9, colour="random").make(torch.Generator().manual_seed(0))
    paths = [write_ply(tmp_path / f"{EVIL.replace('/', '|')}{k}.ply", g).path for k in range(2)]
    gallery = Gallery([each for path in paths for each in load_all(path)], 8860, tmp_path)
    thread = threading.Thread(target=gallery.hold, daemon=True)
    thread.start()
    yield gallery
    gallery.guard.off = True
    thread.join(60)
    gallery.close()


@pytest.fixture
def elsewhere(tmp_path):
    """Yield the address of a page of another origin on this machine."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title>", encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_only_the_printed_address_opens_the_page_and_names_are_words(browser, gallery, elsewhere):
    address, bare = gallery.where[0], gallery.where[0].split("?")[0]
    context = browser.new_context(viewport={"width": 900, "height": 480})
    page = context.new_page()
    page.set_default_timeout(120_000)
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if "Content Security Policy" in m.text else None)
    try:
        assert page.goto(bare).status == 403 and "printed" in page.inner_text("body")
        # a page of another origin, in a browser that has our cookie too or not yet
        page.goto(elsewhere)
        tried = [address, f"viser-v{viser.__version__}"]
        assert page.evaluate(TRY, tried) == ["refused"] * 4
        assert page.goto(address).status == 200
        page.get_by_text("clean up").wait_for()
        until(lambda: gallery.browsers.any)
        # the name as words, and nothing of it ran
        shown = page.get_by_text("document.title='PWNED'").first
        shown.wait_for()
        assert gallery.works[0].name in shown.inner_text() or gallery.works[0].name in page.inner_text("body")
        assert page.locator("img[src=x], iframe").count() == 0 and page.title() not in ("PWNED", "1")
        page.get_by_role("button", name="Export cleaned").click()  # its name in a note, and in a file's
        page.get_by_text("Exported").first.wait_for()
        assert page.locator("img[src=x], iframe").count() == 0 and page.title() not in ("PWNED", "1")
        cookies = [c for c in context.cookies() if c["name"] == gallery.server.gate.cookie]
        assert len(cookies) == 1 and cookies[0]["httpOnly"] and cookies[0]["sameSite"] == "Strict"
        other = context.new_page()
        other.goto(elsewhere)
        assert other.evaluate(TRY, tried) == ["refused"] * 4  # same machine, another port: Origin is not ours
        # loaded again without the token in the address: the cookie has it
        assert page.goto(bare).status == 200
        page.get_by_text("clean up").wait_for()
        assert page.goto(f"{bare}?websocket={elsewhere.replace('http', 'ws')}").status == 403
        assert not gallery.guard.off and not errors
    finally:
        context.close()
