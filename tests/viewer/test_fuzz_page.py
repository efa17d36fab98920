"""A small count of scripts/fuzz_page.py: hostile messages to the page of a run in this process. The script's own run has 10,000."""

import random
import resource
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from splatdistill_viewer.gallery import Gallery
from splatdistill_viewer.run_page import RunPage
from splatdistill_viewer.variants_page import VariantsPage
from train.small import config, red_and_blue

from splatdistill.densify.relocate import Relocate
from splatdistill.export.saved_splats import SavedSplats
from splatdistill.scene.initial import Ball
from splatdistill.train import loop
from splatdistill.train.commands import Commands, Stop
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant, take_turns

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from fuzz_page import fuzz, send_request
from hostile_messages import PROTOCOL, Hostile
from page_visitor import Failed, Target


def memory() -> int:
    """Return the bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture
def target(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))
    session = Session(config(steps=1_000_000, densify=Relocate(), init=Ball(count=40), particles=2), red_and_blue())
    folder, commands, told = RunDir.create("p", tmp_path / "run"), Commands(), []
    page, ended = RunPage(session, folder, commands, 8940, told.append), []
    thread = threading.Thread(target=lambda: ended.append(run(session, folder, [page], commands)))
    thread.start()
    seen = []

    def terminal() -> str:
        seen.extend(capfd.readouterr())
        return "".join(seen) + "\n".join(told)

    yield Target(page.where[0], memory, terminal)
    commands.put(Stop())
    thread.join(120)
    page.close()
    assert ended and ended[0][0].how == "stopped" and not page.guard.off and not told


def test_a_page_answers_and_its_run_goes_on_whatever_is_sent(target):
    kinds = fuzz(target, seed=11, count=200)
    assert sum(kinds.values()) == 200 and len(kinds) >= 8 and target.steps > 0


def test_finished_splats_are_shown_on_whatever_is_sent(tmp_path, capfd):
    g = Ball(count=40).make(torch.Generator().manual_seed(0))
    gallery = Gallery([SavedSplats(name, tmp_path, g, tmp_path) for name in "ab"], 8950, tmp_path, lambda text: None)
    thread = threading.Thread(target=gallery.hold, daemon=True)
    thread.start()
    try:
        target = Target(gallery.where[0], memory, lambda: "".join(capfd.readouterr()), "Export cleaned", runs=False, shared="opacity threshold")
        kinds = fuzz(target, seed=12, count=100, tell=lambda text: None)
        assert sum(kinds.values()) == 100 and not gallery.guard.off
    finally:
        gallery.guard.off = True
        thread.join(60)
        gallery.close()


def test_variants_take_their_turns_whatever_is_sent(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))
    prior, told = red_and_blue(), []
    runs = [
        Variant(Session(config(steps=1_000_000, seed=s, init=Ball(count=20)), prior), RunDir.create("p", tmp_path / str(s))) for s in range(2)
    ]
    page = VariantsPage(runs, 8960, told.append)
    for k, r in enumerate(runs):
        r.callbacks.append(page.callback(k))
    thread = threading.Thread(target=take_turns, args=(runs,))
    thread.start()
    try:
        target = Target(page.where[0], memory, lambda: "".join(capfd.readouterr()), "Refine this one")
        kinds = fuzz(target, seed=13, count=100, tell=lambda text: None)
        assert sum(kinds.values()) == 100 and not page.guard.off and not told and page.chosen is None
    finally:
        page.put(Stop())
        thread.join(120)
        page.close()
    assert all(r.result is not None for r in runs)


def test_the_script_sees_what_is_wrong(target):
    with pytest.raises(Failed, match="let in"):
        name, token = target.address.removeprefix("http://").split("/")
        words = f"GET /{token} HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        send_request(target.address, f"{words}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n".encode())
    for said in ("Traceback (most recent call last):", "a\x1b[2Jb", "(viser) Share URL requested!", "the viewer failed and is switched off"):
        with pytest.raises(Failed, match="in the terminal"):
            Target(target.address, target.memory, lambda said=said: said).look()
    sizes = iter([1, 2**40])
    growing = Target(target.address, lambda: next(sizes), lambda: "")
    growing.look()
    with pytest.raises(Failed, match="memory grew"):
        growing.look()


def test_inputs_follow_the_seed():
    controls = {"u": {"type": "GuiSliderMessage", "uuid": "u", "value": 0.5, "props": {"label": "splat scale"}}}
    made = [[Hostile(random.Random(seed), controls).message() for _ in range(50)] for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
