"""train --from-image from the command line, and going on without the picture's file."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.cli import main
from splatdistill.io.images import write_png
from splatdistill.settings.commands import parse_train

SMALL = ["--steps", "4", "--batch", "1", "--init.count", "40", "--seed", "3", "--device", "cpu", "--guidance", "sds", "--checkpoint-every", "2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd") / "weights")


@pytest.fixture
def photo(here) -> Path:
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 20:50, 10:40] = 1
    write_png(here / "my photo.png", torch.cat([torch.full((3, 64, 64), 0.4), alpha]))
    return here / "my photo.png"


def begin(weights: Path, photo: Path, *more: str) -> int:
    return main(["train", "--from-image", photo.name, "--prior", str(weights), *SMALL, *more])


def test_a_run_goes_on_bit_by_bit_without_the_file_and_in_another_place(here, weights, photo, capsys):
    assert begin(weights, photo, "--prompt", "a gray box", "--image.elevation", "25", "--out", "whole") == 0
    saved = yaml.safe_load((here / "whole" / "config.yaml").read_text(encoding="utf-8"))
    assert saved["image"]["path"] == str(here / "whole" / "picture.png") and saved["image"]["elevation"] == 25.0
    assert saved["image"]["rgb"] > 0 and "# recipe image/sd" in (here / "whole" / "config.yaml").read_text(encoding="utf-8")
    assert begin(weights, photo, "--prompt", "a gray box", "--image.elevation", "25", "--out", "cut") == 0
    shutil.rmtree(here / "cut" / "checkpoints" / "step-000004")
    (here / "cut" / "splats.ply").unlink()
    (here / "cut").rename(here / "moved")
    photo.unlink()
    assert main(["train", "--resume", "moved"]) == 0
    assert (here / "moved" / "splats.ply").read_bytes() == (here / "whole" / "splats.ply").read_bytes()
    assert main(["train", "--config", "whole/config.yaml", "--out", "again"]) == 0
    assert (here / "again" / "splats.ply").read_bytes() == (here / "whole" / "splats.ply").read_bytes()


def test_what_cannot_be_used_is_refused_before_anything_is_loaded(here, weights, photo, capsys, monkeypatch):
    monkeypatch.setattr("splatdistill.cli.train.begin", None)  # which would fail otherwise
    (here / "no.png").write_text("no", encoding="utf-8")
    for name, said in (("gone.png", "does not exist"), ("no.png", "cannot be read")):
        assert begin(weights, here / name, "--prompt", "a box") == 2
        err = capsys.readouterr().err
        assert said in err and name in err and err.count("\n") == 1
    assert main(["train", "--from-image", photo.name, "--image.azimuth", "999", "--prompt", "a red box", "--prior", str(weights)]) == 2
    assert "--image.azimuth" in capsys.readouterr().err


def test_a_prior_of_words_alone_wants_words(weights, photo, capsys):
    assert begin(weights, photo) == 2
    assert "give --prompt too" in capsys.readouterr().err


def test_the_recipe_for_pictures_is_laid_over_the_methods_and_only_there(photo):
    plain = parse_train(["--prompt", "a red mushroom"], lambda source: "world")
    shown = parse_train(["--prompt", "a red mushroom", "--image.path", str(photo), "--image.mask", "7"], lambda source: "world")
    assert plain.config.image.rgb == 0 < shown.config.image.rgb and shown.config.image.mask == 7
    assert shown.chosen_by["image.rgb"] == "recipe image/world" and shown.chosen_by["image.mask"] == "command line"
    for file in (ROOT / "configs" / "image").glob("*.yaml"):
        assert "Source" in file.read_text(encoding="utf-8")
