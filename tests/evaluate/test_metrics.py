"""Numbers of finished runs: right where the answer is known, and n/a, never a zero, where nothing can measure."""

import colorsys
import json
import math
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.estimators.weights import TINY_CLIP, WORLD_CLIP, find
from splatdistill.evaluate.acceptance import judge, look_at_truth
from splatdistill.evaluate.acceptance_runs import JudgeNetworks
from splatdistill.evaluate.clip_model import ClipModel, best_clip_model, clip_model, embedded_for
from splatdistill.evaluate.measure import Evaluator, Measured, measure
from splatdistill.evaluate.metrics import METRICS
from splatdistill.evaluate.metrics.against_truth import against_truth
from splatdistill.evaluate.metrics.clip_score import clip_scores
from splatdistill.evaluate.metrics.diversity import diversity
from splatdistill.evaluate.metrics.fid import fid, frechet
from splatdistill.evaluate.metrics.image_reward import image_reward
from splatdistill.evaluate.metrics.janus import janus
from splatdistill.evaluate.metrics.r_precision import r_precision
from splatdistill.evaluate.metrics.saturation import saturation
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.run_summary import costs, summarise
from splatdistill.evaluate.setup import evaluator
from splatdistill.io.ply import write_ply
from splatdistill.scene.initial import Ball
from splatdistill.toybox import parse, render
from splatdistill.toybox.things import understood

EMBEDDED = (find(TINY_CLIP) / "config.json").is_file()
needs_models = pytest.mark.skipif(not EMBEDDED, reason="the embedded weights are not in this checkout")


@pytest.fixture(scope="module")
def tiny() -> ClipModel:
    return clip_model(TINY_CLIP)


def unit(n: int, d: int, rng: torch.Generator) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=rng), dim=1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.2, 3.0), st.floats(-2.0, 2.0))
def test_frechet_distance_of_known_distributions(seed, factor, shift):
    """x and s x + m: |m + (s - 1) mean|^2 + (s - 1)^2 tr Cov."""
    a = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    b = factor * a + shift
    wanted = float((b.mean(0) - a.mean(0)).square().sum() + (factor - 1) ** 2 * a.var(0).sum())
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-6, abs=1e-9)


def frechet_by_sqrtm(a, b):
    """Return the Fréchet distance in the textbook's form, by scipy's sqrtm."""
    a, b = a.double().numpy(), b.double().numpy()
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov[0] + cov[1]) - 2 * np.trace(scipy.linalg.sqrtm(cov[0] @ cov[1])).real)


def test_frechet_distance_is_that_of_the_matrix_root(rng):
    mix = torch.randn(6, 6, generator=rng)
    a, b = torch.randn(50, 6, generator=rng) @ mix, torch.randn(30, 6, generator=rng) @ mix.T + 1
    assert frechet(a, b) == pytest.approx(frechet_by_sqrtm(a, b), rel=1e-9)
    few, many = torch.randn(5, 24, generator=rng), torch.randn(9, 24, generator=rng)  # covariances without full rank
    assert frechet(few, many) == pytest.approx(frechet_by_sqrtm(few, many), rel=1e-4)
    exact = float(((few.double() - 2 * few.double()).mean(0)).square().sum() + few.double().var(0).sum())
    wrong = [abs(f(few, 2 * few) - exact) for f in (frechet, frechet_by_sqrtm)]
    assert wrong[0] < 1e-10 and wrong[0] < wrong[1], "of singular covariances the root loses digits, singular values do not"


def test_frechet_distance_turns_with_its_space_and_takes_few_points(rng):
    a, b = torch.randn(7, 12, generator=rng).double(), 2 * torch.randn(9, 12, generator=rng).double() + 1
    turn = torch.linalg.qr(torch.randn(12, 12, generator=rng).double()).Q
    assert frechet(a @ turn, b @ turn) == pytest.approx(frechet(a, b)) and frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a[:1], b, "x").value is None


def test_score_and_distance_are_one_cosine(rng):
    a, b = unit(6, 8, rng), unit(6, 8, rng)
    score, distance = clip_scores(a, b)
    assert score.value / 100 == pytest.approx(1 - distance.value, abs=1e-6)
    assert clip_scores(a, a)[0].value == pytest.approx(100, abs=1e-4)


def test_diversity_is_none_of_one_nought_of_copies_and_grows(rng):
    a, b = unit(6, 8, rng), unit(6, 8, rng)
    assert diversity([a]).value is None and diversity([a, a]).value == pytest.approx(0, abs=1e-6)
    assert diversity([a, b]).value > diversity([a, F.normalize(a + 0.3 * b, dim=1)]).value > 0


def test_saturation_of_plain_colours():
    alpha = torch.zeros(1, 1, 8, 8)
    alpha[..., 2:6, 2:6] = 1
    rgb = torch.ones(1, 3, 8, 8)
    rgb[..., 2:6, 2:6] = torch.tensor([0.8, 0.4, 0.4])[:, None, None]
    chroma, clipped = saturation(rgb, alpha)
    assert chroma.value == pytest.approx(0.5) and clipped.value == 0, "the white ground does not count"
    rgb[..., 2:6, 2:4] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    assert saturation(rgb, alpha)[1].value == pytest.approx(100 / 3)
    assert [f.value for f in saturation(rgb, 0 * alpha)] == [None, None]


@needs_models
def test_saturation_is_that_of_the_standard_library(rng):
    rgb = torch.rand(2, 3, 5, 4, generator=rng)
    wanted = [colorsys.rgb_to_hsv(*pixel)[1] for pixel in rgb.movedim(1, -1).reshape(-1, 3).tolist()]
    assert saturation(rgb, torch.ones(2, 1, 5, 4))[0].value == pytest.approx(np.mean(wanted), rel=1e-5)
    assert saturation(0 * rgb, torch.ones(2, 1, 5, 4))[0].value == 0.0, "black has no colour, and is no division by nought"


def test_true_pictures_are_told_apart(tiny):
    cameras = orbit(torch.arange(24) * 15.0, 15.0, 2.8, 42.0, 64)
    car = render([parse("a blue car").parts()], cameras).rgb
    features = tiny.scorer.image_features(car)
    prompts = ["a blue car", "a red mushroom", "a green tree"]
    assert r_precision(tiny.scorer, features, prompts[0], prompts).value > 90
    assert r_precision(tiny.scorer, features, prompts[1], prompts).value < 10
    assert r_precision(tiny.scorer, features, prompts[0], prompts[:1]).value is None
    assert janus(tiny.scorer, features[:3], cameras.azimuth[:3], prompts[0]).value is None


@needs_models
def test_janus_counts_pairs_and_no_preference_for_a_word(tiny, rng):
    """Features are made of the words themselves, with a bias towards one word that all views share."""
    front, back = tiny.scorer.text_features(["a car, front view", "a car, back view"])
    azimuth = torch.arange(40) * 9.0
    is_front = ((azimuth < 90) | (azimuth > 270)).float()[:, None]
    noise = 0.01 * torch.randn(40, len(front), generator=rng)
    for bias in (0.0, 3.0, -3.0):
        honest = is_front * front + (1 - is_front) * back + bias * back + noise
        found = [
            janus(tiny.scorer, f, azimuth, "a car").value for f in (honest, honest.roll(20, 0), bias * back + noise)
        ]
        assert found[0] < 1 and found[1] > 99 and 15 < found[2] < 85


@needs_models
def test_the_truth_is_like_itself(tiny):
    found = {
        f.metric: f
        for f in against_truth(look_at_truth(parse("a red duck")), parse("a red duck"), tiny.scorer, tiny.name)
    }
    assert found["iou"].value > 0.99 and found["psnr"].value > 40 and found["depth_error"].value < 0.01
    assert (
        found["r_precision_hard"].value > 60
        and found["back_margin"].value > 0
        and found["janus_truth"].value == 0
        and found["r_precision_hard"].by == tiny.name
    )
    wrong = {
        f.metric: f
        for f in against_truth(look_at_truth(parse("a red duck")), parse("a blue chair"), tiny.scorer, tiny.name)
    }
    assert wrong["iou"].value < 0.7 and wrong["r_precision_hard"].value < 10


def write_run(folder: Path, prompt: str = "a red ball", splats: bool = True, **said) -> Path:
    """Return a run directory as `train` leaves it."""
    folder.mkdir(parents=True)
    config = {"prompt": prompt, "prior": "tiny", "seed": 0, "particles": 1, "guidance": {"name": "sds"}, **said}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    step = {
        "event": "StepDone",
        "step": 1,
        "steps": 1,
        "timing": {"render": 1.0, "guidance": 2.0, "backward": 0.5, "rest": 0.5},
    }
    end = {"event": "Ended", "step": 1, "how": "done", "message": "", "calls": 8, "peak_memory": 2**30}
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in (step, end)), encoding="utf-8")
    if splats:
        write_ply(
            folder / "splats.ply", Ball(count=200, radius=0.7, opacity=0.5).make(torch.Generator().manual_seed(0)), []
        )
    return folder


def test_a_run_tells_what_it_cost_over_all_its_parts(tmp_path):
    run = write_run(tmp_path / "a")
    found = {f.metric: f.value for f in costs(summarise(run), 0.3)}
    assert found == {"diverged": 0.0, "seconds": 4.0, "peak_memory": 1.0, "calls": 8.0, "steps": 1.0}
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    resumed = json.dumps({"event": "Resumed", "step": 1}) + "\n"
    (run / "log.jsonl").write_text(text + resumed + text, encoding="utf-8")
    assert summarise(run).calls == 16 and summarise(run).seconds == 8.0
    (run / "log.jsonl").write_text(text.splitlines()[0] + "\n" + resumed + text, encoding="utf-8")  # the first part was killed
    assert summarise(run).calls is None and summarise(run).how == "done"


@pytest.mark.parametrize(
    ("how", "seen", "wanted"),
    [
        ("done", 0.3, 0.0),
        ("done", 1e-4, 100.0),
        ("done", None, 100.0),
        ("empty", 0.3, 100.0),
        ("oom", None, 100.0),
        ("", None, None),
        ("stopped", None, None),
    ],
)
def test_what_counts_as_diverged(tmp_path, how, seen, wanted):
    run = write_run(tmp_path / "a")
    (run / "log.jsonl").write_text((run / "log.jsonl").read_text(encoding="utf-8").replace('"done"', json.dumps(how)), encoding="utf-8")
    assert costs(summarise(run), seen)[0].value == wanted


@pytest.mark.parametrize("text", [None, "", "prompt: x", "[", "- 1", "prompt: x\nseed: y\nprior: z\nguidance: sds"])
def test_what_is_no_run_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError):
        summarise(tmp_path)


def test_runs_that_differ_by_prompt_and_seed_alone_share_a_recipe(tmp_path):
    a, b, c = (
        summarise(write_run(tmp_path / n, **s)).recipe
        for n, s in (("a", {}), ("b", {"prompt": "x", "seed": 3}), ("c", {"batch": 9}))
    )
    assert a == b != c


@needs_models
def test_everything_is_measured_or_says_why_not_and_is_kept(tmp_path, tiny):
    small = Protocol(views=6, resolution=32)
    evaluator = Evaluator(small, tiny, tiny, better="get it so", prompts=("a red ball", "a blue cube"))
    run = summarise(write_run(tmp_path / "a"))
    found = measure(run, evaluator)
    for measurement in found.measurements:
        assert measurement.metric in METRICS
        assert (measurement.by and math.isfinite(measurement.value)) if measurement.value is not None else measurement.note, measurement
    assert (
        found.of("clip_score").views == 6
        and found.of("clip_score").resolution == 32
        and found.features.shape[:2] == (1, 6)
    )
    assert all(found.of(m).value is None for m in ("iqa_quality", "iqa_sharpness", "iqa_real", "image_reward", "janus"))
    assert not found.kept and measure(run, evaluator).measurements == found.measurements
    without = measure(run, Evaluator(small, None, None, better="get it so"))
    assert without.of("clip_score").value is None and without.of("clip_score").note == "get it so" and not without.kept
    assert without.of("iou").value == found.of("iou").value and without.of("r_precision_hard").value is None


@needs_models
def test_the_same_splats_are_measured_once_whatever_else_was_asked_between(tmp_path, monkeypatch):
    """By the bytes of splats and weights and by every option: neither the place nor the time of a file counts."""

    def asked(folder: Path, **more) -> Measured:
        clip = clip_model(TINY_CLIP)
        judges = Evaluator(**{"protocol": Protocol(views=4, resolution=16), "clip": clip, "hard": clip, "truth": False, **more})
        found = measure(summarise(folder), judges)
        used = "scorer" in vars(clip) or "rasterizer" in vars(judges)
        assert used == (not found.kept), "what is kept takes no network and no rasteriser"
        return found

    here = write_run(tmp_path / "a")
    first = asked(here)
    assert not first.kept
    assert not asked(here, protocol=Protocol(views=4, resolution=16, background="black")).kept
    assert not asked(here, prompts=("a red ball", "a blue ball")).kept
    again = asked(here)
    assert again.kept and again.measurements == first.measurements and torch.equal(again.features, first.features)
    os.utime(here / "splats.ply", (0, 0))
    assert asked(here).kept and asked(here, prompts=("a red ball", "a blue ball")).kept
    shutil.copytree(here, tmp_path / "moved")
    assert asked(tmp_path / "moved").kept
    (file,) = [p for p in (here / "evaluation").glob("*.json") if asked_key(p, first)]
    file.write_text(file.read_text(encoding="utf-8")[:50], encoding="utf-8")
    assert not asked(here).kept and asked(here).kept, "a torn file is measured again"
    data = bytearray((here / "splats.ply").read_bytes())
    data[-1] ^= 1
    (here / "splats.ply").write_bytes(data)
    assert not asked(here).kept, "one bit of the splats"
    monkeypatch.setattr("splatdistill.evaluate.clip_model.sha256_of", lambda file: "0" * 64)
    assert not asked(here).kept, "other weights of the judge"


def asked_key(file: Path, found: Measured) -> bool:
    """Return whether a file holds these numbers."""
    return json.loads(file.read_text(encoding="utf-8"))["measurements"] == [asdict(m) for m in found.measurements]


def test_numbers_are_told_where_they_cannot_be_kept(tmp_path):
    here = write_run(tmp_path / "a")
    (here / "evaluation").write_text("a file in the way", encoding="utf-8")
    found = [measure(summarise(here), Evaluator(Protocol(views=4, resolution=16), None, None, truth=False)) for _ in range(2)]
    assert found[0].measurements == found[1].measurements and not found[1].kept


@needs_models
def test_words_that_tiny_clip_does_not_know_are_not_measured_by_it(tmp_path, tiny):
    evaluator = Evaluator(Protocol(views=4, resolution=32), tiny, tiny)
    found = measure(summarise(write_run(tmp_path / "a", prompt="a typewriter")), evaluator)
    assert all(
        found.of(m).value is None and found.of(m).note
        for m in ("clip_score", "clip_distance", "r_precision", "iou", "psnr")
    )
    assert found.of("saturation").value is not None


@needs_models
def test_rulers_are_never_replaced_silently(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    chosen, how = best_clip_model("auto")
    assert chosen.name.startswith("tiny-clip, 18 looks (sha256 ") and "hf download openai/clip-vit-base-patch32" in how
    assert best_clip_model("auto", embedded=None)[0] is None
    with pytest.raises(UserError, match="openai/clip-vit-base-patch32"):
        best_clip_model("openai/clip-vit-base-patch32")


@needs_models
def test_the_embedded_clip_is_the_one_that_knows_all_of_the_prompts():
    toy, real = understood("a red mushroom"), understood("an orange armchair")
    assert embedded_for([toy, None]) == TINY_CLIP and embedded_for([toy, real]) == WORLD_CLIP and embedded_for([None]) is None
    tiny, world = clip_model(TINY_CLIP), clip_model(WORLD_CLIP)
    assert [tiny.knows(t) for t in (toy, real, None)] == [True, False, False]
    assert [world.knows(t) for t in (toy, real, None)] == [True, True, False]
    judges = JudgeNetworks(None, None)
    assert judges.clip_of(toy).source == TINY_CLIP and judges.clip_of(real).source == WORLD_CLIP and judges.clip_of(real) is judges.clip_of(real)
    with pytest.raises(UserError, match="tiny-clip does not know the words of 'an orange armchair'; leave --clip out"):
        JudgeNetworks(tiny, None).clip_of(real)


@needs_models
def test_a_true_real_object_passes_and_is_measured_by_world_clip(tmp_path):
    caption, scorer = understood("an orange armchair"), clip_model(WORLD_CLIP).scorer
    record = judge(look_at_truth(caption), caption, scorer, None, torch.Generator().manual_seed(0)).record()
    assert record.passed and record.scorer.startswith("world-clip") and record.views_right >= 7 and record.views_nearer == 8
    found = measure(summarise(write_run(tmp_path / "a", prompt=str(caption))), evaluator("auto", Protocol(views=4, resolution=16), "cpu", [caption], None, ()))
    assert found.of("r_precision_hard").by.startswith("world-clip, 18 looks") and found.of("clip_score").value is not None


PACKAGE = """\
class Model:
    def score(self, prompt, pictures):
        assert prompt == "a -- 'red' ball" and all(open(p, "rb").read(4) == b"\\x89PNG" for p in pictures)
        return [0.5 * k for k in range(len(pictures))]

def load(name):
    print("loading, with words on its output")
    return Model()
"""


def test_image_reward_is_asked_in_an_environment_of_its_own(tmp_path, monkeypatch):
    """The package itself cannot run here; what stands in for it has its interface, and a real process asks it."""
    rgb = torch.rand(3, 3, 16, 16)
    assert (
        image_reward(rgb, "x", None).value is None and "pip install image-reward" in image_reward(rgb, "x", None).note
    )
    assert "could not say" in image_reward(rgb, "x", tmp_path / "nothing").note
    assert "No module named 'ImageReward'" in image_reward(rgb, "x", Path(sys.executable)).note
    (tmp_path / "ImageReward.py").write_text(PACKAGE, encoding="utf-8")
    (tmp_path / "image_reward-1.5.dist-info").mkdir()
    (tmp_path / "image_reward-1.5.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: image-reward\nVersion: 1.5\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found = image_reward(rgb, "a -- 'red' ball", Path(sys.executable))
    assert found.value == 0.5 and found.by == "ImageReward-v1.0 (package 1.5)"
