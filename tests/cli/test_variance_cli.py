"""The variance laboratory from the command line, on a random Stable Diffusion of the real layout."""

import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from splatdistill.cli import main
from splatdistill.cli.variance import Variance
from splatdistill.errors import UserError
from splatdistill.evaluate.variance import options
from splatdistill.evaluate.variance.experiment import estimator, matched_in
from splatdistill.evaluate.variance.statistics import SOURCES
from splatdistill.guidance import GUIDANCES
from splatdistill.guidance.shaping import Weight
from splatdistill.settings.methods import listed, split
from splatdistill.settings.resolve import Weights as weights_of

SMALL = ["--draws", "12", "--times", "2", "--noises", "2", "--encodings", "1", "--reference", "1", "--learn", "1"]
SHORT = ["--steps", "2", "--scenes", "1"]


def variance(prior: Path, *more: str) -> int:
    return main(["variance", "--prior", str(prior), "--device", "cpu", *more])


def report(folder: str = "v") -> dict:
    return json.loads((Path(folder) / "variance.json").read_text(encoding="utf-8"))


INTERVAL = {"value", "low", "high"}
FIGURES = {"ratio", "shares", "per_call", "against_first", "cosine", "bias"}


def test_every_guidance_has_a_row_and_the_record_has_its_schema(here, prior, capsys):
    names = ["ssd[baselines=]" if name == "ssd" else name for name in GUIDANCES]  # depth takes weights that are not here
    assert variance(prior, "--guidances", ",".join(names), "--prompt", "a ball", *SHORT, *SMALL, "--noise-error", "--out", "v") == 0
    r = report()
    assert r.keys() == {"version", "prompt", "prior", "licence", "seed", "design", "matched", "scenes", "rows", "noise_errors"}
    assert r["design"] == {"cameras": 3, "encodings": 1, "times": 2, "noises": 2} and r["matched"]["scale"] == 7.5
    assert [s["step"] for s in r["scenes"]] == [2] and [row["name"] for row in r["rows"]] == names
    for row in r["rows"]:
        assert row["calls"] >= 1 and row["guidance"]["scale"] == 7.5 and row["guidance"]["weight"] == "sigma2" and row["guidance"]["view_weight"] == 0
        for space in ("latents", "parameters"):
            f = row[space]
            assert f.keys() == FIGURES and f["shares"].keys() == set(SOURCES)
            assert all(f[k].keys() == INTERVAL for k in FIGURES - {"shares"})
            shares = [f["shares"][s]["value"] for s in SOURCES]
            assert None in shares or sum(shares) == pytest.approx(1, abs=1e-9)
    assert {p["network"] for p in r["noise_errors"]} == {"prompt", "null", "vsd"} and all(p["error"] > 0 for p in r["noise_errors"])
    for name in ("noise-to-signal-latents", "sources-parameters", "noise-error-1"):
        assert Image.open(Path("v") / f"{name}.png").size == (560, 340)
    said = capsys.readouterr().out
    assert "measuring" in said and "parameters, step 2" in said and "variance.json" in said


def test_checkpoints_of_a_run_are_the_scenes_and_nothing_of_it_changes(here, prior, capsys):
    argv = ["train", "--prompt", "a ball", "--prior", str(prior), "--steps", "4", "--checkpoint-every", "1", "--batch", "1"]
    assert main([*argv, "--init.count", "30", "--guidance", "sds", "--device", "cpu", "--out", "a"]) == 0
    before = {p: p.read_bytes() for p in Path("a").rglob("*") if p.is_file()}
    assert main(["variance", "--checkpoint", "a", "--guidances", "sds,sdi[variant=paper,inversion_steps=1,eta=0.5]", "--scenes", "2", *SMALL, "--out", "v"]) == 0
    assert {p: p.read_bytes() for p in Path("a").rglob("*") if p.is_file()} == before
    r = report()
    assert [(s["run"], s["step"], s["progress"]) for s in r["scenes"]] == [("a", 2, 0.5), ("a", 4, 1.0)]
    own = [row for row in r["rows"] if row["name"].startswith("sdi[")]
    assert len(own) == 2 and all((row["guidance"]["inversion_steps"], row["guidance"]["eta"]) == (1, 0.5) for row in own)
    assert own[0]["calls"] == 2 * next(row["calls"] for row in r["rows"] if row["name"] == "sds")  # a pair for the one move, a pair at its end


def test_the_same_seed_gives_the_same_report(here, prior):
    for out, more in (("v", []), ("w", []), ("x", ["--seed", "1"])):
        assert variance(prior, "--guidances", "sds", "--prompt", "a ball", *SHORT, *SMALL, *more, "--out", out) == 0
    assert report("v") == report("w") != report("x")


def test_unmatched_methods_keep_their_own_settings(here, prior):
    assert variance(prior, "--guidances", "sds,sdi", "--prompt", "a ball", "--no-matched", *SHORT, *SMALL, "--out", "v") == 0
    r = report()
    assert r["matched"] is None and [row["guidance"]["scale"] for row in r["rows"]] == [101.0, 7.5]
    assert r["rows"][1]["guidance"]["times"]["schedule"] == "linear"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "--checkpoint RUN"),
        (["--prompt", "x", "--draws", "4"], 2, "too few"),
        (["--prompt", "x", "--noises", "1"], 2, "--noises must be at least 2"),
        (["--prompt", "x", "--low", "0.9", "--high", "0.1"], 2, "--low and --high"),
        (["--prompt", "x", "--guidances", ","], 2, "--guidances is empty"),
        (["--prompt", "x", "--guidances", "sds,sds"], 2, "twice"),
        (["--prompt", "x", "--guidances", "sdx"], 2, "Did you mean"),
        (["--prompt", "x", "--guidances", "sds[eta]"], 2, "OPTION=VALUE"),
        (["--checkpoint", "nowhere"], 2, "no nowhere/config.yaml"),
        (["--prompt", "x", "--prior", "nowhere/at-all/there"], 3, "nowhere/at-all/there"),
        (["--prompt", "a knight", "--prior", "tiny"], 2, "cannot draw this"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(here, prior, capsys, argv, code, message):
    assert variance(prior, *argv) == code
    assert message in capsys.readouterr().err and not Path("runs").exists()


def test_commas_inside_brackets_belong_to_the_method():
    assert list(split("sds, sdi[eta=0,jitter=0.2],csd")) == ["sds", "sdi[eta=0,jitter=0.2]", "csd"]
    assert len(split("stein,sdi")) == 8
    with pytest.raises(UserError, match="empty"):
        split(" ")


@pytest.mark.parametrize(
    "words",
    [("sds,sdi[eta=0,jitter=0.2],csd",), ("sds", "sdi[eta=0,jitter=0.2]", "csd"), ("sds", "sdi[eta=0,", "jitter=0.2]", "csd"), ("sds,", "sdi[eta=0,jitter=0.2],csd")],
)
def test_methods_are_separated_by_commas_or_by_spaces(words):
    assert list(split(listed(words))) == ["sds", "sdi[eta=0,jitter=0.2]", "csd"] or [k.replace(" ", "") for k in split(listed(words))] == ["sds", "sdi[eta=0,jitter=0.2]", "csd"]
    assert list(split(listed(("ssd[baselines=depth", "normal]", "sds")))) == ["ssd[baselines=depth normal]", "sds"]


def test_the_options_know_the_weights_that_the_guidances_know():
    assert get_args(options.Weight) == get_args(Weight)


def test_the_seven_forms_of_stein_score_distillation_are_what_they_are_called():
    matched = matched_in(Variance(prompt="a red ball"))
    forms = {name: estimator(name, text, "tiny", weights_of(), matched) for name, text in split("stein").items()}
    assert {a.guidance.scale for a in forms.values()} == {7.5} and {a.guidance.weight for a in forms.values()} == {"sigma2"}
    assert not forms["none"].guidance.variance_reduction
    assert forms["mu on n"].guidance.baselines == () and forms["mu on n"].guidance.mu == "latent"
    assert forms["paper, mu = 1"].guidance.mu == "one" and forms["+ normal"].guidance.baselines == ("depth", "normal")
    assert [name for name, a in forms.items() if a.wrong_view] == ["+ shuffled depth"]
    assert forms["+ shuffled depth"].guidance == forms["+ depth"].guidance
