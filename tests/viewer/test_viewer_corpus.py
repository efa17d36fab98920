"""The page of an amortised training: a grid of prompts that follows the network, a prompt of one's own, pause, stop."""

import threading

import numpy as np
import pytest
from looker import Looker, browser_of, until
from splatdistill_viewer.corpus_page import SHOWN, CorpusPage
from train.test_amortised import config

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.priors.weights import load
from splatdistill.train.amortised.loop import run
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.commands import Commands, Pause, Save, Stop
from splatdistill.train.run import RunDir

CORPUS = tuple(f"a {c} {k}" for c in ("red", "blue") for k in ("ball", "cube", "cone", "mushroom", "mug", "duck"))


def refuse(prompt: str, negative: str) -> None:
    if "quantum" in prompt:
        raise UserError("it does not know 'quantum'")


@pytest.fixture
def training(tmp_path, prior):
    """Yield a training with its commands and its page; its outcome is put into `how`."""
    session = AmortisedSession(config(steps=100_000, preview_every=0, checkpoint_every=0), load(str(prior)), CORPUS)
    folder, commands, how = RunDir.create("corpus", tmp_path / "corpus"), Commands(), []
    page = CorpusPage(session, folder, commands, 8770, words=refuse)
    thread = threading.Thread(target=lambda: how.append(run(session, folder, page.stepped, commands, page.waits)))
    thread.start()
    yield session, folder, commands, page, how
    commands.put(Stop())
    thread.join(300)
    page.close()
    assert not page.guard.off and not thread.is_alive()


def test_a_grid_follows_the_network_and_a_prompt_of_one_s_own_joins_it(training):
    session, folder, commands, page, how = training
    with Looker(page.where[0], height=60, width=60) as looker:
        until(lambda: page.browsers.any)
        browser = browser_of(page)
        handles = browser.row.handles
        assert len(handles) == SHOWN == len(set(page.prompts)) and set(page.prompts) <= set(CORPUS)
        before = [h.centers.copy() for h in handles]
        until(lambda: all(not np.array_equal(h.centers, b) for h, b in zip(handles, before)))
        commands.put(Pause())
        until(lambda: page.state == "paused")
        stands = session.steps
        commands.put(Save())
        until(lambda: folder.checkpoints())
        until(lambda: all(s.step == stands for s in page.newest))
        looker.set(page.words, "a blue quantum")
        until(lambda: page.words.value == "a blue quantum")
        page.change(page.words.value)
        assert page.reason.visible and "quantum" in page.reason.content and "a blue quantum" not in page.prompts
        looker.set(page.words, "a  blue robot")
        until(lambda: page.words.value == "a  blue robot")
        first = handles[-1].centers.copy()
        page.ask()
        until(lambda: page.prompts[-1] == "a blue robot" and not np.array_equal(handles[-1].centers, first))
        assert not page.reason.visible and session.steps == stands, "a pause is one"
        drawn, draw = [], page.browsers.draw
        page.browsers.draw = lambda views: (drawn.extend(views), draw(views))
        looker.set(browser.display.mode, "RGB (exact)")
        until(lambda: drawn)
        tiles = [drawn[-1].image[r : r + 20, c : c + 20] for r in (0, 20, 40) for c in (0, 20, 40)]
        assert all(t.std() > 3 for t in tiles), "nine objects"
        looker.set(page.buttons.group, "Step")
        until(lambda: session.steps == stands + 1)
        until(lambda: page.state == "paused")
        looker.set(page.buttons.group, "Stop")
        until(lambda: how)
    assert how == ["stopped"] and session.steps == stands + 1


def test_the_command_opens_it_and_ends_with_the_training(tmp_path, monkeypatch, capsys, prior):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.txt").write_text("a red ball\na blue cube\n", encoding="utf-8")
    argv = ["amortise", "--corpus", "few.txt", "--prior", str(prior), "--steps", "2", "--generator.count", "50", "--viewer", "--no-wait", "--port", "8780", "--out", "g"]
    assert main(argv) == 0
    assert "watch and steer it at http://127.0.0.1:87" in capsys.readouterr().out
    assert main(["amortise", "--resume", "g", "--steps", "3", "--no-viewer"]) == 0, "a page is no part of a training"
