"""Every `hf download` that is printed is understood by the real hf, with every pattern as a pattern."""

import re
import shlex
from collections.abc import Callable
from fnmatch import fnmatch

import pytest

from splatdistill.bench.settle import judge
from splatdistill.cli import doctor
from splatdistill.errors import UserError
from splatdistill.estimators import load_clip, load_geometry
from splatdistill.estimators.weights import CLIP, DEPTH_ANYTHING, DPT, MARIGOLD_NORMALS, find
from splatdistill.evaluate.clip_model import GET_CLIP, VIT_B32
from splatdistill.priors import hub, weights
from splatdistill.weight_files import download_command

CLIP_FILES = ("config.json", "merges.txt", "vocab.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors")
DEPTH_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
SD_FILES = ("model_index.json", "tokenizer/merges.txt", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors")
FULL_FILES = (*SD_FILES[:-1], "unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Disable the network and the hub cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)


def refused(do: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        do()
    return str(caught.value)


SAID: dict[str, tuple[Callable[[], str], str, tuple[str, ...]]] = {
    "a prior": (lambda: refused(lambda: weights.find("someone/my-model")), "someone/my-model", FULL_FILES),
    "a known prior": (lambda: refused(lambda: weights.find(hub.CANDIDATES[0])), hub.CANDIDATES[0], SD_FILES),
    "a removed prior": (lambda: refused(lambda: weights.find("runwayml/stable-diffusion-v1-5")), hub.CANDIDATES[2], SD_FILES),
    "doctor": (lambda: "\n".join(doctor.fast_path()), hub.CANDIDATES[0], SD_FILES),
    "a CLIP": (lambda: refused(lambda: load_clip(VIT_B32)), VIT_B32, CLIP_FILES),
    "a CLIP for evaluate": (lambda: GET_CLIP, VIT_B32, CLIP_FILES),
    "a CLIP for bench": (lambda: refused(lambda: judge("auto", "sd")), VIT_B32, CLIP_FILES),
    "depth": (lambda: refused(lambda: load_geometry(DPT)), DPT, DEPTH_FILES),
    "another depth": (lambda: refused(lambda: load_geometry(DEPTH_ANYTHING)), DEPTH_ANYTHING, DEPTH_FILES),
    "normals": (lambda: refused(lambda: load_geometry(MARIGOLD_NORMALS)), MARIGOLD_NORMALS, ("model_index.json", "unet/diffusion_pytorch_model.safetensors")),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
def test_the_real_hf_downloads_what_is_needed_and_no_pickle(kind, monkeypatch):
    from huggingface_hub.cli import download as module
    from huggingface_hub.cli.hf import app

    say, repo, needed = SAID[kind]
    (line,) = re.findall(r"hf download (?:\S+)(?: --(?:in|ex)clude \S+)+", say())
    asked = []
    monkeypatch.setattr(module, "snapshot_download", lambda repo_id, **options: asked.append((repo_id, options)) or "/nowhere")
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("one file was asked for"), raising=False)
    app.main(shlex.split(line)[1:], prog_name="hf", standalone_mode=False)
    ((got, options),) = asked
    include, exclude = options["allow_patterns"], options["ignore_patterns"] or []

    def taken(file: str) -> bool:
        return any(fnmatch(file, p) for p in include) and not any(fnmatch(file, p) for p in exclude)

    assert got == repo and all(taken(f) for f in needed)
    assert not any(taken(f) for f in ("pytorch_model.bin", "unet/diffusion_pytorch_model.bin", "model.ckpt", "README.md"))


def test_a_name_of_several_words_is_one_word_to_a_shell():
    line = download_command("some one/x; rm -rf ~")
    assert shlex.split(line)[:3] == ["hf", "download", "some one/x; rm -rf ~"]


def test_a_clip_that_is_missing_is_told_of_clips_and_depth_of_depth():
    clip, depth = refused(lambda: load_clip("someone/clip")), refused(lambda: load_geometry("someone/depth"))
    assert CLIP in clip and "tiny-clip" in clip and DPT not in clip and MARIGOLD_NORMALS not in clip
    assert DPT in depth and CLIP not in depth


def test_a_network_of_the_other_kind_is_not_to_be_downloaded():
    text = refused(lambda: load_clip(DPT))
    assert "network of geometry" in text and "hf download" not in text
    assert "network of clip" in refused(lambda: find(CLIP))
