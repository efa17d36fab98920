"""A folder that cannot be loaded says what is wrong with it, all at once and before anything is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import write_sd_folder
from safetensors.torch import load_file

from splatdistill.priors.layout import half_variant, problems
from splatdistill.priors.weights import load


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def folder(sd: Path, tmp_path: Path) -> Path:
    """Return a copy that may be broken."""
    return shutil.copytree(sd, tmp_path / "folder")


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def to_pickle(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))


def cut(folder: Path) -> None:
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (folder / "text_encoder" / "model.safetensors").write_text(text, encoding="utf-8")


BREAK: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    "no unet": (
        lambda f: shutil.rmtree(f / "unet"),
        "unet/config.json is missing; unet/diffusion_pytorch_model.safetensors",
    ),
    "no vae weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        "vae/diffusion_pytorch_model.safetensors",
    ),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "scheduler/scheduler_config.json is missing"),
    "no tokenizer": (
        lambda f: shutil.rmtree(f / "tokenizer"),
        "tokenizer/vocab.json is missing; tokenizer/merges.txt is missing",
    ),
    "no text encoder": (lambda f: shutil.rmtree(f / "text_encoder"), "text_encoder/config.json is missing"),
    "pickle": (to_pickle, "unet/ has only diffusion_pytorch_model.bin: a pickle"),
    "cut short": (cut, "unfinished download"),
    "lfs pointer": (pointer, "git-lfs pointer"),
    "bad json": (lambda f: (f / "unet" / "config.json").write_text("{", encoding="utf-8"), "unet/config.json is not JSON"),
    "list": (lambda f: (f / "vae" / "config.json").write_text("[]", encoding="utf-8"), "vae/config.json is not a JSON object"),
    "xl": (lambda f: edit(f / "model_index.json", text_encoder_2=["a", "b"]), "two text encoders"),
    "transformer": (
        lambda f: edit(f / "unet" / "config.json", _class_name="SD3Transformer2DModel"),
        "SD3Transformer2DModel",
    ),
    "inpainting": (lambda f: edit(f / "unet" / "config.json", in_channels=9), "reads 9 channels and the VAE makes 4"),
    "other text": (
        lambda f: edit(f / "text_encoder" / "config.json", hidden_size=64),
        "text of width 32 and the text encoder makes 64",
    ),
    "scores": (lambda f: edit(f / "scheduler" / "scheduler_config.json", prediction_type="score"), "predicts score"),
}


@pytest.mark.parametrize("kind", BREAK)
def test_a_broken_folder_says_what_is_broken(folder: Path, kind: str) -> None:
    assert problems(folder) == ()
    damage, words = BREAK[kind]
    damage(folder)
    assert words in "; ".join(problems(folder))


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    text = "; ".join(problems(tmp_path))
    assert all(
        part in text for part in ("model_index.json", "unet/", "vae/", "text_encoder/", "tokenizer/", "scheduler/")
    )


def test_sharded_weights_need_every_shard(folder: Path) -> None:
    single = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shard = "diffusion_pytorch_model-00001-of-00001.safetensors"
    single.rename(folder / "unet" / shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(folder / "unet" / shard), shard)}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert problems(folder) == ()
    assert load(str(folder), precision="float32").image_size == 32
    (folder / "unet" / shard).unlink()
    assert f"unet/{shard} is missing" in problems(folder)


def test_half_precision_files_are_read_when_preferred_or_alone(folder: Path) -> None:
    assert half_variant(folder, "unet", prefer=True) is None
    full = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(full, full.with_suffix(".fp16.safetensors"))
    assert half_variant(folder, "unet", prefer=True) == "fp16"
    assert half_variant(folder, "unet", prefer=False) is None
    full.unlink()
    assert half_variant(folder, "unet", prefer=False) == "fp16"
    assert problems(folder) == ()
