"""Pictures and points from the command line."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from splatdistill.cli import main
from splatdistill.guidance import GUIDANCES, SDS, SJC, Times
from splatdistill.priors import plane
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.train.image2d import Image2D, Image2DSession

SMALL = ["--steps", "3", "--particles", "3", "--device", "cpu"]


def image(*argv: str) -> int:
    return main(["image", *argv])


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_every_guidance_makes_pictures(here, prior, guidance, space):
    argv = ["--guidance", guidance, "--space", space, "--prompt", "a ball", "--prior", str(prior), *SMALL]
    assert image(*argv, "--out", "a") == 0
    kept = json.loads(Path("a/image.json").read_text(encoding="utf-8"))
    assert (kept["guidance"], kept["steps"], kept["how"], kept["space"]) == (guidance, 3, "done", space)
    assert kept["images_per_step"] > 0 and kept["diversity"] > 0 and kept["coverage"] is None
    assert Image.open("a/image.png").size == (2 * 32 + 2, 2 * 32 + 2)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_every_guidance_moves_points(here, guidance):
    assert image("--guidance", guidance, "--prior", "exact", "--prompt", "pair", *SMALL, "--out", "a") == 0
    kept = json.loads(Path("a/image.json").read_text(encoding="utf-8"))
    assert kept["coverage"].keys() == {"spread", "within", "missed", "likelihood"} and kept["diversity"] is None
    assert kept["prior"] == "exact" and Path("a/image.png").stat().st_size > 1000


def test_the_configuration_repeats_it_and_says_who_chose(here):
    argv = ["--guidance", "sds", "--prior", "exact", "--prompt", "ring", *SMALL, "--guidance.times.t_min", "0.1"]
    assert image(*argv, "--out", "a") == 0
    text = Path("a/config.yaml").read_text(encoding="utf-8")
    saved = yaml.safe_load(text)
    assert saved["guidance"]["scale"] == 1.0 and saved["guidance"]["times"]["t_min"] == 0.1
    assert "# the exact prior" in text and "# command line" in text
    assert image("--config", "a/config.yaml", "--out", "b") == 0
    assert Path("a/image.png").read_bytes() == Path("b/image.png").read_bytes()
    assert image(*argv, "--out", "c", "--seed", "5") == 0
    assert Path("a/image.png").read_bytes() != Path("c/image.png").read_bytes()
    log = [json.loads(line) for line in Path("a/log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] == 3 and log[-1]["calls"] == 9


def test_the_guidance_comes_from_the_recipe_for_splats_but_not_its_steps(here, prior):
    assert image("--guidance", "sds", "--prompt", "x", "--prior", str(prior), "--particles", "1", "--steps", "1") == 0
    text = Path("runs/x/config.yaml").read_text(encoding="utf-8")
    assert "# recipe sd/sds" in text and "rates" not in yaml.safe_load(text)
    assert json.loads(Path("runs/x/image.json").read_text(encoding="utf-8"))["diversity"] == 0


EDIT = ["--guidance", "collaborative", "--guidance.base-residual", "edit"]


@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_pictures_are_edited(here, prior, space):
    """One particle for each picture, cut square; with its own prompt nothing changes but by the repulsion, with another one it does."""
    for name, colour, size in (("wide.png", (200, 30, 30, 255), (80, 40)), ("clear.png", (0, 0, 0, 0), (40, 40))):
        Image.new("RGBA", size, colour).save(name)
    argv = [*EDIT, "--guidance.repulsion", "0", "--pictures", "wide.png", "clear.png", "--original", "a red ball", "--space", space, "--prior", str(prior), "--steps", "3", "--device", "cpu"]
    assert image(*argv, "--prompt", "a red ball", "--out", "same") == 0
    assert image(*argv, "--prompt", "a blue cube", "--out", "other") == 0
    same, other = (np.asarray(Image.open(f"{d}/image.png").convert("RGB")).astype(int) for d in ("same", "other"))
    assert json.loads(Path("same/image.json").read_text(encoding="utf-8"))["particles"] == 2
    assert np.abs(same - other).max() > 3
    if space == "pixels":
        assert np.abs(same[5:25, 5:25] - (200, 30, 30)).max() <= 1 and np.abs(same[40:60, 5:25] - 255).max() <= 1
    assert image("--config", "other/config.yaml", "--out", "again") == 0
    assert Path("other/image.png").read_bytes() == Path("again/image.png").read_bytes()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([*EDIT, "--prompt", "x", "--prior", "tiny"], 2, "--original and --pictures are needed"),
        (["--prompt", "a red ball", "--prior", "tiny", "--original", "a ball"], 2, "says what --pictures show"),
        ([*EDIT, "--prompt", "a red ball", "--prior", "tiny", "--original", "a red ball", "--pictures", "none.png"], 2, "does not exist"),
        (["--guidance", "sds"], 2, "image turns a prompt into pictures"),
        (["--prompt", "star", "--prior", "exact"], 2, "ring, grid, pair, one"),
        (["--prompt", "ring", "--prior", "exact", "--space", "pixels"], 2, "no pixels"),
        (["--prompt", "x", "--particles", "0", "--prior", "exact"], 2, "--particles must be at least 1"),
        (["--prompt", "ring", "--prior", "exact", "--rate", "0"], 2, "--rate"),
        (["--prompt", "a red knight", "--prior", "tiny"], 2, "cannot draw this"),
        (["--prompt", "x", "--prior", "nowhere/at-all/there"], 3, "nowhere/at-all/there"),
        (["--prompt", "ring", "--guidance", "sda"], 2, "Did you mean --guidance"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(here, capsys, argv, code, message):
    assert image(*argv) == code
    assert message in capsys.readouterr().err and not Path("runs").exists()


def test_help_shows_the_options_and_their_values(here, capsys):
    assert image("--help", "--prior", "exact", "--guidance", "sds") == 0
    said = capsys.readouterr().out
    assert "--particles" in said and "--guidance.scale" in said and "--resume" not in said


@pytest.mark.skipif(shutil.which("kill") is None, reason="needs signals")
def test_an_interrupted_run_keeps_what_it_has(here, monkeypatch):
    from splatdistill.train.image2d import Image2DSession

    step = Image2DSession.step

    def interrupted(self):
        more = step(self)
        if self.done == 2:
            os.kill(os.getpid(), 2)
        return more

    monkeypatch.setattr(Image2DSession, "step", interrupted)
    argv = ["--guidance", "sds", "--prior", "exact", "--prompt", "ring", *SMALL, "--steps", "50", "--out", "a"]
    assert image(*argv) == 130
    kept = json.loads(Path("a/image.json").read_text(encoding="utf-8"))
    assert kept["how"] == "stopped" and kept["steps"] == 2 and Path("a/image.png").exists()


def test_prompts_of_the_plane_are_distributions_of_their_own():
    prior, rng = plane.plane(), torch.Generator().manual_seed(0)
    spreads = {p: float(prior.draw(p, 2000, rng).var(0).sum()) for p in plane.PROMPTS}
    assert spreads["ring"] > spreads["grid"] > spreads["one"] and all(len(w) == 19 for w in plane.PROMPTS.values())


REMEMBERS = ("ssd", "vsd", "dsd")  # in averages that are replaced, in a network, in tensors that come and go


@pytest.mark.parametrize("guidance", [name if name in REMEMBERS else pytest.param(name, marks=pytest.mark.slow) for name in GUIDANCES])
def test_the_variance_is_logged_and_the_run_is_the_same_as_without(here, guidance):
    argv = ["--guidance", guidance, "--prior", "exact", "--prompt", "pair", *SMALL]
    assert image(*argv, "--out", "a") == image(*argv, "--variance-every", "2", "--out", "b") == 0
    assert Path("a/image.png").read_bytes() == Path("b/image.png").read_bytes()
    lines = [json.loads(line) for line in Path("b/log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "variance" in line] == [0, 2] and Path("b/variance.png").is_file()
    kept = json.loads(Path("b/image.json").read_text(encoding="utf-8"))
    assert kept["variance"] == pytest.approx(np.mean([line["variance"] for line in lines if "variance" in line]))
    assert json.loads(Path("a/image.json").read_text(encoding="utf-8"))["variance"] is None
    assert [line["calls"] for line in lines if "calls" in line][-1] == json.loads(Path("a/log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["calls"]


def test_the_variance_is_that_of_the_noise_alone_where_theory_knows_it():
    """Of a prior that is one point and at one noise level, SDS's gradient never differs; without variance reduction SJC's has the noise's."""
    prior = GaussianMixturePrior(torch.zeros(1, 2, dtype=torch.float64), torch.full((1,), 1e-12, dtype=torch.float64), {"one": [1.0]})
    told = {"scale": 1.0, "weight": "one", "times": Times(t_min=0.5, t_max=0.5)}
    found = {}
    for name, guidance in {"sds": SDS(**told), "sjc": SJC(**told, variance_reduction=False)}.items():
        session = Image2DSession(Image2D(prompt="one", prior="exact", particles=400, init=1.0, guidance=guidance), prior)
        before = session.value.detach().clone()
        found[name] = session.scatter(16)
        assert torch.equal(session.value, before) and prior.calls == 0
    alpha, sigma = (float(v) for v in prior.schedule(torch.tensor([0.5], dtype=torch.float64)))
    square = float((alpha / sigma * before).square().sum(1).mean())
    assert found["sds"].variance < 1e-9 and found["sds"].mean_square == pytest.approx(square, rel=1e-6)
    assert found["sjc"].variance == pytest.approx(2.0, rel=0.1) and found["sjc"].mean_square == pytest.approx(square, rel=0.2)
