"""Weights of several networks in one file."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from splatdistill.estimators import ClipScorer
from splatdistill.priors import Query
from splatdistill.priors.layout import problems
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import TINY
from splatdistill.weight_files import SharedWeights
from tests.helpers import write_sd_folder


def bundle(folder: Path, parts: dict[Path, str]) -> Path:
    """Move the weights of component folders into one file beside `folder`."""
    file, tensors = folder.parent / "weights.safetensors", {}
    for part, stem in parts.items():
        own = part / f"{stem}.safetensors"
        tensors |= {f"{part.name}.{k}": v for k, v in load_file(own).items()}
        own.unlink()
        SharedWeights.write(part, file, f"{part.name}.")
    save_file(tensors, file)
    return file


def answer(folder: Path) -> torch.Tensor:
    """Return the prior's answer for fixed noise."""
    prior = StableDiffusionPrior.from_folder(folder)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return prior.answer([Query(x, torch.tensor([0.3, 0.8]), prior.embed(["a mug", ""]))])[0]


def test_a_bundled_prior_is_the_prior(tmp_path: Path) -> None:
    folder = write_sd_folder(tmp_path / "sd")
    before = answer(folder)
    file = bundle(folder, {folder / "unet": "diffusion_pytorch_model", folder / "text_encoder": "model"})
    assert problems(folder) == ()
    assert torch.equal(answer(folder), before)
    file.unlink()
    assert any("weights.json" in p and "missing" in p for p in problems(folder))


def test_own_weights_win_over_a_pointer(tmp_path: Path) -> None:
    folder = write_sd_folder(tmp_path / "sd")
    before = answer(folder)
    SharedWeights.write(folder / "unet", tmp_path / "nowhere.safetensors", "unet.")
    assert problems(folder) == () and torch.equal(answer(folder), before)


def test_a_bundled_clip_is_the_clip(tmp_path: Path) -> None:
    own = ClipScorer(TINY.parent / "clip")
    folder = tmp_path / "models" / "clip"
    shutil.copytree(TINY.parent / "clip", folder)
    (folder / "weights.json").unlink(missing_ok=True)
    (folder / "model.safetensors").unlink(missing_ok=True)
    save_file({f"clip.{k}": v for k, v in own.model.state_dict().items()}, tmp_path / "weights.safetensors")
    SharedWeights.write(folder, tmp_path / "weights.safetensors", "clip.")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    again = ClipScorer(folder)
    before, after = own.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    similar = (scorer.similarities(image, ["a red mug"]) for scorer in (again, own))
    torch.testing.assert_close(*similar)  # not bit by bit: where tensors lie in memory decides which kernels run


@pytest.mark.parametrize("text", ["", "[]", '{"file": 1}', "not json"])
def test_a_pointer_that_cannot_be_read_points_nowhere(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.json").write_text(text, encoding="utf-8")
    assert SharedWeights.of(tmp_path) is None
