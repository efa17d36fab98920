"""The viewer's parts, each by itself and without a page: snapshots, budget, cameras, pictures, film, tools."""

import base64
import dataclasses
import io
import math
import re
import sys
import threading
import time

import numpy as np
import pytest
import torch
from ellipsoids import some
from looker import FRONT
from PIL import Image
from splatdistill_viewer.budget import Budget
from splatdistill_viewer.cameras import Pose, frustums, in_the_way, turntable
from splatdistill_viewer.clean import Cleaning
from splatdistill_viewer.controls import Pending
from splatdistill_viewer.guard import Guard
from splatdistill_viewer.history import MOST, History, Pace
from splatdistill_viewer.record import Keyframe, Recording, film, settings, write_html
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import Slot, adjusted, snapshot
from splatdistill_viewer.status import Status, remaining
from train.small import config

from splatdistill.cameras import Orbit
from splatdistill.gaussians import rotation_matrices
from splatdistill.guidance import ISM, SDI
from splatdistill.settings.documentation import documentation
from splatdistill.train.commands import SetField
from splatdistill.train.events import StepDone, Timing

# snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_the_splats():
    g = some()
    s = snapshot(g, 7)
    r = rotation_matrices(g.quats)
    expected = r @ torch.diag_embed(g.scales.square()) @ r.mT
    assert s.step == 7 and len(s) == 50
    np.testing.assert_allclose(s.covariances, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(s.centers, g.means.numpy())
    np.testing.assert_allclose(s.opacities[:, 0], g.opacities.numpy())
    np.testing.assert_allclose(s.rgbs, g.rgb.clamp(0, 1).numpy())


@pytest.mark.parametrize("sigma", [5e-4, 2e-4, 1e-4, 1e-6])
def test_small_splats_do_not_vanish_in_half_precision(sigma):
    g = dataclasses.replace(some(), scales=torch.full((50, 3), sigma))
    packed = snapshot(g).covariances.astype(np.float16).astype(np.float64)
    least = np.linalg.eigvalsh(packed).min()
    assert math.sqrt(least) > 0.9e-3
    assert sigma >= 5e-4 or np.float16(sigma**2) < 1e-7  # what they would be otherwise


def test_a_snapshot_leaves_out_what_is_not_finite_and_shares_no_memory():
    g = some()
    g.means[3, 1] = float("nan")
    s = snapshot(g)
    assert len(s) == 49 and np.isfinite(s.centers).all()
    before = s.centers.copy()
    g.means[:] = 0
    np.testing.assert_array_equal(s.centers, before)


def test_thinning_keeps_how_much_is_covered():
    s = snapshot(some(1000, scale=0.02))
    t = s.thinned(100)
    assert len(t) == 100 and len(s.thinned(5000)) == 1000
    volume = lambda x: np.sqrt(np.linalg.det(x.covariances.astype(np.float64))).sum()  # noqa: E731
    assert volume(t) / volume(s) == pytest.approx(1, rel=0.25)


def test_size_and_cutoff():
    g = some()
    g.opacities[:10] = 0.01
    a = adjusted(g, 2.0, 0.05)
    assert len(a) == 40 and torch.equal(a.scales, 2 * g.scales[10:])
    assert adjusted(g) is g


def test_the_slot_holds_one_thing_the_newest():
    slot = Slot()
    assert slot.take(0.01) is None and not slot.full
    slot.put(1)
    slot.put(2)
    assert slot.full and slot.take(0.01) == 2 and slot.take(0.01) is None


# budget -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.005, 0.03, 0.5])
def test_work_of_any_cost_takes_its_share_of_the_time_and_no_more(share):
    now, rng = [0.0], np.random.default_rng(0)
    budget = Budget(share, clock=lambda: now[0])
    while now[0] < 1000:
        if budget.due():
            with budget.spend():
                now[0] += rng.uniform(0, 0.2)
            budget.charge(rng.uniform(0, 0.1))  # on another thread, meanwhile
        now[0] += 0.01
    assert 0.8 * share < budget.spent / now[0] < 1.1 * share


def test_not_more_often_than_asked():
    now = [0.0]
    budget = Budget(0.5, least=1.0, clock=lambda: now[0])
    times = []
    while now[0] < 10:
        if budget.due():
            times.append(now[0])
            with budget.spend():
                pass
        now[0] += 0.01
    assert 9 <= len(times) <= 11


# cameras ----------------------------------------------------------------------------------------------------------


def test_poses_of_the_page_and_our_cameras_are_the_same():
    cameras = Orbit(elevation=(-80.0, 80.0)).sample(16, 30, 20, torch.Generator().manual_seed(1))
    for i, f in enumerate(frustums(cameras)):
        back = Pose(tuple(f.wxyz), tuple(f.position), f.fov, f.aspect, 20).cameras(20)
        torch.testing.assert_close(back.world_to_camera[0], cameras.world_to_camera[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(back.intrinsics[0], cameras.intrinsics[i], atol=1e-3, rtol=0)
        assert (back.width, back.height) == (30, 20)


def test_a_turntable_comes_around_and_keeps_its_height_and_distance():
    p = Pose((1, 0, 0, 0), (2.0, 0.5, 0.7), 0.7, 1.0, 10)
    at = (0.1, 0.2, 0.3)
    half = turntable(p, 180.0, at)
    np.testing.assert_allclose(half, (2 * 0.1 - 2.0, 2 * 0.2 - 0.5, 0.7), atol=1e-12)
    np.testing.assert_allclose(turntable(p, 360.0, at), p.position, atol=1e-12)


def test_a_camera_is_in_the_way_between_the_eye_and_the_object_only():
    eye = Pose(tuple(FRONT[0]), FRONT[1], math.radians(42), 1.5, 40)  # on +x, looks at the origin
    for at, hidden in {
        (1.5, 0.0, 0.0): True, (1.0, 0.5, 0.3): True, (2.7, 0.1, 0.0): True,  # before the object, and close by
        (-1.5, 0.0, 0.0): False, (0.5, 2.6, 0.0): False, (0.0, 0.0, 2.8): False, (5.0, 0.0, 0.0): False,  # behind it, beside, behind the eye
    }.items():  # fmt: skip
        assert in_the_way(np.array(at), eye, (0.0, 0.0, 0.0)) == hidden, at
    assert in_the_way(np.array((-0.5, 0.0, 0.0)), eye, (-1.0, 0.0, 0.0)), "it goes by what is looked at"


# film -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [0, 1, 8], ids=["not known", "as many", "stopped after an eighth"])
@pytest.mark.parametrize("steps", [1, 7, 60, 1000, 10_000])
def test_keyframes_are_spread_evenly_and_bounded(steps, planned):
    recording, s = Recording(steps * planned, most=20, splats=10), snapshot(some(30))
    made = 0
    for step in range(steps + 1):
        if recording.due(step):
            recording.add(dataclasses.replace(s, step=step), f"made at {step}")
            made += 1
    at = [f.splats.step for f in recording.frames]
    assert all(f.caption == f"made at {f.splats.step}: step {f.splats.step}" for f in recording.frames)
    assert planned < 8 or made <= 22, "where the steps are known, no keyframe is made that would be thrown away"
    assert len(at) <= 20 and len(at) >= min(steps, 10) and at == sorted(set(at))
    gaps = np.diff(at)
    assert len(gaps) == 0 or (gaps.max() <= 2 * max(gaps.min(), 1) and at[-1] >= steps - gaps.max())
    assert all(len(f.splats) == 10 for f in recording.frames)


def test_the_film_is_one_file_with_all_frames_under_the_limit(tmp_path):
    import zstandard

    words = ["a <b>red</b> ball (sds, scale 7)"] * 3 + ["a blue ball (vsd, scale 2)"] * 2
    frames = [Keyframe(dataclasses.replace(snapshot(some(400, seed=k)), step=10 * k), words[k]) for k in range(5)]
    html = film(frames)
    assert not re.search(r"""(src|href)=["']https?://""", html.split("__VISER_EMBED_DATA__")[0])
    (data,) = re.findall(r'__VISER_EMBED_DATA__="([^"]+)"', html)
    inside = zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(data)[8:])
    for k in range(5):
        assert f"{words[k]}: step {10 * k}".encode() in inside, "the title says what was in force then"
        assert frames[k].splats.centers[0].tobytes() in inside, "every frame has its own splats"
    small = len(html.encode()) - 20_000
    path = write_html(tmp_path / "replay.html", frames, limit=small)
    assert len(html.encode()) * 0.5 < path.stat().st_size <= small
    with pytest.raises(ValueError):
        write_html(tmp_path / "none.html", [])


def test_a_title_names_the_prompt_and_the_guidance():
    assert settings(config()) == "a red disc (sds, scale 1)"
    assert settings(config(ISM(), prompt="é")) == "é (ism, scale 7.5)"


# tools ------------------------------------------------------------------------------------------------------------


def test_cleaning_takes_floaters_needles_ghosts_and_what_is_outside_and_nothing_else():
    g = some(300, scale=0.03)
    g = dataclasses.replace(g, scales=torch.full((300, 3), 0.03), opacities=torch.full((300,), 0.5))
    assert Cleaning().keep(g).all()
    g.means[0] = torch.tensor([3.0, 0, 0])
    g.scales[1] = torch.tensor([0.01, 0.9, 0.01])
    g.scales[2] = torch.tensor([0.3, 0.001, 0.3])  # a disc
    g.opacities[3] = 0.001
    gone = {
        "floater": Cleaning(floater=6.0), "needle": Cleaning(needle=20.0), "opacity": Cleaning(opacity=0.01),
        "box": Cleaning(low=(-1, -1, -1), high=(1, 1, 1)),
    }  # fmt: skip
    found = {k: torch.nonzero(~c.keep(g))[:, 0].tolist() for k, c in gone.items()}
    assert found == {"floater": [0], "needle": [1], "opacity": [3], "box": [0]}
    together = Cleaning((-1, -1, -1), (1, 1, 1), 0.01, 20.0, 6.0)
    assert torch.nonzero(~together.keep(g))[:, 0].tolist() == [0, 1, 3]
    assert Cleaning(floater=2.0).keep(g[:0]).shape == (0,)


# the rest ---------------------------------------------------------------------------------------------------------


def done(step: int, seconds: float = 0.1) -> StepDone:
    return StepDone(step, 10_000, 60, 0.5, 2.0 * step, 0.4, 0.3, Timing(seconds, seconds, seconds, seconds), 0)


def test_curves_are_thinned_with_their_ends_kept():
    history = History()
    assert history.speed() == 0
    for k in range(1, 3001):
        history.add(done(k), spread=1.0)
    steps, norm, spread = history.column("step", "grad_norm", "spread")
    assert len(steps) == MOST and steps[0] == 1 and steps[-1] == 3000 and (norm == 2 * steps).all() and (spread == 1).all()
    assert history.speed() == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("steps", "speed", "words"),
    [(0, 5, ""), (10, 0, ""), (1, 100, "1 s left"), (100, 2, "50 s left"), (178, 2, "89 s left"), (600, 2, "5 min left"), (36_000, 4, "2 h 30 min left")],
)
def test_the_time_that_is_left_is_told_as_a_person_says_it(steps, speed, words):
    assert remaining(steps, speed) == words


def test_the_pace_of_runs_that_take_turns_leaves_out_pauses():
    now = [0.0]
    pace = Pace(last=4, clock=lambda: now[0])
    assert pace.speed() == 0
    for k in range(20):
        now[0] += 0.5
        pace.step()
        if k == 17:
            for _ in range(5):
                now[0] += 20
                pace.wait()
    assert pace.speed() == pytest.approx(2.0, rel=1e-6)


def test_typing_a_number_is_one_command():
    put, now = [], [0.0]
    pending = Pending(put.append, clock=lambda: now[0])
    for value in (1.0, 12.0, 12.5):
        pending.change("guidance.scale", value)
        now[0] += 0.1
        pending.flush()
    pending.change("rates.means", 0.1)
    assert put == []
    now[0] += 0.35
    pending.flush()
    assert put == [SetField("guidance.scale", 12.5)]
    now[0] += 1
    pending.flush()
    pending.flush()
    assert put[1:] == [SetField("rates.means", 0.1)]


def test_hints_are_the_docstrings_of_the_fields():
    texts = documentation(SDI)
    assert texts["scale"].startswith("Classifier-free guidance") and "fresh noise" in texts["eta"] and "w(t)" in texts["weight"]


def test_the_first_error_switches_off_and_is_told_once(tmp_path):
    told, closed, calls = [], [], []
    guard = Guard(told.append, tmp_path / "trace.txt")
    guard.on_off.append(lambda: closed.append(True))
    guard.on_off.append(lambda: 1 / 0)

    def bad(x):
        calls.append(x)
        raise RuntimeError("the wire was cut")

    for k in range(3):
        guard(bad, k)
    assert calls == [0] and guard.off and closed == [True]
    assert len(told) == 1 and "the wire was cut" in told[0] and "the run goes on" in told[0]
    assert "def bad" not in told[0] and "RuntimeError" in (tmp_path / "trace.txt").read_text(encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        Guard(told.append)(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))


def test_pages_that_open_and_end_leave_alone_what_others_say(capsys):
    out, said = sys.stdout, []
    threads = [threading.Thread(target=lambda p=port: Server(p).end()) for port in (8400, 8410)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        said.append(f"line {len(said)}")
        print(said[-1])
        time.sleep(0.01)
    assert sys.stdout is out and [line for line in capsys.readouterr().out.splitlines() if line.startswith("line")] == said


def test_the_picture_that_a_run_began_with_is_shown_on_white():
    import torch
    from splatdistill_viewer.prior_panel import prompted_by

    half = torch.zeros(4, 256, 256)
    half[0, :, :128] = half[3, :, :128] = 1.0  # the left half is red, the right one see-through
    html = prompted_by(half)
    data = base64.b64decode(html.split("base64,")[1].split('"')[0])
    shown = np.asarray(Image.open(io.BytesIO(data)))
    assert shown.shape == (128, 128, 3) and tuple(shown[64, 20]) == (255, 0, 0) and tuple(shown[64, 110]) == (255, 255, 255)
    assert prompted_by(None) == ""


def test_the_status_says_how_many_moves_a_step_has():
    """Speed counts steps; the moves of each are told beside it, where there are several."""
    server = Server(8790)
    try:
        status = Status(server.gui, "p")
        for inner, words in ((1, "2.5 steps/s"), (3, "2.5 steps/s, 3 updates a step")):
            status.update(config(steps=100, inner=inner), 10, 60, 2.5, "running")
            assert status.text.content.endswith(f"{words}</div>"), status.text.content
            assert "step 10 of 100" in status.text.content and "36 s left" in status.text.content
    finally:
        server.end()
