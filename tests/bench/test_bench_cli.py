"""A whole bench from the command line on a small random prior: stopped, gone on with, failing in part, and never redone."""

import json
import threading
import time
from pathlib import Path

import pytest
from helpers import write_sd_folder

from splatdistill.bench import local
from splatdistill.bench.job_runner import ended, locked, outcome, resumable, run_job
from splatdistill.bench.plan import Job
from splatdistill.bench.preset import presets
from splatdistill.bench.record import JobRecord
from splatdistill.cli import main
from splatdistill.evaluate.run_summary import holding
from splatdistill.priors import weights
from splatdistill.train.amortised.corpus import read_corpus
from splatdistill.train.run import RunDir

SMALL = ["--init.count", "30", "--resolutions", "16", "--batch", "1"]
BROKEN = """\
from dataclasses import dataclass
from splatdistill.guidance import SDS

@dataclass(frozen=True)
class Broken(SDS):
    def residual(self, view, n, answers, memory):
        raise RuntimeError("the eleventh <b>hour</b>")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"), patches=True, sample_size=4)


def flag() -> threading.Event:
    return threading.Event()


def test_a_job_that_is_stopped_goes_on_and_is_done_once(here, prior):
    argv = (
        "--guidance",
        "sds",
        "--prior",
        str(prior),
        "--device",
        "cpu",
        "--prompt=a red ball",
        "--seed",
        "0",
        "--steps",
        "60",
        *SMALL,
    )
    job, stop = (
        Job("a red ball", "sds", 0, argv, ("--checkpoint-every", "1", "--preview-every", "0"), 60, 120.0),
        flag(),
    )
    run, found = here / job.folder / "run", []
    early = {"config.yaml": b"prompt: a red ball\n", "log.jsonl": b'{"event": "StepDone", "st'}  # killed before its first checkpoint
    run.mkdir(parents=True)
    for name, data in early.items():
        (run / name).write_bytes(data)
    doing = threading.Thread(target=lambda: found.append(run_job(job, here, 1, stop)))
    doing.start()
    while not RunDir(run).last_events().get("Saved") and doing.is_alive():
        time.sleep(0.02)
    stop.set()
    doing.join()
    (first,) = found
    assert first.how == "stopped" and JobRecord.read(here / job.folder) == first and not first.final
    done = int(RunDir(run).last_events()["Ended"]["step"])
    assert 0 < done < 60
    (kept,) = first.aside
    assert kept.startswith("set-aside/1: ") and "before its first checkpoint" in kept
    assert {p.name: p.read_bytes() for p in (run.parent / "set-aside" / "1").iterdir()} == early
    assert holding(here, "config.yaml", "log.jsonl") == [run], "what was set aside is no result"
    config = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(config + "there_is_none: 3\n", encoding="utf-8")
    held = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    refused = run_job(job, here, 1, flag())
    assert (refused.how, refused.code, refused.tries) == ("failed", 2, 2) and not refused.final
    assert "there_is_none" in refused.error.replace("-", "_") and str(run) in refused.error, "the reason, and where its checkpoints are"
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == held, "a run that cannot be resumed stays as it is"
    (run / "config.yaml").write_text(config, encoding="utf-8")
    shares: list[float] = []
    told: list[JobRecord] = []
    local.run([job], here, 1, 1, flag(), time.monotonic() + 600, lambda j, r: told.append(r), shares.append)
    (second,) = told
    assert (second.how, second.tries, second.code) == ("done", 3, 0) and second.seconds > first.seconds
    assert second.aside == first.aside and (run.parent / "output.txt").read_text(encoding="utf-8").count("going on at step") == 1
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [e["step"] for e in events if e["event"] == "StepDone"] == list(range(1, 61)), "no step is made twice"
    assert shares[-1] == 1.0 and shares == sorted(shares)
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*")}
    assert run_job(job, here, 1, flag()) == second and {p: p.stat().st_mtime_ns for p in here.rglob("*")} == before


def test_a_whole_bench_with_a_method_that_fails(here, prior, capsys):
    Path("broken.py").write_text(BROKEN, encoding="utf-8")
    Path("small.yaml").write_text("init:\n  name: ball\n  count: 30\nresolutions: [16]\nbatch: 1\n", encoding="utf-8")
    bench = [
        "bench",
        "--prior",
        str(prior),
        "--device",
        "cpu",
        "--config",
        "small.yaml",
        "--prompt",
        "a red ball",
        "--out",
        "b",
    ]
    methods = [
        "--guidances",
        "sds,broken.py:Broken",
        "--budget",
        "steps",
        "--amount",
        "4",
        "--points",
        "2",
        "--clip",
        "tiny-clip",
    ]
    argv = [*bench, *methods, "--samples", "2", "--workers", "2", "--threads", "1"]
    assert main(argv) == 1, "what failed is told at the end, and stops nothing"
    said = capsys.readouterr().out
    assert "2 runs, 4 steps each" in said and "the eleventh <b>hour</b>" in said and "CLIP score" in said
    records = {r.arm: r for p in Path("b/jobs").glob("*/*/record.json") if (r := JobRecord.read(p.parent))}
    assert (records["sds"].how, records["broken.py:Broken"].how) == ("done", "failed") and "eleventh" in records[
        "broken.py:Broken"
    ].error
    told = json.loads(Path("b/results.json").read_text(encoding="utf-8"))
    runs = {r["arm"]: r for r in told["runs"]}
    measurements = {f["metric"]: f for f in runs["sds"]["measurements"]}
    assert measurements["calls"]["value"] == 4 * 2 and measurements["steps"]["value"] == 4 and measurements["iou"]["value"] is not None
    assert measurements["clip_score"]["by"].startswith("tiny-clip, 18 looks (sha256 ") and measurements["clip_score"]["views"] == 50
    assert measurements["image_reward"]["value"] is None and "image-reward" in measurements["image_reward"]["note"]
    assert runs["broken.py:Broken"]["measurements"] == [] and len(told["curves"][0]["points"]) == 2
    page = Path("b/report.html").read_text(encoding="utf-8")
    assert "the eleventh &lt;b&gt;hour" in page and "<b>hour" not in page and 'src="data:image/png;base64,' in page
    for name in ("sheet.png", "curve-calls.png", "results.csv", "tables.md", "bench.json"):
        assert (Path("b") / name).stat().st_size > 0
    # another method beside them: what is done stays as it is, what failed is tried again
    log = next(Path("b/jobs/sds").glob("*/run/log.jsonl"))
    before = log.stat().st_mtime_ns
    assert main([*argv, "--no-train"]) == 1 and log.stat().st_mtime_ns == before
    assert (
        main([*bench, "--guidances", "sds", *methods[2:], "--samples", "0"]) == 0 and log.stat().st_mtime_ns == before
    )
    capsys.readouterr()
    assert (
        main(["evaluate", "b/jobs/sds", "--views", "8", "--resolution", "32", "--json", "e.json", "--csv", "e.csv"])
        == 0
    )
    said = capsys.readouterr().out
    assert "8 views; 32 pixels; on white" in " ".join(said.split()) and "n/a" in said and "toybox's truth" in said
    prose = [line for line in said.splitlines()[2:] if not line.startswith("    ")]  # commands are to be copied whole
    assert max(map(len, prose)) <= 80, "what is printed fits the terminal"
    assert main(["evaluate", "b/jobs/sds", "--views", "8", "--resolution", "32", "--csv", "f.csv"]) == 0
    assert "nothing was measured anew" in capsys.readouterr().out and Path("f.csv").read_bytes() == Path("e.csv").read_bytes()
    assert {f["metric"] for f in json.loads(Path("e.json").read_text(encoding="utf-8"))["runs"][0]["measurements"]} >= {
        "clip_score",
        "iou",
        "seconds",
    }


QUICK = ("smoke", "corpus-lines")  # one of each kind; counting the images of all takes two minutes


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n, p in presets().items() if p.needs != "real"]
)
def test_every_preset_tells_its_plan_and_makes_nothing(here, capsys, name):
    """A line for each method; equal steps or images for all, times their shares."""
    prior = "world" if presets()[name].prior == "world" else "tiny"
    assert main(["bench", "--preset", name, "--prior", prior, "--device", "cpu", "--plan", "--out", "b"]) == 0
    lines, preset = capsys.readouterr().out.splitlines(), presets()[name]
    rows = [line for line in lines if any(line.endswith(a.method) for a in preset.arms)]
    assert len(rows) == len(preset.arms) and not Path("b").exists()
    runs = len(preset.prompts) * len(preset.arms) * len(preset.seeds)
    assert f" {runs} runs, " in lines[-1]
    for arm, row in zip(preset.arms, rows, strict=True):
        numbers = row.removesuffix(arm.method).split()[-3:]
        steps, per, images = (float(n.replace(",", "")) for n in numbers)
        assert images == pytest.approx(steps * per, rel=0.02)
        if preset.budget == "calls":  # those of a network are for each prompt of its corpus
            together = len(read_corpus(arm.corpus)) if arm.corpus else 1
            assert images == pytest.approx(preset.amount * arm.share * together, rel=0.05, abs=per)  # steps are whole
        if preset.budget == "steps":
            assert steps == round(preset.amount * arm.share)


REFUSALS = {
    "stein-22": (["--preset", "stein-22", "--prior", "tiny"], "knows only toys"),
    "stein-22 by itself": (["--preset", "stein-22"], "need Stable Diffusion weights"),
    "auto": (["--preset", "smoke", "--prior", "auto"], "does not fall back to the embedded prior"),
    "words": (["--prior", "tiny", "--prompt", "a typewriter", "--guidances", "sds"], "cannot draw this"),
    "ruler": (["--preset", "toybox", "--clip", "openai/clip-vit-base-patch32"], "nothing to measure with"),
    "amount": (["--preset", "smoke", "--amount", "0"], "above 0"),
    "preset": (["--preset", "smok"], "there is no preset"),
    "against": (["--preset", "smoke", "--against", "csd"], "no such method"),
    "prompts": (["--guidances", "sds", "--prior", "tiny"], "needs prompts"),
    "methods": (["--prompt", "a red ball", "--prior", "tiny"], "needs methods"),
    "seeds": (["--preset", "smoke", "--workers", "0"], "at least 1"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_measure_nothing_is_refused_before_it_begins(here, monkeypatch, capsys, name):
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    argv, complaint = REFUSALS[name]
    assert main(["bench", *argv, "--device", "cpu", "--out", "b"]) in (2, 3)
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said and not Path("b").exists()


def test_toybox_prompts_with_another_prior_are_refused(here, prior, capsys):
    assert main(["bench", "--preset", "smoke", "--prior", str(prior), "--clip", "tiny-clip", "--out", "b"]) == 2
    assert "compares with the toybox's own objects" in capsys.readouterr().err and not Path("b").exists()


@pytest.mark.parametrize(
    ("code", "event", "text", "asked", "how"),
    [
        (0, "done", "", False, "done"),
        (4, "empty", "\nerror: the run went wrong", False, "empty"),
        (4, "oom", "\nerror: out of memory", False, "oom"),
        (130, "stopped", "", False, "stopped"),
        (1, "", "Traceback\ntorch.OutOfMemoryError: CUDA", False, "oom"),
        (-9, "", "", False, "killed"),
        (-9, "", "", True, "stopped"),
        (2, "", "\nerror: there is no guidance", False, "failed"),
        (0, "", "", False, "failed"),
    ],
)
def test_outcomes(code, event, text, asked, how):
    found, error = outcome(code, event, text, asked)
    assert found == how and bool(error) == (how not in ("done", "stopped"))
    assert JobRecord("p", "a", 0, (), how).final == (how in ("done", "empty", "oom"))


def test_a_log_that_goes_on_after_an_end_has_not_ended(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [{"event": "StepDone", "step": 3, "steps": 9}, {"event": "Ended", "step": 3, "how": "stopped"}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert ended(tmp_path) == "stopped"
    log.write_text(log.read_text(encoding="utf-8") + json.dumps({"event": "Resumed", "step": 3}) + '\n{"event": "Ste', encoding="utf-8")
    assert ended(tmp_path) == "" and RunDir(tmp_path).last_events()["StepDone"]["step"] == 3 and ended(tmp_path / "nowhere") == ""


def test_one_process_at_a_time_has_a_job(tmp_path):
    with locked(tmp_path / "lock", flag()) as mine:
        stop = flag()
        stop.set()
        with locked(tmp_path / "lock", stop) as other:
            assert mine is not None and other is None
    with locked(tmp_path / "lock", stop) as again:
        assert again is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"prompt": 1}', '{"argv": null}'])
def test_a_torn_record_is_no_record(tmp_path, text):
    (tmp_path / "record.json").write_text(text, encoding="utf-8")
    assert JobRecord.read(tmp_path) is None


def test_what_has_a_checkpoint_of_any_kind_is_never_moved_aside(tmp_path):
    """--resume finds the newest good one, or says why there is none; a half-written first one is none."""
    (tmp_path / "config.yaml").write_text("prompt: a red ball\n", encoding="utf-8")
    assert not resumable(tmp_path)
    (tmp_path / "checkpoints" / "step-000004.new").mkdir(parents=True)
    assert not resumable(tmp_path)
    (tmp_path / "checkpoints" / "step-000004").mkdir()
    assert resumable(tmp_path)
