"""Several scenes in one run: each has its own splats, optimizer, densifier and files; what is learned is shared."""

import json

import pytest
import torch

from splatdistill.densify.gradient import Gradient
from splatdistill.errors import UserError
from splatdistill.guidance import SDS, VSD, Times
from splatdistill.io.ply import load_ply
from splatdistill.train.commands import SetField
from splatdistill.train.config import Background
from splatdistill.train.divergence import DivergenceMonitor, Limits
from splatdistill.train.events import Preview, StepDone
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from train.small import config, red_and_blue


def values(session: Session, k: int) -> dict[str, torch.Tensor]:
    return {n: v.detach().clone() for n, v in session.state.particles[k].tensors().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_each_step_moves_one_particle_drawn_at_random_and_leaves_the_others():
    session = Session(config(VSD(scale=2.0), particles=3, steps=24, background=Background("learned")), red_and_blue())
    starts = [values(session, k) for k in range(3)]
    assert not any(torch.equal(starts[0]["scene.means"], s["scene.means"]) for s in starts[1:]), "each starts elsewhere"
    turns = []
    for _ in range(24):
        before = [values(session, k) for k in range(3)]
        done = session.step()
        moved = [k for k in range(3) if not same(before[k], values(session, k))]
        assert moved == [done.particle] == [session.last.particle]
        turns.append(done.particle)
    counts = [turns.count(k) for k in range(3)]
    assert min(counts) >= 3 and [p.step for p in session.state.particles] == counts and session.state.step == 24
    assert turns[:3] != turns[3:6] or turns[6:9] != turns[9:12], "at random, not in turn"


def test_the_first_of_several_starts_as_the_only_one():
    one, three = Session(config(), red_and_blue()), Session(config(particles=3), red_and_blue())
    assert torch.equal(one.gaussians().means, three.gaussians().means)


def test_one_adapter_is_taught_by_all():
    session = Session(config(VSD(scale=2.0), particles=2), red_and_blue())
    seen = set()
    for _ in range(12):
        before = session.state.memory.network.shift.detach().clone()
        seen.add(session.step().particle)
        assert not torch.equal(before, session.state.memory.network.shift)
    assert seen == {0, 1}
    assert float(session.state.memory.step_0) == 12


@pytest.mark.parametrize("background", ["learned", "mixed"])
def test_resume_is_bit_exact(background, tmp_path):
    densify = Gradient(since=0.05, until=1.0, every=3, threshold=1e-7)
    c = config(VSD(scale=2.0), particles=3, steps=30, densify=densify, background=Background(background))
    straight = Session(c, red_and_blue())
    for _ in range(30):
        straight.step()
    counts = [len(straight.gaussians(k)) for k in range(3)]
    assert min(counts) > 60 and len(set(counts)) > 1, f"each is densified by its own statistics: {counts}"
    first = Session(c, red_and_blue())
    for _ in range(17):
        first.step()
    first.state.save(tmp_path / "half", c)
    second = Session.resumed(c, red_and_blue(), tmp_path / "half")
    assert same(first.state.tensors(), second.state.tensors())
    for _ in range(13):
        second.step()
    assert same(straight.state.tensors(), second.state.tensors())
    assert [p.step for p in straight.state.particles] == [p.step for p in second.state.particles]


def test_a_checkpoint_of_other_particles_is_refused(tmp_path):
    Session(config(particles=2), red_and_blue()).state.save(tmp_path / "two", config(particles=2))
    with pytest.raises(UserError, match="2 particles.*--particles 3"):
        Session.resumed(config(particles=3), red_and_blue(), tmp_path / "two")


def test_densification_counts_the_steps_of_its_own_particle():
    densify = Gradient(since=0.0, until=1.0, every=4, threshold=1e-9)
    session = Session(config(particles=2, steps=40, densify=densify), red_and_blue())
    for _ in range(40):
        done = session.step()
        own = session.state.particles[done.particle]
        assert (len(own.scene) > 60) == (own.step >= 4)


def test_every_particle_leaves_its_files_and_pictures(tmp_path):
    session, events = Session(config(particles=2, steps=6, preview_every=3, checkpoint_every=3), red_and_blue()), []
    folder = RunDir.create("x", tmp_path / "r")
    ended, files = run(session, folder, [events.append])
    names = {p.name for p in folder.path.iterdir() if p.is_file()}
    assert names == {"log.jsonl"} | {f"{n}{k}.{e}" for n, e in (("splats", "ply"), ("turntable", "mp4"), ("sheet", "png")) for k in ("", "-2")}
    assert len(files.others) == 1 and files.others[0].splats == folder.path / "splats-2.ply"
    for k, (path, result) in enumerate(((files.splats, ended.result), (files.others[0].splats, *ended.others))):
        torch.testing.assert_close(load_ply(path).strict().means, session.gaussians(k).means)
        assert torch.equal(result.means, session.gaussians(k).means)
    assert files.sheet.read_bytes() != files.others[0].sheet.read_bytes()
    (preview,) = (e for e in events if isinstance(e, Preview))
    assert preview.views.shape == (8, 3, 128, 128), "four sides of each"
    log = [json.loads(line) for line in (folder.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [e["particle"] for e in log if e["event"] == "StepDone"] == [e.particle for e in events if isinstance(e, StepDone)]
    again = Session.resumed(session.config, red_and_blue(), folder.newest_checkpoint())
    assert same(session.state.tensors(), again.state.tensors())


def test_a_run_of_one_says_and_stores_nothing_of_particles(tmp_path):
    session = Session(config(steps=2), red_and_blue())
    folder = RunDir.create("x", tmp_path / "r")
    run(session, folder)
    assert "particle" not in (folder.path / "log.jsonl").read_text(encoding="utf-8")
    assert not any("particle" in name for name in session.state.tensors())


@pytest.mark.parametrize("count", [0, 9])
def test_a_senseless_number_is_refused(count):
    with pytest.raises(UserError, match="--particles must lie within 1 and 8"):
        Session(config(particles=count), red_and_blue())


def test_the_number_cannot_change_while_a_run_goes_on():
    with pytest.raises(UserError, match="particles"):
        Session(config(), red_and_blue()).apply(SetField("particles", 2))


def test_bad_signs_are_counted_for_each_particle():
    """A sound scene between two looks at an empty one does not make the empty one sound."""
    sound = Session(config(), red_and_blue()).gaussians()
    watcher, empty = DivergenceMonitor(Limits(patience=3)), sound[:0]
    verdicts = []
    for _ in range(3):
        assert watcher.look(sound, 0.3, particle=0) is None
        verdicts.append(watcher.look(empty, 0.0, particle=1))
    assert verdicts == [None, None, "empty"]


def test_particles_of_sds_are_independent_scenes_towards_the_same_thing():
    session = Session(config(SDS(scale=1.0, times=Times(t_min=0.02, t_max=0.7)), particles=2, steps=180), red_and_blue())
    for _ in range(180):
        session.step()
    views = session.preview(16)
    for k in range(2):
        middle = views[4 * k : 4 * k + 4, :, 6:10, 6:10].mean((0, 2, 3))
        assert middle[0] > 0.7 and middle[1] < 0.5 and middle[2] < 0.5, middle
