"""Tables, curves and the report: every number is one that was measured, and no text of a user's becomes anything else."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from splatdistill.bench.curves import Curve, Point, calls_to, charts, means, reached
from splatdistill.bench.measure_jobs import MeasuredJob, Results, pool
from splatdistill.bench.plan import Job
from splatdistill.bench.record import JobRecord
from splatdistill.bench.report import Section, html
from splatdistill.bench.tables import as_csv, as_json, tables
from splatdistill.evaluate.measure import Evaluator, Measured
from splatdistill.evaluate.metrics import Measurement
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.run_summary import RunSummary

EVIL = '<img src=x onerror=alert(1)>|=HYPERLINK("x")'
ARMS, PROMPTS = ("sds", EVIL), (*(f"prompt {k}" for k in range(7)), EVIL)


def judged(arm: str, prompt: str, seed: int, how: str = "done", **values: float | None) -> MeasuredJob:
    """Return a job with these numbers."""
    job, record = Job(prompt, arm, seed, (arm, prompt)), JobRecord(prompt, arm, seed, (arm, prompt), how)
    if how not in ("done", "empty"):
        return MeasuredJob(job, record)
    run = RunSummary(Path("run"), prompt, arm, "tiny", seed, 1, 2.8, 42.0, "r", how, 9, 1.0, None, None, ())
    values = {"diverged": 100.0 * (how != "done"), "image_reward": None, **values}
    measurements = [Measurement(m, v, "a ruler (rev 1)", 50, 256, "white", "" if v is not None else "get it") for m, v in values.items()]
    return MeasuredJob(job, record, Measured(run, tuple(measurements), None))


@pytest.fixture
def results() -> Results:
    """Return two methods, one better by 2 on every prompt; a run that was lost, and one that ended empty."""
    made = []
    for i, prompt in enumerate(PROMPTS):
        for seed in (0, 1):
            made.append(judged("sds", prompt, seed, clip_score=20.0 + i + 0.1 * seed, iou=0.5))
            made.append(judged(EVIL, prompt, seed, clip_score=22.0 + i, iou=0.5))
    made[0], made[-1] = judged("sds", PROMPTS[0], 0, "killed"), judged(EVIL, PROMPTS[-1], 1, "empty", clip_score=5.0)
    return Results(ARMS, PROMPTS, (0, 1), "sds", made, {a: [Measurement("fid", 0.25, "a ruler")] for a in ARMS})


def column(table, head: str) -> dict[str, str]:
    return {row[0]: row[table.head.index(head)] for row in table.rows}


def test_tables_hold_means_over_prompts_and_say_what_measured_them(results):
    sdi, stein, *_ = tables(results)
    score = column(sdi, "CLIP score ↑")
    assert score["sds"].startswith("23.5") and " ± " in score["sds"]
    assert column(sdi, "diverged % ↓") == {"sds": "6.2", EVIL: "6.2"}, "one of sixteen each: one was killed, one is empty"
    assert set(column(sdi, "ImageReward ↑").values()) == {"n/a"} and column(sdi, "runs")["sds"] == "15 of 16"
    assert any("a ruler (rev 1); 50 views; 256 pixels; on white" in n for n in sdi.notes) and any("get it" in n for n in sdi.notes)
    assert column(stein, "FID* ↓") == {"sds": "0.250", EVIL: "0.250"}


def test_differences_are_judged(results):
    (table,) = [t for t in tables(results) if t.title.startswith("Against sds")]
    rows = {row[0]: row for row in table.rows}
    assert rows["IoU ↑"][-1] == "undecided" and rows["IoU ↑"][3] == "[0.000, 0.000]"
    assert rows["CLIP score ↑"][2].startswith(("+", "-")) and rows["CLIP score ↑"][6] == "8"
    told = as_json(results)["comparisons"]
    score = next(c for c in told if c["metric"] == "clip_score")
    assert score["pairs"] == 15 and score["low"] <= score["difference"] <= score["high"]
    json.dumps(as_json(results), allow_nan=False)


def test_text_survives_markdown_and_spreadsheets(results):
    for table in tables(results):
        lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert {r["prompt"] for r in rows} >= set(PROMPTS) and not any(v[:1] in "=+-@" for r in rows for v in (r["arm"], r["prompt"]) if v)
    assert all(r["value"] == "" and r["note"] for r in rows if r["metric"] == "image_reward")
    assert {r["value"] for r in rows if r["metric"] == "iou"} == {"0.5"}


class Seen(HTMLParser):
    """Tags and what they refer to."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]
        assert not any(k.startswith("on") for k, _ in attrs)

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_is_one_file_and_all_text_in_it_is_text(results):
    picture = torch.rand(3, 8, 8)
    page = html(EVIL, [Section(EVIL, EVIL, tables(results), {EVIL: picture}, code=EVIL)])
    seen = Seen(page)
    assert seen.tags.count("img") == 1 and "script" not in seen.tags and seen.words.count(EVIL) > 5
    assert seen.links and all(link.startswith("data:image/png;base64,") for link in seen.links)
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")


def curve(arm: str, prompt: str, *scores: float, seed: int = 0) -> Curve:
    return Curve(arm, prompt, seed, tuple(Point(k, 100.0 * k, 1.0 * k, s) for k, s in enumerate(scores, 1)))


def test_calls_to_a_score_are_between_checkpoints():
    points = curve("a", "p", 10.0, 20.0, 15.0, 30.0).points
    assert calls_to(points, 15.0) == pytest.approx(150.0) and calls_to(points, 5.0) == 100.0
    assert calls_to(points, 25.0) == pytest.approx(300 + 100 * 10 / 15) and calls_to(points, 31.0) is None and calls_to((), 1.0) is None


def test_methods_are_timed_to_where_the_first_ends():
    found = [curve("a", "p", 10, 20), curve("a", "q", 10, 30), curve("b", "p", 20, 20), curve("b", "q", 10, 20), curve("b", "r", 9, 9)]
    a, b = reached(found, ["a", "b"], "a", None)
    assert (a.jobs, a.reached, a.median) == (2, 2, 200.0) and (b.jobs, b.reached, b.median) == (2, 1, 100.0)
    a, b = reached(found, ["a", "b"], "a", 25.0)
    assert (a.reached, a.median, b.jobs, b.reached, b.median) == (1, pytest.approx(175.0), 3, 0, None)
    assert vars(reached(found, ["c"], "a", None)[0])["mean_threshold"] is None, "a method without runs has no number"
    mean = {c.arm: c for c in means(found, ["a", "b", "c"])}
    assert [p.clip_score for p in mean["a"].points] == [10, 25] and "c" not in mean
    assert {p.shape for p in charts(found, ["a", "b"], "x").values()} == {(3, 420, 760)} and charts([], ["a"], "x") == {}


def test_methods_are_compared_in_diversity_prompt_by_prompt():
    """Views of one method hardly change with the seed, those of the other do: 0 and half of the distance to anything."""
    rng, made = torch.Generator().manual_seed(0), []
    for prompt in (f"prompt {k}" for k in range(8)):
        same = F.normalize(torch.randn(1, 3, 64, generator=rng), dim=-1)
        for seed in range(3):
            other = F.normalize(torch.randn(1, 3, 64, generator=rng), dim=-1)
            for arm, features in (("sds", same), ("vsd", F.normalize(same + other, dim=-1))):
                one = judged(arm, prompt, seed, iou=0.5)
                made.append(replace(one, measured=replace(one.measured, run=replace(one.measured.run, seed=seed), features=features)))
    found = Results(("sds", "vsd"), tuple(f"prompt {k}" for k in range(8)), (0, 1, 2), "sds", made)
    pool(found, Evaluator(Protocol(), None, None), {})
    (gap,) = (c for c in found.comparisons() if c.metric == "diversity")
    assert gap.prompts == gap.pairs == 8 and gap.verdict == "better"
    assert gap.low < gap.difference < gap.high and abs(gap.difference - 0.5) < 0.1
