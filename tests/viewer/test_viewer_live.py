"""A run with its viewer and someone who looks on over the page's own protocol, without a browser."""

import gc
import json
import os
import socket
import threading
import time
import weakref

import numpy as np
import pytest
import torch
import trimesh
from looker import FRONT, Looker, browser_of, until
from splatdistill_viewer import run_page
from splatdistill_viewer.exports import FORMATS
from splatdistill_viewer.run_page import RunPage
from train.small import config, red_and_blue

from splatdistill.densify.relocate import Relocate
from splatdistill.errors import UserError
from splatdistill.scene.initial import Ball
from splatdistill.train.commands import Choose, Commands, Continue, Once, Pause, SetField, Stop
from splatdistill.train.events import Applied, Ended, Paused, PhaseBegun, Refused, StepDone
from splatdistill.train.loop import run
from splatdistill.train.losses import Regularisers
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

pytestmark = pytest.mark.usefixtures("short_films")


class Watched:
    """Run on a thread of its own, with its viewer; paused at first."""

    def __init__(self, folder, paused=True, **changes):
        settings = {"steps": 100_000, "densify": Relocate(), "regularise": Regularisers(sparsity=0.01)}
        self.session = Session(config(**{**settings, **changes}), red_and_blue())
        self.commands, self.events, self.told = Commands(), [], []
        self.folder = RunDir.create("p", folder / "run")
        self.live = RunPage(self.session, self.folder, self.commands, 8600, self.told.append, words=self.words)
        self.error = None
        if paused:
            self.commands.put(Pause())
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @staticmethod
    def words(prompt, negative):
        if "elephant" in prompt:
            raise UserError("this prior draws nothing grey;\nthere are no elephants")

    def _run(self):
        try:
            run(self.session, self.folder, [self.events.append, self.live], self.commands)
        except BaseException as e:
            self.error = e

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.commands.put(Stop())
        self.thread.join(300)
        self.live.close()
        assert self.error is None and not self.thread.is_alive()

    def of(self, kind):
        return [e for e in self.events if isinstance(e, kind)]

    def applied(self, kind):
        return [e.command for e in self.of(Applied) if isinstance(e.command, kind)]


def test_the_page_shows_the_splats_as_they_become_and_a_pause_holds_them(tmp_path):
    with Watched(tmp_path) as w:
        with Looker(w.live.where[0], height=600, width=800) as looker:
            until(lambda: w.live.browsers.any)
            page = browser_of(w.live)
            (splats,) = page.row.handles
            first = splats.centers.copy()
            w.commands.put(Continue())
            until(lambda: len(w.of(StepDone)) > 10 and not np.array_equal(splats.centers, first))
            until(lambda: len(w.live.curves.plots[0].handle.data[0]) > 1 and page.cameras and page.panel.pictures.content.count("data:image") == 4)
            assert looker.bytes > 10_000 and splats.visible
            w.commands.put(Pause())
            until(lambda: bool(w.events) and isinstance(w.events[-1], Paused))
            held = len(w.of(StepDone))
            until(lambda: page.shown and page.shown[0][0] == w.session.state.step and not w.live.slot.full)
            time.sleep(0.2)
            assert len(w.of(StepDone)) == held and "paused" in w.live.status.text.content
            np.testing.assert_array_equal(np.sort(splats.centers[:, 0]), np.sort(w.session.gaussians().means[:, 0].numpy()))
        until(lambda: not w.live.browsers.any)
        assert not w.told


def test_a_pause_is_not_held_against_the_page(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        looker.set(browser_of(w.live).display.mode, "RGB (exact)")
        until(lambda: w.live.sent > 20)
        assert w.live.share.spent == 0 and w.live.share.due()
        w.commands.put(Continue())
        until(lambda: w.live.share.spent > 0 and f"step {w.session.state.step} of" in w.live.status.text.content)


def test_controls_are_commands_in_the_log(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        s = w.live.steering
        until(lambda: w.live.browsers.any)
        looker.set(s.handles["guidance.scale"], 3.5)
        until(lambda: w.applied(SetField))
        assert w.applied(SetField) == [SetField("guidance.scale", 3.5)] and w.session.config.guidance.scale == 3.5
        looker.set(s.handles["background.kind"], "black")
        looker.set(s.handles["rates.colours"], -3.0)
        until(lambda: w.session.config.background.kind == "black" and s.handles["rates.colours"].value > 0)
        assert w.session.config.rates.colours == config().rates.colours, "what is refused is put back"
        old = s.handles["guidance.times.t_max"]
        looker.set(s.handles["guidance"], "csd")
        until(lambda: w.applied(Choose) and s.handles.get("guidance.times.t_max") not in (None, old))
        assert w.applied(Choose) == [Choose("guidance", "csd")] and type(w.session.config.guidance).__name__ == "CSD"
        looker.set(s.handles["guidance.times.t_max"], "0.55")  # left to the method: a text, where empty is none
        until(lambda: len(w.applied(SetField)) == 3)
        log = [json.loads(line) for line in w.folder.log.read_text(encoding="utf-8").splitlines()]
        assert [e["command"]["path"] for e in log if e["event"] == "Applied" and e["command"]["name"] == "SetField"] == [
            "guidance.scale", "background.kind", "guidance.times.t_max",
        ]  # fmt: skip
        assert [e["command"]["path"] for e in log if e["event"] == "Refused"] == ["rates.colours"]


def test_the_page_shows_what_a_phase_begins_with_and_not_over_words_being_typed(tmp_path):
    phases = ("first[share=1]", "second[share=99999, guidance=csd, guidance.scale=3.5, densify=fixed, rates.means=0.004, regularise.sparsity=0.2]")
    with Watched(tmp_path, phases=phases) as w, Looker(w.live.where[0]) as looker:
        s = w.live.steering
        until(lambda: w.live.browsers.any)
        looker.set(s.handles["prompt"], "a half typed")
        w.commands.put(Continue())
        until(lambda: any(isinstance(e, PhaseBegun) and e.phase == "second" for e in w.events))
        begun = {"guidance": "csd", "guidance.scale": 3.5, "densify": "fixed", "rates.means": 0.004, "regularise.sparsity": 0.2}
        until(lambda: all(s.handles[name].value == value for name, value in begun.items()))  # one after the other
        assert s.handles["prompt"].value == "a half typed" and w.session.config.prompt == "a red disc"
        looker.set(s.handles["guidance.scale"], 4.5)  # of the new method, and it can be steered
        until(lambda: w.session.config.guidance.scale == 4.5)


def test_a_number_that_may_be_none_is_typed_and_taken_back(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        box = w.live.steering.handles["guidance.grad_clip"]
        assert box.value == "" and w.session.config.guidance.grad_clip is None
        for text, is_so in (("0.25", 0.25), ("2", 2.0), ("much", 2.0), ("nan", 2.0), ("", None)):
            count = len(w.of(Applied)) + len(w.of(Refused))
            looker.set(box, text)
            until(lambda: len(w.of(Applied)) + len(w.of(Refused)) > count)  # noqa: B023
            until(lambda: box.value == ("" if is_so is None else str(is_so)))  # noqa: B023
            assert w.session.config.guidance.grad_clip == is_so
        assert [e.command.value for e in w.of(Refused)] == ["much", "nan"]


def test_a_refused_prompt_stays_to_be_edited_with_the_reason_under_it(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        s = w.live.steering
        boxes, button = s.handles, labelled(w.live, "Apply prompt")
        for words, why in (("an elephant", "elephants"), ("a green disc", "does not know the prompt"), ("", "is empty")):  # page, prior, run
            looker.set(boxes["prompt"], words)
            until(lambda: boxes["prompt"].value == words)  # noqa: B023
            looker.click(button)
            until(lambda: s.reason.visible and why in s.reason.content)  # noqa: B023
            assert "\\n" not in s.reason.content, "a line break of the terminal is a space on a page"
            assert boxes["prompt"].value == words and "a red disc" in s.reason.content and w.session.config.prompt == "a red disc"
        looker.set(boxes["prompt"], "a red disc")
        looker.set(boxes["negative"], "a blue disc")
        until(lambda: boxes["negative"].value == "a blue disc")
        looker.click(button)
        until(lambda: w.applied(SetField) == [SetField("negative", "a blue disc")])
        assert [e.command.value for e in w.of(Refused)] == ["a green disc", ""] and not s.reason.visible


def labelled(page, label):
    """Return the control of a page with this label."""
    return next(h for h in page.server.gui._gui_input_handle_from_uuid.values() if getattr(h, "label", "") == label)


def test_exact_pictures_follow_the_camera_and_are_coarse_while_it_moves(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0], height=80, width=80) as looker:
        until(lambda: w.live.browsers.any)
        page = browser_of(w.live)
        (splats,) = page.row.handles
        looker.set(page.display.mode, "normals")

        def has():
            return page.has

        until(lambda: has() is not None and has()[2] == 80)
        looker.click(page.display.preparing)  # as a browser does when it has decoded the picture
        until(lambda: page.display.decoded and not splats.visible)
        before, heights = has(), set()
        looker.stand(FRONT[0], (3.5, 0.0, 0.0))
        until(lambda: has()[1] != before[1], lambda: heights.add(has()[2]))
        until(lambda: has()[2] == 80, lambda: heights.add(has()[2]))
        assert has()[1].position == (3.5, 0.0, 0.0) and 20 in heights
        looker.set(page.display.mode, "splats")
        until(lambda: (splats.visible and has() is None) or w.told)
        assert not w.told


@pytest.mark.parametrize("kinds", ["ply spz sog html png", pytest.param("mp4 glb", marks=pytest.mark.slow)])
def test_every_format_is_kept_as_it_is_shown(tmp_path, kinds):
    import imageio.v3 as iio

    from splatdistill.io.html import load_html
    from splatdistill.io.ply import load_ply
    from splatdistill.io.sog import load_sog
    from splatdistill.io.spz import load_spz

    ball = Ball(count=300, radius=0.6, opacity=0.9, scale=0.12, colour="random")
    with Watched(tmp_path, paused=False, init=ball) as w, Looker(w.live.where[0], height=60, width=80) as looker:
        until(lambda: w.live.browsers.any and len(w.of(StepDone)) > 3)
        w.commands.put(Pause())
        until(lambda: bool(w.events) and isinstance(w.events[-1], Paused))
        tab, folder = w.live.exports, w.folder.path / "exports"
        looker.set(tab.size, "256")
        looker.set(tab.clear, True)
        looker.set(browser_of(w.live).display.backdrop, "black")
        until(lambda: tab.clear.value and browser_of(w.live).display.background == "black")
        for kind in kinds.split():
            looker.set(tab.format, FORMATS[kind])
            until(lambda: tab.kind == kind and tab.size.visible == (kind in ("png", "mp4")))  # noqa: B023
            looker.click(labelled(w.live, "Export"))
            until(lambda: f".{kind} (" in tab.state.content)  # noqa: B023
        made = {p.suffix[1:]: p for p in folder.iterdir()}
        assert set(made) == set(kinds.split()) and len({p.stem for p in made.values()}) == 1
        for kind, load in {"ply": load_ply, "spz": load_spz, "sog": load_sog, "html": load_html}.items():
            if kind in made:
                means = load(made[kind]).gaussians.means
                torch.testing.assert_close(means.sort(0).values, w.session.gaussians().means.sort(0).values, atol=2e-3, rtol=0)
        if "png" in made:
            png = iio.imread(made["png"])
            assert png.shape == (256, 341, 4) and png[..., 3].min() == 0 and png[..., 3].max() > 200
        if "mp4" in made:
            mp4 = iio.imread(made["mp4"])
            assert mp4.shape == (96, 256, 256, 3) and mp4[0, :5, :5].max() < 12 and mp4[0].max() > 60, "on the page's background"
        if "glb" in made:
            assert len(trimesh.load(made["glb"], force="mesh").faces) > 100
        assert not w.told


def test_a_checkpoint_and_the_film_give_a_sign(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        tab = w.live.exports
        looker.click(tab.checkpoint)
        until(lambda: "checkpoint of step 0 saved" in tab.state.content and w.folder.checkpoints())
        looker.click(tab.film)
        until(lambda: "replay.html (" in tab.state.content)
        assert 800_000 < (w.folder.path / "replay.html").stat().st_size < 15_000_000
        assert not w.told


def test_buttons_and_controls_follow_the_state(tmp_path):
    with Watched(tmp_path, steps=1000) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        buttons, steering = w.live.buttons, w.live.steering
        until(lambda: tuple(buttons.group.options) == ("Continue", "Step", "Stop"))
        looker.set(buttons.group, "Step")
        until(lambda: len(w.of(StepDone)) == 1 and isinstance(w.events[-1], Paused))
        looker.set(buttons.group, "Pause")  # a page that is behind: no such button now
        key, step = buttons.commands[0], buttons.commands[1]
        looker.send("CommandTriggerMessage", uuid=step._impl.uuid)
        until(lambda: len(w.of(StepDone)) == 2 and isinstance(w.events[-1], Paused))
        looker.send("CommandTriggerMessage", uuid=key._impl.uuid)  # continue
        until(lambda: tuple(buttons.group.options) == ("Pause", "Stop") and "left" in w.live.status.text.content)
        assert buttons.group.visible and not steering.over.visible
        looker.set(buttons.group, "Stop")
        w.thread.join(120)
        assert not buttons.group.visible and all(c.disabled for c in (*buttons.commands, buttons.save))
        assert steering.over.visible and "--refine" in steering.over.content and w.live.exports.checkpoint.disabled
        live = [h for h in (*steering.handles.values(), *steering.buttons) if not h.disabled]
        assert live == [] and w.applied(Pause) == [Pause()]
        before = steering.handles["prompt"].value
        looker.set(steering.handles["prompt"], "a blue disc")
        looker.send("CommandTriggerMessage", uuid=key._impl.uuid)
        until(lambda: w.live.exports.size.value == "256", lambda: looker.set(w.live.exports.size, "256"))
        assert steering.handles["prompt"].value == before and w.commands.queue.empty()


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        w.session.state.particles[0].scene.means.data[0, 0] = float("nan")
        looker.click(w.live.exports.checkpoint)
        until(lambda: "no checkpoint of step 0" in w.live.exports.state.content)
        assert not w.folder.checkpoints()


def test_the_film_of_a_steered_run_says_what_was_in_force_at_every_step(tmp_path):
    with Watched(tmp_path, steps=8) as w:
        until(lambda: bool(w.events) and isinstance(w.events[-1], Paused))

        def three_steps():
            before = len(w.of(StepDone))
            for k in range(1, 4):
                w.commands.put(Once())
                until(lambda: len(w.of(StepDone)) == before + k and isinstance(w.events[-1], Paused))  # noqa: B023

        three_steps()
        for command in (SetField("prompt", "a blue disc"), SetField("guidance.scale", 3.5)):
            w.commands.put(command)
        until(lambda: len(w.of(Applied)) == 6)
        w.live.write_replay()  # what has been asked for, and made nothing yet, is in no title
        assert {f.caption for f in w.live.recording.frames} == {f"a red disc (sds, scale 1): step {k}" for k in range(4)}
        three_steps()
        w.commands.put(Choose("guidance", "vsd", (("scale", 2.0),)))
        w.commands.put(Continue())
        w.thread.join(120)
        made = ["a red disc (sds, scale 1)"] * 4 + ["a blue disc (sds, scale 3.5)"] * 3 + ["a blue disc (vsd, scale 2)"] * 2
        said = {f.splats.step: f.caption for f in w.live.recording.frames}
        assert {0, 3, 6, 8} <= said.keys()  # one is left out where there is no time for it
        assert all(caption == f"{made[step]}: step {step}" for step, caption in said.items())
        assert not w.told


def test_an_error_of_the_viewer_is_told_once_and_the_run_ends_well(tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError("no more ink")

    monkeypatch.setattr(run_page, "frustums", broken)
    with Watched(tmp_path, paused=False, steps=60) as w, Looker(w.live.where[0]):
        w.thread.join(300)
        assert w.of(Ended)[0].how == "done" and len(w.of(StepDone)) == 60
        until(lambda: w.told)
    assert len(w.told) == 1 and "no more ink" in w.told[0] and "viewer-error.txt" in w.told[0]


def test_a_taken_port_moves_on_and_only_this_machine_is_let_in(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        session = Session(config(), red_and_blue())
        live = RunPage(session, RunDir.create("p", tmp_path), Commands(), port)
        try:
            here, elsewhere = live.where
            assert live.port != port and live.server.get_host() == "127.0.0.1"
            assert here == f"http://127.0.0.1:{live.port}/?token={live.server.gate.token}" and elsewhere.startswith(f"ssh -L {live.port}:127.0.0.1:{live.port} ")
        finally:
            live.close()


def test_what_is_done_for_nobody_is_next_to_nothing(tmp_path):
    """Without a page no frame is made, however long; the film has its keyframes; with one, frames cost their share."""
    session = Session(config(steps=40, init=Ball(count=60)), red_and_blue())
    live = RunPage(session, RunDir.create("p", tmp_path), Commands(), 8650)
    made, live.alone.share = [], 0.5  # the film's share of the time: enough on a busy machine too
    live.frame = lambda waiting: made.append(waiting)
    try:
        for _ in range(40):
            live(session.step())
        assert made == [] and live.share.spent == 0 and 2 <= len(live.recording.frames) <= 60
        assert len(live.history) == 40 and not live.slot.full
    finally:
        live.close()


def held(live):
    """Return everything that a viewer and its server hold: threads except viser's pool of workers, open files, handles of the page."""
    gui, threads = live.server.gui, [t.name for t in threading.enumerate()]
    handles = len(live.server.scene._handle_from_node_name), len(gui._gui_input_handle_from_uuid), len(gui._container_handle_from_uuid)
    return sorted(n for n in threads if not n.startswith("ThreadPoolExecutor")), len(os.listdir("/proc/self/fd")), handles


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files here: /proc/self/fd")
def test_ten_who_come_and_go_leave_nothing(tmp_path):
    with Watched(tmp_path, paused=False) as w:
        clients, before = [], None
        for _ in range(3):
            lookers = [Looker(w.live.where[0]).__enter__() for _ in range(10)]
            until(lambda: len(w.live.browsers.there) == 10)
            clients += [weakref.ref(b.client) for b in w.live.browsers.all()]
            drawn = w.live.sent
            until(lambda: w.live.sent > drawn and all(b.cameras for b in w.live.browsers.all()))  # noqa: B023
            for looker in lookers:
                looker.__exit__()
            until(lambda: not w.live.browsers.any and w.live.server.get_clients() == {})
            before = before or held(w.live)  # the first who come may start threads that stay
        until(lambda: held(w.live) == before and sum(c() is not None for c in clients) <= 10)
        until(lambda: gc.collect() >= 0 and not any(c() for c in clients))
        assert len(clients) == 30 and not w.told and w.live.share.spent > 0
    until(lambda: not any(t.name == "splatdistill-viewer" for t in threading.enumerate()))


def test_the_turntable_turns_whoever_looks_on(tmp_path):
    with Watched(tmp_path) as w, Looker(w.live.where[0]) as looker:
        until(lambda: w.live.browsers.any)
        page = browser_of(w.live)
        client = page.client
        looker.set(page.display.turntable, True)
        until(lambda: abs(client.camera.position[1]) > 0.2)
        looker.set(page.display.turntable, False)
        until(lambda: np.allclose(client.camera.look_at, 0, atol=1e-6))  # viser moves it with the position, then we set it back
        x, y, z = client.camera.position
        assert x**2 + y**2 == pytest.approx(2.8**2, rel=1e-3) and abs(z) < 1e-6


@pytest.mark.parametrize("when", ["while its controls are added", "before it is counted"])
def test_a_browser_that_goes_at_once_takes_nobody_with_it(tmp_path, when):
    """viser takes the folders of a page away that went, under whoever fills them; others stay, and come."""
    with Watched(tmp_path) as w:
        furnish, visits, brief = w.live.browsers.furnish, [], Looker(w.live.where[0])

        def interrupted(client):
            """Add controls while the first visitor goes."""
            if visits:
                return furnish(client)
            visits.append(client)
            gone = threading.Event()
            w.live.server.on_client_disconnect(lambda client: gone.set())
            with w.live.view:
                folder = client.gui.add_folder("splats")
            browser = furnish(client) if when == "before it is counted" else None
            brief.socket.close()
            assert gone.wait(60)
            until(lambda: folder._impl.removed)
            with folder:
                return browser or client.gui.add_checkbox("too late", False)

        w.live.browsers.furnish = interrupted
        with brief:
            until(lambda: visits)
        with Looker(w.live.where[0]):
            until(lambda: [b.client for b in w.live.browsers.all() if b.client is not visits[0]])
        until(lambda: not w.live.browsers.any)
        assert not w.told and not w.live.guard.off


def test_an_error_in_adding_a_page_s_controls_is_still_one(tmp_path):
    with Watched(tmp_path) as w:
        w.live.browsers.furnish = lambda client: client.no_such_thing
        with Looker(w.live.where[0]):
            until(lambda: w.told)
        assert w.live.guard.off and "no_such_thing" in w.told[0] and len(w.told) == 1
