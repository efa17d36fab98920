"""Commands: what each does to a run, that a bad one harms nothing, and that a log repeats a steered run bit for bit."""

import json
import re
import threading
import time

import pytest
import torch

from splatdistill.densify.fixed import Fixed
from splatdistill.densify.gradient import Gradient
from splatdistill.densify.relocate import Relocate
from splatdistill.errors import UserError
from splatdistill.guidance import SDS, SJC, VSD, Times
from splatdistill.scene.initial import Ball
from splatdistill.train.commands import Choose, Commands, Continue, Densify, Once, Pause, Prune, Save, SetField, Stop
from splatdistill.train.events import Applied, Ended, Paused, Refused, StepDone
from splatdistill.train.log import Given, command_of, lost_steps
from splatdistill.train.loop import run
from splatdistill.train.replay import Replay
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import as_steered, steer
from train.small import config, red_and_blue

pytestmark = pytest.mark.usefixtures("short_films")


def steered(folder, c, at: dict[int, list], commands: Commands | None = None):
    """Run with commands after some of its steps; return its session and its events."""
    session, commands, events = Session(c, red_and_blue()), commands or Commands(), []
    at = {k: list(v) for k, v in at.items()}

    def ask(event):
        events.append(event)
        if isinstance(event, StepDone):
            for command in at.pop(event.step, []):
                commands.put(command)

    run(session, RunDir.create("p", folder), [ask], commands)
    return session, events


def same(a: Session, b: Session) -> bool:
    a, b = a.state.tensors(), b.state.tensors()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


ASKED = {
    1: [SetField("guidance.scale", 3.5), SetField("rates.colours", 0.05)],
    3: [Densify(), SetField("background.kind", "black"), SetField("regularise.sparsity", 0.3)],
    4: [Choose("guidance", "vsd", (("scale", 2.0), ("times.t_max", 0.6)))],
    6: [SetField("prompt", "a blue disc"), Prune(0.12), Pause(), Once(), Continue(), Save()],
    8: [Choose("densify", "gradient", (("every", 2), ("threshold", 1e-7), ("until", 1.0)))],
    10: [SetField("guidance.scale", -1)],
}


def test_a_replayed_log_gives_the_same_splats_bit_for_bit(tmp_path):
    c = config(densify=Relocate(growth=0.2, noise=0.0), steps=14)
    first, events = steered(tmp_path / "a", c, ASKED)
    asked = [x for some in ASKED.values() for x in some]
    assert [e.command for e in events if isinstance(e, Applied)] == asked
    plain, _ = steered(tmp_path / "plain", c, {})
    assert len(first.gaussians()) != len(plain.gaussians())
    given = RunDir(tmp_path / "a").commands()
    assert len(given) == len(asked) - 4  # pausing and saving change no splats
    again, _ = steered(tmp_path / "b", c, {}, Replay(given=given))
    assert same(first, again)
    assert (tmp_path / "a" / "splats.ply").read_bytes() == (tmp_path / "b" / "splats.ply").read_bytes()


@pytest.mark.parametrize("command", [c for some in ASKED.values() for c in some] + [Stop(), SetField("negative", "é\n")])
def test_commands_survive_the_log(tmp_path, command):
    RunDir(tmp_path).record(Applied(3, command))
    (line,) = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert command_of(json.loads(line)["command"]) == command


def test_a_refused_command_is_told_and_logged_and_the_run_goes_on(tmp_path):
    c, command = config(steps=4), SetField("seed", 3)
    (session, events), (plain, _) = steered(tmp_path / "a", c, {2: [command]}), steered(tmp_path / "b", c, {})
    (refused,) = (e for e in events if isinstance(e, Refused))
    assert refused.command == command and "cannot be changed" in refused.message and refused.step == 2
    assert isinstance(events[-1], Ended) and events[-1].how == "done"
    assert session.config == c and same(session, plain)
    assert RunDir(tmp_path / "a").commands() == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (SetField("guidance.scael", 2.0), "no field 'scael'"),
        (SetField("guidance.scale", "big"), "is a number, now"),
        (SetField("guidance.scale", float("nan")), "finite"),
        (SetField("guidance.times.t_max", 1.5), "within 0 and 1"),
        (SetField("background.kind", "purple"), "one of white"),
        (SetField("rates.means", -1.0), "--rates.means must be above 0"),
        (SetField("prompt", " "), "empty"),
        (SetField("batch", 0), "--batch must be at least 1"),
        (SetField("seed", 3), "cannot be changed"),
        (Choose("guidance", "sdx"), "expected sds"),
        (Choose("densify", "fixed", (("threshold", 1.0),)), "no field 'threshold'"),
        (Prune(1.0), "nothing would be left"),
    ],
)
def test_a_bad_command_changes_nothing(command, message):
    session = Session(config(), red_and_blue())
    before = Session(config(), red_and_blue())
    with pytest.raises(UserError, match=message):
        steer(session, command)
    assert session.config == before.config and same(session, before)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("part", "kind", "fields", "whole"),
    [
        ("guidance", "sds", (("times.t_min", 0.99), ("times.t_max", 0.995)), SDS(times=Times(t_min=0.99, t_max=0.995))),
        ("guidance", "sjc", (("times.t_max", 0.005), ("times.t_min", 0.001), ("scale", 9)), SJC(scale=9.0, times=Times(t_min=0.001, t_max=0.005))),
    ],
)
def test_values_that_only_together_make_sense_are_taken_in_any_order(part, kind, fields, whole, turned):
    session = Session(config(), red_and_blue())
    steer(session, Choose(part, kind, fields[::-1] if turned else fields))
    assert getattr(session.config, part) == whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((("scale", 3.0), ("times.t_min", 0.99)), "--guidance.times.t-max must not be below t-min"),
        ((("times.t_max", 0.5), ("times.t_mox", 0.2)), "no field 't_mox'"),
        ((("times.t_max", 0.5), ("times", 0.2)), "'times' is"),
        ((("scale.x", 0.2), ("scale", 2.0)), "no fields of its own"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_choice_of_which_one_value_is_refused_leaves_nothing_of_the_others(fields, message, turned):
    session, before = Session(config(), red_and_blue()), Session(config(), red_and_blue())
    with pytest.raises(UserError, match=re.escape(message)):
        steer(session, Choose("guidance", "sds", fields[::-1] if turned else fields))
    assert session.config == before.config and same(session, before)


def test_a_pause_holds_the_counter_a_single_step_moves_it_by_one_and_callbacks_have_the_time(tmp_path):
    commands, events = Commands(), []
    commands.put(Pause())
    session = Session(config(steps=6), red_and_blue())
    thread = threading.Thread(target=run, args=(session, RunDir.create("p", tmp_path), [events.append], commands))
    thread.start()

    def until(condition):
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        assert condition()

    def waiting():
        return sum(isinstance(e, Paused) for e in events)

    def done():
        return [e.step for e in events if isinstance(e, StepDone)]

    until(lambda: waiting() > 2)
    assert done() == []
    commands.put(Once())
    seen = waiting()
    until(lambda: done() == [1] and waiting() > seen + 2)
    assert done() == [1]
    commands.put(Continue())
    thread.join(60)
    assert done() == [1, 2, 3, 4, 5, 6] and isinstance(events[-1], Ended)
    assert not any(json.loads(line)["event"] == "Paused" for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines())


def test_a_pause_can_be_stopped(tmp_path):
    _, events = steered(tmp_path, config(steps=6), {2: [Pause(), Stop()]})
    assert events[-1].how == "stopped" and events[-1].step == 2


@pytest.mark.parametrize("densify", [Relocate(growth=0.5, every=1000), Gradient(threshold=0.0, every=1000), Gradient(threshold=0.0, every=1000, since=0.9)])
def test_densify_now_does_not_wait_for_the_schedule(densify):
    session = Session(config(densify=densify), red_and_blue())
    for _ in range(3):
        before = session.step().gaussians
    steer(session, Densify())
    assert len(session.gaussians()) > before and session.step().gaussians == len(session.gaussians())


def test_prune_now_removes_the_transparent_and_nothing_else():
    session = Session(config(init=Ball(count=60, opacity=0.3)), red_and_blue())
    with torch.no_grad():
        session.state.scene.logits[:20] = -6.0
    session.step()
    kept = session.gaussians()[session.gaussians().opacities >= 0.1]
    steer(session, Prune(0.1))
    assert torch.equal(session.gaussians().means, kept.means) and len(kept) == 40
    session.step()


def test_another_guidance_begins_with_its_own_memory():
    session = Session(config(SDS(scale=1.0)), red_and_blue())
    session.step()
    steer(session, Choose("guidance", "vsd", (("scale", 3.0),)))
    assert session.config.guidance == VSD(scale=3.0)
    fresh = VSD().init(session.prior).state_dict()
    assert fresh and session.state.memory.state_dict().keys() == fresh.keys()
    session.step()


def test_a_steered_run_resumes_as_it_stood_and_its_log_still_repeats_it(tmp_path):
    c = config(densify=Fixed(), steps=12, checkpoint_every=5)
    at = {2: [Choose("guidance", "vsd", (("scale", 2.0),)), SetField("rates.scales", 0.02)], 7: [Stop()]}
    straight, _ = steered(tmp_path / "straight", c, {k: v for k, v in at.items() if k != 7})
    steered(tmp_path / "a", c, at)
    folder = RunDir(tmp_path / "a")
    checkpoint = folder.newest_checkpoint()
    assert checkpoint.path.name == "step-000007"
    as_it_stood = as_steered(c, folder.commands(step=7))
    assert as_it_stood.guidance == VSD(scale=2.0) and as_it_stood.rates.scales == 0.02
    going_on = Session.resumed(as_it_stood, red_and_blue(), checkpoint)
    run(going_on, folder)
    assert same(going_on, straight)
    again, _ = steered(tmp_path / "b", c, {}, Replay(given=folder.commands()))
    assert same(again, straight)


def test_what_came_after_the_checkpoint_that_a_run_went_back_to_is_forgotten(tmp_path):
    folder = RunDir(tmp_path)
    from splatdistill.train.events import Resumed, Saved, Timing

    def step(k):
        return StepDone(k, 9, 1, 0.0, 0.0, 0.5, 0.5, Timing(0, 0, 0, 0), 0)

    early, late, new = Prune(0.1), Prune(0.2), Prune(0.3)
    for event in (step(1), Applied(1, early), step(2), Saved(2, "x"), step(3), Applied(3, late), step(4), Resumed(2), step(3), Applied(3, new)):
        folder.record(event)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"event": "StepD')  # the power went
    assert RunDir(tmp_path).commands() == [Given(1, early), Given(3, new)]
    assert RunDir(tmp_path).commands(step=2) == [Given(1, early)]


@pytest.mark.parametrize(
    ("events", "lost"),
    [
        ("1 2 3", ""),
        ("1 2 R2 3", ""),
        ("1 2 3 R2 3 R3 4", ""),
        ("2 3", "1"),
        ("1 2 5 6", "3 to 4"),
        ("R4 5", "1 to 4"),
        ("2 3 6 7 R3 4", "1"),
        ("1 R9 10 12", "2 to 9, 11"),
        ("1000000000000000", "1 to 999999999999999"),
        ("R0 1", ""),
    ],
)
def test_steps_that_a_log_does_not_hold(events, lost):
    lines = [{"event": "Resumed" if e[0] == "R" else "StepDone", "step": int(e.strip("R"))} for e in events.split()]
    assert lost_steps(lines) == lost


def test_a_log_that_is_none_is_explained(tmp_path):
    with pytest.raises(UserError, match="log.jsonl"):
        RunDir(tmp_path).commands()
    (tmp_path / "log.jsonl").write_text("no\n{}\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1"):
        RunDir(tmp_path).commands()


def test_times_and_their_schedule_can_be_changed():
    session = Session(config(), red_and_blue())
    for change in (SetField("guidance.times.schedule", "linear"), SetField("guidance.times.t_min", 0), SetField("guidance.times.t_max_end", 0.5)):
        steer(session, change)
    assert session.config.guidance.times == Times("linear", t_min=0.0, t_max=0.7, t_max_end=0.5)
    session.step()
