"""Benches of networks of many prompts: trainings that arms share, what one makes of each prompt, groups and lines."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from helpers import write_sd_folder
from test_report import judged

from splatdistill.bench import lines
from splatdistill.bench.groups import by_group, group_of
from splatdistill.bench.job_runner import run_job, share_done, without
from splatdistill.bench.local import run
from splatdistill.bench.measure_jobs import Results
from splatdistill.bench.networks import networked
from splatdistill.bench.options import Bench
from splatdistill.bench.plan import Arm, Job, Network, jobs, trainings
from splatdistill.bench.preset import Listed, read
from splatdistill.bench.record import JobRecord
from splatdistill.bench.run import jobs_of
from splatdistill.bench.settle import settle
from splatdistill.bench.statistics import interval
from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.io import load_splats
from splatdistill.priors import weights
from splatdistill.scene.generator.saved import Generator
from splatdistill.settings.resolve import Weights
from splatdistill.train.amortised.corpus import read_corpus

TINY = ("--prior", "tiny", "--device", "cpu")
PRESET = """\
about: x
prompts: [a red ball, a blue cube, a yellow ball]
arms:
  - {method: "sds[prompts=1,generator.count=60]", name: once, corpus: "CORPUS", line: network}
  - {method: "sds[prompts=1,generator.count=60]", name: polished, corpus: "CORPUS", polish: 1}
budget: calls
amount: 12
points: 0
"""


def test_arms_that_differ_after_a_training_share_it():
    one = Listed("asd[eta=0.2,generator=conv,generator.channels=8 4,rate=1e-3]", "one", corpus="toybox[12]")
    arms = [networked(each, TINY, Weights())[0] for each in (one, replace(one, name="two", polish=5), replace(one, name="three", corpus="toybox[13]"))]
    config = networked(one, TINY, Weights())[1]
    assert (config.guidance.eta, config.generator.channels, config.rate, config.corpus) == (0.2, (8, 4), 1e-3, "toybox[12]")
    made = jobs(["a red ball", "a blue cube"], arms, [0, 1], TINY, dict.fromkeys(("one", "two", "three"), 7), dict.fromkeys(("one", "two", "three"), 56.0), 0, {"two": 70.0})
    before = trainings(made)
    assert len(made) == 12 and len(before) == 4, "one for each seed and corpus"
    assert {j.command for j in before} == {"amortise"} and {j.folder.split("/")[0] for j in before} == {"networks"}
    assert {(j.arm, j.steps, j.calls) for j in made} == {("one", 0, 0.0), ("two", 5, 70.0), ("three", 0, 0.0)}
    assert len({j.folder for j in (*made, *before)}) == 16
    other = replace(made[0].before, argv=(*made[0].before.argv, "--rate", "1"))
    assert replace(made[0], before=other).folder != made[0].folder, "of another network, another job"


@pytest.mark.parametrize(
    ("listed", "word"),
    [
        (Listed("asd[corpus=toybox]", corpus="toybox"), "bench's own"),
        (Listed("asd[generator=cube]", corpus="toybox"), "cube"),
        (Listed("asd@wrong-view", corpus="toybox"), "wrong-view"),
        (Listed("asd", corpus="toybox[5000]"), "1 to 4080"),
        (Listed("asd", corpus="nowhere.txt"), "cannot be read"),
    ],
)
def test_what_a_network_cannot_be_is_refused(listed, word):
    with pytest.raises(UserError, match=word):
        networked(listed, TINY, Weights())


def test_a_budget_of_images_is_each_prompt_s(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(PRESET.replace("CORPUS", "toybox[48]"), encoding="utf-8")
    planned = settle(Bench(preset=str(path), prior="tiny", device="cpu"))
    once, _ = planned.arms
    assert planned.images["once"] == 3.0 and planned.steps["once"] == 12 * 48 / 3, "one prompt a step, three images"
    assert lines.images_each(once, 3.0, planned.steps["once"], 0.0) == 12.0
    assert planned.polish.keys() == {"polished"} and planned.polish["polished"] > 1
    assert set(read_corpus("toybox[48]")) < set(planned.candidates) and planned.candidates[:3] == planned.prompts
    with pytest.raises(UserError, match="seconds is for methods of one prompt"):
        settle(Bench(preset=str(path), prior="tiny", device="cpu", budget="seconds", amount=3))
    path.write_text(PRESET.replace('corpus: "CORPUS", polish', 'polish'), encoding="utf-8")
    with pytest.raises(UserError, match="polish is a number of steps on what the network of a `corpus` makes"):
        read(path)


@pytest.mark.parametrize(("how", "then"), [("empty", "empty"), ("stopped", "stopped"), ("killed", "failed"), ("failed", "failed")])
def test_without_its_network_a_job_comes_to_what_that_came_to(how, then):
    blank = JobRecord("a red ball", "asd", 0, (), "stopped")
    assert without(replace(blank, how="done"), blank) is None
    record = without(replace(blank, prompt="asd, 12 prompts", how=how, error="why"), blank)
    assert record is not None and record.how == then and ("why" in record.error) == (then != "stopped")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the options of a small bench of a network on a random prior."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    prior = write_sd_folder(tmp_path / "sd", patches=True, sample_size=4)
    Path("corpus.txt").write_text("a red ball\na blue cube\n", encoding="utf-8")
    Path("own.yaml").write_text(PRESET.replace("CORPUS", "corpus.txt"), encoding="utf-8")
    return ["bench", "--preset", "own.yaml", "--prior", str(prior), "--device", "cpu", "--clip", "tiny-clip", "--samples", "0", "--workers", "1", "--count", "1", "--out", "b"]


def test_jobs_begin_from_what_their_network_makes(bench):
    planned = settle(Bench(preset="own.yaml", prior=bench[bench.index("--prior") + 1], device="cpu", clip="tiny-clip", count=1))
    made, told = jobs_of(planned, planned.steps), []
    run([*trainings(made), *made], Path("jobs").absolute(), 1, 1, threading.Event(), float("inf"), lambda j, r: told.append(r), lambda part: None)
    assert [r.how for r in told] == ["done"] * 3
    (network,) = Path("jobs/networks").glob("*/run")
    once, polished = (next(Path("jobs", name).glob("a-red-ball-*/run")) for name in ("once", "polished"))
    assert load_splats(once / "splats.ply").gaussians.means.allclose(Generator.load(network)("a red ball").means, atol=1e-6)
    log = [json.loads(line) for line in (polished / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [e["step"] for e in log if e["event"] == "StepDone"] == [1]
    assert "generator" in (polished / "config.yaml").read_text(encoding="utf-8") and share_done(network) == 1.0
    before = {p: p.stat().st_mtime_ns for p in Path("jobs").rglob("*")}
    assert [run_job(job, Path("jobs").absolute(), 1, threading.Event()).how for job in made] == ["done"] * 2
    assert before == {p: p.stat().st_mtime_ns for p in Path("jobs").rglob("*")}, "what is done is not done again"


@pytest.mark.slow
def test_a_whole_bench_of_a_network(bench, capsys):
    assert main(bench) == 0
    said = capsys.readouterr().out
    assert "IoU" in said and "by what the network has seen" in said
    told = json.loads(Path("b/bench.json").read_text(encoding="utf-8"))["jobs"]
    assert [job["command"] for job in told] == ["train", "train"] and told[0]["before"]["command"] == "amortise"
    page = Path("b/report.html").read_text(encoding="utf-8")
    assert "network images a prompt" in page and "8 for sds[prompts=1,generator.count=60], 2 prompts, 1 after" in page


def test_a_damaged_network_fails_the_job_and_says_why(tmp_path):
    before = Job("sds, 2 prompts", "networks", 0, ())
    (tmp_path / before.folder / "run").mkdir(parents=True)
    JobRecord(before.prompt, before.arm, 0, (), "done").write(tmp_path / before.folder)
    job = Job("a red ball", "once", 0, ("--prior", "tiny", "--device", "cpu", "--prompt=a red ball"), before=before)
    told: list[JobRecord] = []
    run([job], tmp_path, 1, 1, threading.Event(), float("inf"), lambda j, r: told.append(r), lambda part: None)
    assert told[0].how == "failed" and "holds no generator" in told[0].error and JobRecord.read(tmp_path / job.folder) == told[0]


def test_groups_are_of_the_network_s_own_corpus():
    assert group_of("a red snowman", ["a red snowman"]) == "seen"
    assert group_of("a cyan snowman", ["a red snowman"]) == "new" and group_of("a blue snowman", []) == "held out"
    assert group_of("an astronaut", []) == "new"
    prompts = ("a red snowman", "a yellow snowman", "a blue snowman")
    arms = [Arm("wide", "asd", (), network=Network("asd", (), prompts[:2])), Arm("narrow", "asd", (), network=Network("asd", (), prompts[:1])), Arm("alone", "sds", ())]
    values = {"wide": (0.5, 0.7, 0.2), "narrow": (0.5, 0.3, 0.1), "alone": (0.9, 0.9, 0.9)}
    made = [judged(arm.name, p, 0, iou=v) for arm in arms for p, v in zip(prompts, values[arm.name], strict=True)]
    results = Results(tuple(values), prompts, (0,), "wide", made)
    (table, *_) = by_group(results, arms)
    assert table.title.startswith("IoU") and table.head == ("method", "seen", "new", "held out")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["wide"][0].startswith("0.600 [0.500, 0.700] (2)") and rows["wide"][1] == "-" and rows["wide"][2] == "0.200 (1)"
    assert rows["narrow"][0] == "0.500 (1)" and rows["narrow"][1] == "0.300 (1)" and rows["alone"][0].startswith("0.900")
    assert by_group(results, arms[2:]) == []


def test_lines_say_where_they_cross():
    prompts = tuple(f"p{k}" for k in range(8))
    arms = [Arm(f"{line} {n}", "x", (), line=line) for line in ("network", "alone") for n in (10, 100, 1000)]
    values = {"network 10": 0.4, "network 100": 0.5, "network 1000": 0.6, "alone 10": 0.2, "alone 100": 0.4, "alone 1000": 0.8}
    made = [judged(a.name, p, 0, iou=values[a.name] + 0.001 * k) for a in arms for k, p in enumerate(prompts)]
    results = Results(tuple(values), prompts, (0,), "network 10", made)
    images = {a.name: float(a.name.split()[1]) for a in arms}
    (table,) = lines.tables(results, arms, images)
    assert table.head == ("images", "network", "alone") and [row[0] for row in table.rows] == ["10", "100", "1,000"]
    one, other = lines.lines(results, arms, images, "iou")
    at = lines.crossing(one, other, prompts)
    assert at is not None and at == pytest.approx(10 ** (2 + 1 / 3), rel=0.03), "gaps of -.1 at 100 and of +.2 at 1000: a third of the way in the logarithm"
    assert lines.crossing(other, one, prompts) is None and f"from {at:,.0f} images a prompt on" in table.notes[0]
    assert lines.tables(results, arms[:3], images) == []


def test_an_interval_is_of_the_mean_over_prompts():
    mean, low, high = interval({(f"p{k}", s): float(k) for k in range(9) for s in range(2)})
    assert mean == 4.0 and low is not None and high is not None and 2.0 < low < 3.0 and 5.0 < high < 6.0
    assert interval({("p", 0): 3.0}) == (3.0, None, None)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs/bench").glob("corpus-*.yaml")))
def test_shipped_presets_ask_each_group(name):
    bench = read(ROOT / "configs/bench" / f"{name}.yaml")
    for corpus in {arm.corpus for arm in bench.arms if arm.corpus}:
        own = read_corpus(corpus)
        groups = [group_of(p, own) for p in bench.prompts]
        assert {groups.count(g) for g in ("seen", "new", "held out")} == {len(groups) // 3}
        assert len(set(groups[:3])) == 3, "--count keeps the groups equal"
