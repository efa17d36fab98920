"""The training step: it follows the prior, remembers everything, refuses what is not finite."""

import dataclasses

import pytest
import torch

from splatdistill.densify.gradient import Gradient
from splatdistill.errors import RunEnded, UserError
from splatdistill.guidance import GUIDANCES, SDS, VSD, Times
from splatdistill.scene import optim
from splatdistill.scene.optim import LearningRates
from splatdistill.train.commands import Commands, SetField, Stop
from splatdistill.train.config import Background
from splatdistill.train.divergence import explanation
from splatdistill.train.events import Applied, Ended, Saved, StepDone
from splatdistill.train.loop import run
from splatdistill.train.losses import Regularisers
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.step import backgrounds
from train.small import config, red_and_blue


def tensors(session: Session) -> dict[str, torch.Tensor]:
    return session.state.tensors()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_splats_become_what_the_prior_wants():
    prior = red_and_blue()
    session = Session(config(steps=150), prior)
    for _ in range(150):
        session.step()
    views = session.preview(16)
    middle, corner = views[:, :, 6:10, 6:10].mean((0, 2, 3)), views[:, :, :2, :2].mean((0, 2, 3))
    assert middle[0] > 0.7 and middle[1] < 0.45 and middle[2] < 0.45, middle
    assert (corner > 0.9).all(), corner


@pytest.mark.parametrize("name", list(GUIDANCES))
def test_same_seed_same_run_other_seed_other_run(name):
    prior, guidance = red_and_blue(), GUIDANCES[name](scale=2.0)
    runs = []
    for seed in (0, 0, 1):
        session = Session(config(guidance, seed=seed, steps=4), prior)
        for _ in range(4):
            session.step()
        runs.append(tensors(session))
    assert same(runs[0], runs[1])
    assert not torch.equal(runs[0]["scene.means"], runs[2]["scene.means"])


@pytest.mark.parametrize("name", list(GUIDANCES))
def test_resume_is_bit_exact_with_densification_on_both_sides(name, tmp_path):
    densify = Gradient(since=0.05, until=1.0, every=4, threshold=1e-7)
    c = config(GUIDANCES[name](scale=2.0), densify=densify, background=Background("learned"), regularise=Regularisers(sparsity=0.01))
    straight = Session(c, red_and_blue())
    counts = [len(straight.gaussians())] + [straight.step().gaussians for _ in range(20)]
    assert counts[12] > counts[0] and counts[20] > counts[12], f"densification did nothing: {counts}"
    first = Session(c, red_and_blue())
    for _ in range(12):
        first.step()
    first.state.save(tmp_path / "half", c)
    second = Session.resumed(c, red_and_blue(), tmp_path / "half")
    assert same(tensors(first), tensors(second))
    for _ in range(8):
        second.step()
    assert same(tensors(straight), tensors(second))


def test_accumulation_averages_the_gradients_of_its_batches():
    prior = red_and_blue()
    both = Session(config(accumulate=2, batch=1), prior)
    prior.calls = 0
    both.step()
    assert prior.calls == 2, "scale 1 asks once per view"
    grads = []
    halves = Session(config(accumulate=1, batch=1), prior)
    original = halves.state.optimizer.step
    halves.state.optimizer.step = lambda *a, **k: grads.append(halves.state.scene.means.grad.clone())  # look, do not move
    halves.step()
    halves.step()
    halves.state.optimizer.step = original
    torch.testing.assert_close(both.state.scene.means.grad, (grads[0] + grads[1]) / 2, rtol=1e-4, atol=1e-7)


@dataclasses.dataclass(frozen=True)
class Broken(SDS):
    """Not finite at the steps named."""

    bad: tuple[int, ...] = ()

    def residual(self, view, n, answers, memory):
        grad = super().residual(view, n, answers, memory)
        memory.count = getattr(memory, "count", 0) + 1
        return grad * float("nan") if memory.count - 1 in self.bad else grad


def test_a_non_finite_gradient_is_refused_and_counted():
    session = Session(config(Broken(scale=1.0, bad=(1,))), red_and_blue())
    session.step()
    before = {k: v for k, v in tensors(session).items() if k != "rng"}
    done = session.step()
    assert (done.step, done.refused) == (1, 1) and not session.last.taken
    assert same(before, {k: v for k, v in tensors(session).items() if k != "rng"})
    assert session.step().step == 2


def test_a_step_refused_at_its_second_batch_leaves_nothing_of_the_first():
    densify = Gradient(since=0.0, until=1.0, every=100)
    session = Session(config(Broken(scale=1.0, bad=(3,)), accumulate=2, densify=densify), red_and_blue())
    session.step()
    before = {k: v for k, v in tensors(session).items() if k != "rng"}
    assert before["densify.views"].sum() > 0
    session.step()
    assert not session.last.taken and same(before, {k: v for k, v in tensors(session).items() if k != "rng"})
    session.step()
    assert (tensors(session)["densify.views"] >= before["densify.views"]).all() and session.state.step == 2


@pytest.mark.parametrize("accumulate", [1, 3])
def test_what_a_guidance_learns_is_from_all_batches_of_a_step(accumulate, monkeypatch):
    seen, learn = [], VSD.learn
    monkeypatch.setattr(VSD, "learn", lambda self, view, memory: (seen.append(view.x.detach().clone()), learn(self, view, memory))[1])
    session = Session(config(VSD(scale=2.0), accumulate=accumulate, batch=2), red_and_blue())
    session.step()
    assert len(seen) == accumulate and len({float(x.sum()) for x in seen}) == accumulate
    assert float(session.state.memory.get_buffer("step_0")) == accumulate


def test_a_run_of_refusals_ends_with_a_verdict_and_a_checkpoint(tmp_path):
    session = Session(config(Broken(scale=1.0, bad=tuple(range(3, 99)))), red_and_blue())
    events = []
    with pytest.raises(RunEnded, match="nan"):
        run(session, RunDir.create("x", tmp_path / "r"), [events.append])
    assert isinstance(events[-1], Ended) and events[-1].how == "nan"
    again = Session.resumed(session.config, red_and_blue(), RunDir(tmp_path / "r").newest_checkpoint())
    assert again.state.step == 3 and all(p.isfinite().all() for p in again.state.scene.parameters())


def test_an_empty_scene_ends_with_a_verdict(tmp_path):
    c = config(SDS(scale=1.0, weight="one"), steps=400, guidance_weight=0.0, regularise=Regularisers(sparsity=100.0))
    with pytest.raises(RunEnded, match="empty"):
        run(Session(c, red_and_blue()), RunDir.create("x", tmp_path / "r"))


FADING = {"guidance_weight": 0.0, "regularise": Regularisers(sparsity=100.0), "rates": LearningRates(opacities=0.5)}


def ending(folder: RunDir) -> str:
    """Return the end of a run from its log."""
    return folder.last_events()["Ended"]["how"]


def test_a_short_run_that_ends_empty_is_no_success_and_neither_is_going_on_with_it(tmp_path):
    c, folder = config(SDS(scale=1.0, weight="one"), steps=30, checkpoint_every=10, **FADING), RunDir.create("x", tmp_path / "r")
    with pytest.raises(RunEnded, match="empty"):
        run(Session(c, red_and_blue()), folder)
    assert ending(folder) == "empty" and folder.splats.exists() and not folder.finished()
    assert folder.newest_checkpoint().note.sign == "empty"
    with pytest.raises(RunEnded, match="empty"):
        run(Session.resumed(c, red_and_blue(), folder.newest_checkpoint()), folder)
    assert ending(folder) == "empty"


def test_the_last_good_state_is_one_that_was_looked_at(tmp_path, monkeypatch):
    """One splat turns NaN after step 7; steps after it are refused."""
    from splatdistill.train import session as module

    real = module.train_step

    def step(state, *rest):
        if state.step == 7:
            state.scene.means.data[3] = float("nan")
        return real(state, *rest)

    monkeypatch.setattr(module, "train_step", step)
    folder = RunDir.create("x", tmp_path / "r")
    with pytest.raises(RunEnded, match=r"\(nan\)[\s\S]*last good state is in .*step-000005"):
        run(Session(config(checkpoint_every=5, steps=40), red_and_blue()), folder)
    assert ending(folder) == "nan" and [p.name for p in folder.checkpoints()] == ["step-000005"]


def test_sizes_that_explode_are_a_verdict_though_no_picture_can_be_made(tmp_path, monkeypatch):
    session, folder = Session(config(steps=5), red_and_blue()), RunDir.create("x", tmp_path / "r")

    def grow(event):
        if isinstance(event, StepDone) and event.step == 5:
            session.state.scene.log_scales.data.fill_(200.0)

    with pytest.raises(RunEnded, match="exploded"):
        run(session, folder, [grow])
    assert ending(folder) == "exploded" and not folder.splats.exists()


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError(), RuntimeError("std::bad_alloc")])
def test_memory_that_runs_out_is_a_verdict_and_the_state_is_saved(tmp_path, monkeypatch, error):
    session, folder = Session(config(steps=9), red_and_blue()), RunDir.create("x", tmp_path / "r")
    real, calls = session.prior.answer, []

    def answer(*rest):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return real(*rest)

    session.prior.answer = answer
    with pytest.raises(RunEnded, match="oom"):
        run(session, folder)
    assert folder.newest_checkpoint().note.step == 3 and ending(folder) == "oom"


@pytest.mark.parametrize(
    ("changes", "help"),
    [
        ({"batch": 4}, "try --low-memory or --batch 1 --accumulate 4 (as many views a step, one at a time)"),
        ({"batch": 2, "accumulate": 3, "low_memory": True}, "try --batch 1 --accumulate 6 (as"),
        ({"batch": 1}, "try --low-memory"),
        ({"batch": 1, "low_memory": True}, "try a lower --max-gaussians, or a device with more memory"),
    ],
)
def test_where_memory_runs_out_what_was_not_tried_is_named(changes, help):
    said = explanation("oom", config(**changes))
    assert said.startswith(f"out of memory; {help}") and "resolutions" not in said


def test_other_errors_are_no_verdict(tmp_path):
    session = Session(config(), red_and_blue())

    def answer(*_):
        raise RuntimeError("a mistake of ours")

    session.prior.answer = answer
    with pytest.raises(RuntimeError, match="ours"):
        run(session, RunDir.create("x", tmp_path / "r"))


def test_more_splats_than_allowed_are_refused_before_they_are_made():
    with pytest.raises(UserError, match=r"--init.count 9000000 is more than"):
        Session(config(init=dataclasses.replace(config().init, count=9_000_000)), red_and_blue())


def test_a_run_killed_before_its_files_gets_them(tmp_path):
    c, folder = config(steps=4), RunDir.create("x", tmp_path / "r")
    whole = RunDir.create("x", tmp_path / "whole")
    run(Session(c, red_and_blue()), whole)

    def killed(event):
        if isinstance(event, Saved):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Session(c, red_and_blue()), folder, [killed])
    assert not folder.splats.exists() and not folder.finished()
    run(Session.resumed(c, red_and_blue(), folder.newest_checkpoint()), folder)
    assert folder.finished() and folder.splats.read_bytes() == whole.splats.read_bytes()


def test_what_a_run_goes_on_with_otherwise_is_recorded(tmp_path):
    c, folder = config(steps=4), RunDir.create("x", tmp_path / "r")
    run(Session(c, red_and_blue()), folder)
    longer = dataclasses.replace(c, steps=6)
    run(Session.resumed(longer, red_and_blue(), folder.newest_checkpoint()), folder)
    assert [g.command for g in folder.commands()] == [SetField("steps", 6)] and folder.settings(4)["steps"] == 6
    assert folder.newest_checkpoint().note.step == 6


def test_commands_take_effect_and_are_logged(tmp_path):
    session, commands, events = Session(config(), red_and_blue()), Commands(), []

    def watch(event):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 3:
            commands.put(SetField("guidance.scale", 5))
        if isinstance(event, StepDone) and event.step == 6:
            commands.put(Stop())

    ended, artefacts = run(session, RunDir.create("x", tmp_path / "r"), [watch], commands)
    assert ended.how == "stopped" and ended.step == 6
    assert session.config.guidance.scale == 5.0
    assert [(e.step, type(e.command)) for e in events if isinstance(e, Applied)] == [(3, SetField), (6, Stop)]
    assert any(isinstance(e, Saved) for e in events)
    assert artefacts.splats.exists() and artefacts.turntable.exists() and artefacts.sheet.exists()
    log = (tmp_path / "r" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(log) == len(events)
    with pytest.raises(UserError, match="no field 'scael'"):
        session.apply(SetField("guidance.scael", 5.0))


def test_resolution_stages_change_what_is_rendered():
    session = Session(config(resolutions=(16, 32), milestones=(0.5,), steps=4), red_and_blue())
    sizes = []
    for _ in range(4):
        session.step()
        sizes.append(session.last.out.rgb.shape[-1])
        assert session.last.view.x.shape[-1] == 16, "the prior always sees its own size"
    assert sizes == [16, 16, 32, 32]


def test_never_more_than_max_gaussians():
    c = config(densify=Gradient(since=0.0, until=1.0, every=2, threshold=1e-9), max_gaussians=70)
    session = Session(c, red_and_blue())
    assert max(session.step().gaussians for _ in range(20)) == 70


def test_the_learned_background_goes_where_the_prior_wants_it():
    c = config(steps=60, background=Background("learned", rate=0.2), init=dataclasses.replace(config().init, opacity=0.02))
    session = Session(c, red_and_blue())
    for _ in range(60):
        session.step()
    assert (session.state.background.sigmoid() > 0.8).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"prompt": "  "}, "empty"),
        ({"steps": 0}, "--steps"),
        ({"batch": 0}, "--batch"),
        ({"resolutions": (16, 32)}, "milestones"),
        ({"resolutions": (16, 32), "milestones": (1.5,)}, "milestones"),
        ({"max_gaussians": 10}, "more than"),
    ],
)
def test_senseless_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Session(config(**change), red_and_blue())


@pytest.mark.parametrize(("meant", "factor"), [(0, 1), (10, 0.25), (30, 0.75), (80, 1)])
def test_rates_meant_for_a_shorter_run_are_slower_for_every_particle(meant, factor):
    rates = LearningRates(opacities=0.04, tuned_for_steps=meant)
    session = Session(config(guidance=VSD(), particles=2, steps=80, rates=rates), red_and_blue())
    while session.state.step < 6:
        session.step()
    used = [optim.group(p.optimizer, "logits")["lr"] for p in session.state.particles]
    assert used == pytest.approx([0.04 * factor] * 2)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    session = Session(config(), red_and_blue())
    session.step()
    folder = tmp_path / "checkpoint"
    session.state.save(folder, session.config)
    before = (folder / "state.safetensors").read_bytes()
    session.step()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("splatdistill.train.checkpoint.write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        session.state.save(folder, session.config)
    assert (folder / "state.safetensors").read_bytes() == before and list(tmp_path.iterdir()) == [folder]


def test_times_schedule_reaches_the_guidance():
    session = Session(config(SDS(scale=1.0, times=Times("linear", t_min=0.2, t_max=0.8)), steps=4), red_and_blue())
    assert [round(session.step().t, 6) for _ in range(4)] == [0.8, 0.65, 0.5, 0.35]


def test_views_that_a_prior_sees_together_share_their_background_and_come_in_whole_sets():
    prior = red_and_blue()
    prior.views = 2
    behind = backgrounds(Background("random"), torch.zeros(3), 6, torch.Generator().manual_seed(0), 2)
    assert torch.equal(behind[0::2], behind[1::2]) and len(behind.unique(dim=0)) == 3
    with pytest.raises(UserError, match="loaded to see 2 views at a time, and the configuration says prior_views 1; load it with views=1"):
        Session(config(batch=2), prior)
    session = Session(config(batch=2, background=Background("random"), prior_views=2), prior)
    session.step()
    t = session.last.distilled.noised.t
    assert torch.equal(t[0::2], t[1::2]) and t[0] != t[2]
