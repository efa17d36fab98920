"""The controls of amortised training, and what measures a generator."""

import json
import sys

import pytest
import torch
from conftest import ROOT

from splatdistill.evaluate.retrieval import recall_at_one
from splatdistill.io.ply import write_ply
from splatdistill.scene.generator.saved import Generator
from splatdistill.scene.initial import Ball
from splatdistill.toybox.world import VIEWS

sys.path.insert(0, str(ROOT / "scripts"))
import evaluate_generator
import regress_generator


def test_recall_counts_views_that_are_nearest_to_their_own_text():
    texts = torch.eye(3)
    images = torch.eye(3)[torch.tensor([[0, 0, 0, 0], [1, 1, 0, 2], [1, 1, 1, 1]])]
    assert recall_at_one(images, texts).tolist() == [1.0, 0.5, 0.0]
    assert recall_at_one(images, texts[[0, 0, 2]])[0] == 0.0, "a tie is no success"


def test_a_generator_learns_the_pictures_of_true_objects(tmp_path, capsys):
    corpus = ("a red ball", "a blue cube")
    regress_generator.train(tmp_path / "upper", corpus, regress_generator.truth, "hyper", 120, "tiny")
    generator = Generator.load(tmp_path / "upper")
    assert generator.corpus == corpus and "step 120 of 120: error" in capsys.readouterr().out
    cameras = VIEWS.sample(4, 64, 64, torch.Generator().manual_seed(0))
    for prompt in corpus:
        rgb, alpha = regress_generator.truth(prompt, cameras, torch.ones(4, 3))
        g = generator(prompt)
        render = evaluate_generator.rasterizer("cpu")
        start = render(Ball(count=4000, scale=0.03, opacity=0.05).make(torch.Generator().manual_seed(0)), cameras, torch.ones(4, 3))
        out = render(g, cameras, torch.ones(4, 3))
        assert (out.rgb - rgb).abs().mean() < 0.9 * (start.rgb - rgb).abs().mean() and (out.alpha - alpha).abs().mean() < (start.alpha - alpha).abs().mean()


def test_finished_runs_are_teachers(tmp_path):
    g = Ball(count=50, scale=0.1, opacity=0.5).make(torch.Generator().manual_seed(0))
    for name, how in (("one", "done"), ("two", "stopped")):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"prompt: a {name} ball\nguidance: sds\nprior: tiny\nseed: 0\n", encoding="utf-8")
        (run / "log.jsonl").write_text(json.dumps({"event": "Ended", "step": 1, "how": how}) + "\n", encoding="utf-8")
        write_ply(run / "splats.ply", g)
    files, teacher = regress_generator.finished(tmp_path / "runs")
    assert list(files) == ["a one ball"], "what was stopped teaches nothing"
    cameras = VIEWS.sample(2, 32, 32, torch.Generator().manual_seed(0))
    rgb, alpha = teacher("a one ball", cameras, torch.ones(2, 3))
    out = evaluate_generator.rasterizer("cpu")(g, cameras, torch.ones(2, 3))
    torch.testing.assert_close(rgb, out.rgb.clamp(0, 1), atol=1e-4, rtol=0)
    assert alpha.shape == (2, 1, 32, 32)
    assert regress_generator.main([str(tmp_path / "out"), "--runs", str(tmp_path / "nothing")]) == 2


@pytest.mark.slow
def test_a_generator_is_measured_beside_its_baselines(tmp_path, capsys):
    regress_generator.train(tmp_path / "upper", ("a red mug", "a blue mug", "a red snowman"), regress_generator.truth, "hyper", 80, "tiny")
    told = tmp_path / "told.json"
    assert evaluate_generator.main([str(tmp_path / "upper"), "--count", "2", "--recall", "2", "--json", str(told)]) == 0
    said = capsys.readouterr().out
    assert "Recall@1 of true objects" in said and "among 3 prompts" in said and "new less the nearest seen prompt's splats" in said
    measured = json.loads(told.read_text(encoding="utf-8"))
    assert measured["Recall@1 of true objects"] > 90 and 0 <= measured["Recall@1"] <= 100
    regress_generator.train(tmp_path / "leaky", ("a red mug", "a green mug"), regress_generator.truth, "hyper", 1, "tiny")
    assert evaluate_generator.main([str(tmp_path / "leaky")]) == 2 and "'a green mug', which should be new to it" in capsys.readouterr().err
