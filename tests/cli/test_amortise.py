"""amortise and generate from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from splatdistill.cli import generate, main
from splatdistill.cli.amortise import COMMAND
from splatdistill.io import load_splats
from splatdistill.io.video import check_mp4
from splatdistill.scene.generator.saved import Generator
from splatdistill.settings.commands import TAKEN, TRAIN
from splatdistill.settings.layers import parse
from splatdistill.train.amortised.config import Amortise

SMALL = ["--steps", "4", "--device", "cpu", "--generator.count", "80", "--checkpoint-every", "2", "--preview-every", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short training with the embedded prior."""
    folder = tmp_path_factory.mktemp("amortised")
    (folder / "prompts.txt").write_text("a red ball\na blue cube\na green mushroom\n", encoding="utf-8")
    assert main(["amortise", "--corpus", str(folder / "prompts.txt"), "--prior", "tiny", *SMALL, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_corpus_becomes_a_generator(trained, capsys, tmp_path):
    assert (trained / "corpus.txt").read_text(encoding="utf-8").splitlines() == ["a red ball", "a blue cube", "a green mushroom"]
    saved = yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))
    assert saved["guidance"]["name"] == "asd" and saved["generator"]["name"] == "hyper" and saved["guidance_weight"] == 0.008
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == ["step-000002", "step-000004"]
    out = tmp_path / "a.ply"
    assert main(["generate", "a red mushroom", "--from", str(trained), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "not one of its 3 prompts; the nearest is 'a green mushroom'" in told and "80 splats, generated in" in told
    assert len(load_splats(out).gaussians) == 80 and b"comment prompt a red mushroom" in out.read_bytes()[:2000]
    assert main(["generate", "a red ball", "--from", str(trained), "--polish", "2"]) == 0
    assert len(load_splats(trained / "generated" / "a-red-ball.ply").gaussians) == 80
    assert "nearest" not in capsys.readouterr().out


def test_all_of_it_and_what_lies_between(trained, tmp_path):
    assert main(["generate", "--from", str(trained), "--corpus-out", str(tmp_path / "all")]) == 0
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["a-blue-cube.ply", "a-green-mushroom.ply", "a-red-ball.ply"]
    film = tmp_path / "between.mp4"
    assert main(["generate", "--from", str(trained), "--between", "a red ball", "a blue ball", "--frames", "3", "--out", str(film)]) == 0
    check_mp4(film, 3, 256, 256)


def test_it_goes_on(trained, tmp_path, capsys):
    shutil.copytree(trained, run := tmp_path / "run")
    assert main(["amortise", "--resume", str(run)]) == 2
    assert "has done 4 steps, and 4 were asked for" in capsys.readouterr().err
    assert main(["amortise", "--resume", str(run), "--steps", "5"]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(e["step"], e.get("how")) for e in log] == [(4, None), (4, "done"), (5, None), (5, "done")] and json.loads((run / "generator.json").read_text(encoding="utf-8"))["steps"] == 5
    assert main(["amortise", "--resume", str(run), "--rate", "1"]) == 2
    assert "--rate cannot be given again" in capsys.readouterr().err


def test_it_goes_on_only_where_its_device_is(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shutil.copytree(trained, run := tmp_path / "run")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    for device, status, said in (("cuda", 2, "torch sees no such device here"), ("auto", 0, "")):
        (run / "config.yaml").write_text(text.replace("device: cpu", f"device: {device}"), encoding="utf-8")
        assert main(["amortise", "--resume", str(run), "--steps", "5"]) == status
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["generator.safetensors", "generator.json", "sheet.png"])
def test_what_was_not_written_at_the_end_is_written(trained, tmp_path, capsys, missing):
    shutil.copytree(trained, run := tmp_path / "run")
    before = (run / missing).read_bytes()
    (run / missing).unlink()
    assert main(["amortise", "--resume", str(run)]) == 0
    assert (run / missing).read_bytes() == before
    assert main(["amortise", "--resume", str(run)]) == 2
    assert "has done 4 steps, and 4 were asked for" in capsys.readouterr().err


def test_a_finished_training_says_so_before_its_prior_is_loaded(trained, monkeypatch, capsys):
    monkeypatch.setattr("splatdistill.priors.weights.load", lambda *args, **more: pytest.fail("the prior was loaded"))
    assert main(["amortise", "--resume", str(trained)]) == 2
    assert "has done 4 steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["generate"], "which network?"),
        (["generate", "--prompt", "a ball"], "--prompt is no option: its value is typed without it"),
        (["generate", "a ball", "--from", "."], "holds no generator"),
        (["generate", "--from", "{run}"], "what to generate?"),
        (["generate", "a red ball", "--from", "{run}", "--between", "a red ball", "a blue ball"], "one of a prompt"),
        (["generate", "a quantum", "--from", "{run}"], "cannot draw this"),
        (["generate", "a red ball", "--from", "{run}", "--out", "a.splat"], "expected .ply"),
        (["generate", "a red ball", "--from", "{run}", "--polish", "-1"], "--polish"),
        (["generate", "a red ball", "--from", "{run}", "--seed", "1"], "--generator.z"),
        (["generate", "a red ball", "--from", "{run}", "--seed", "-1"], "--seed"),
        (["generate", "--from", "{run}", "--corpus-out", "{run}", "--seed", "1"], "--seed is for"),
        (["amortise", "--corpus", "nowhere.txt", "--prior", "tiny"], "cannot be read"),
        (["amortise", "--prior", "tiny", "--generator", "hyped"], "Did you mean --generator hyper?"),
        (["amortise", "--prior", "tiny", "--prompts", "0"], "--prompts"),
        (["amortise", "--resume", "nowhere"], "there is no"),
        (["evaluate", "{run}"], "no prompt"),
    ],
)
def test_mistakes_are_explained(argv, word, trained, here, capsys):
    code = main([a.format(run=trained) for a in argv])
    said = capsys.readouterr()
    assert code == 2 and word in said.err, said


def test_a_corpus_that_the_prior_does_not_know_is_refused(here, capsys):
    Path("c.txt").write_text("a red ball\na photo of an astronaut\n", encoding="utf-8")
    assert main(["amortise", "--corpus", "c.txt", "--prior", "tiny"]) == 2
    assert "astronaut" in capsys.readouterr().err and not Path("runs").exists()


def test_a_run_starts_from_what_a_generator_makes(trained, here):
    argv = ["train", "--guidance", "sds", "--prior", "tiny", "--prompt", "a red mushroom", "--steps", "1", "--rates.means", "1e-12", "--no-viewer"]
    assert main([*argv, "--init", "generator", "--init.path", str(trained), "--out", "run"]) == 0
    made = Generator.load(trained)("a red mushroom")
    got = load_splats(Path("run/splats.ply")).gaussians
    torch.testing.assert_close(got.means, made.means, atol=1e-5, rtol=0)
    saved = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    assert saved["init"]["name"] == "generator" and Path(saved["init"]["path"]) == trained
    assert main([*argv, "--init", "generator"]) == 2
    assert main([*argv, "--init", "generator", "--init.path", "."]) == 2


@pytest.mark.parametrize("family", ["tiny", "sd"])
@pytest.mark.parametrize("guidance", ["asd", "csd", "sdi"])
def test_it_takes_from_a_recipe_what_a_run_of_one_prompt_does(family, guidance):
    argv = ["--guidance", guidance, "--prior", "x"]
    own, one = parse(argv, lambda source: family, COMMAND).config, parse(argv, lambda source: family, TRAIN).config
    for name in TAKEN:
        assert getattr(own, name) == getattr(one, name), name
    assert own.steps == Amortise().steps and own.batch == Amortise().batch, "which are of a corpus"


@pytest.mark.parametrize(
    ("name", "count", "least", "most"), [("hyper-full", 65_536, 9e6, 14e6), ("conv-full", 262_144, 60e6, 100e6), ("triplane-full", 65_536, 110e6, 130e6)]
)
def test_full_sizes_are_those_of_the_papers(name, count, least, most, monkeypatch):
    trunk = parse(["--config", name, "--prior", "x"], lambda source: "sd", COMMAND).config.generator
    monkeypatch.setattr(type(trunk), "anchors", lambda self: torch.zeros(count, 3))
    with torch.device("meta"):
        network = trunk.network(1024)
    assert len(network.anchors) == count and least < sum(p.numel() for p in network.parameters()) < most


@pytest.mark.slow
def test_under_world_a_corpus_is_trained_and_polished_on_sets_of_views(here, monkeypatch):
    Path("prompts.txt").write_text("a red ball\na blue cube\n", encoding="utf-8")
    assert main(["amortise", "--corpus", "prompts.txt", "--prior", "world", *SMALL, "--steps", "1", "--out", "world"]) == 0
    assert yaml.safe_load(Path("world/config.yaml").read_text(encoding="utf-8"))["prior_views"] == 4
    seen: list[int] = []
    session = generate.Session
    monkeypatch.setattr(generate, "Session", lambda config, prior: seen.append(prior.views) or session(config, prior))
    assert main(["generate", "a red ball", "--from", "world", "--polish", "1"]) == 0 and seen == [4]
