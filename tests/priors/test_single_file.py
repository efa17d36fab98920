"""A single file in Stable Diffusion's original layout is the folder that it was made of, or a person is told what it lacks."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers import write_sd_folder
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.cli import main
from splatdistill.errors import WeightsError
from splatdistill.priors import Query, hub
from splatdistill.priors.weights import find, load

UNET_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
HEAD = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def unet_name(key: str, layers: int) -> str:
    """Return the original name of a tensor of a UNet with so many layers a block."""
    stem, _, end = key.rpartition(".")
    if stem in HEAD:
        return f"{HEAD[stem]}.{end}"
    kind, block, part, number, rest = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.*)", key).groups()
    if part == "resnets":
        rest = re.sub(r"^\w+", lambda m: UNET_RESNET[m[0]], rest)
    if kind == "mid":
        return f"middle_block.{2 * int(number) if part == 'resnets' else 1}.{rest}"
    if kind == "down":
        at = 1 + int(block) * (layers + 1) + (layers if part == "downsamplers" else int(number))
        return f"input_blocks.{at}.{'0.op' if part == 'downsamplers' else 1 if part == 'attentions' else 0}.{rest.removeprefix('conv.') if part == 'downsamplers' else rest}"
    if part == "upsamplers":  # behind the attention, where there is one
        return f"output_blocks.{int(block) * (layers + 1) + layers}.{2 if block == '0' else 1}.{rest}"
    return f"output_blocks.{int(block) * (layers + 1) + int(number)}.{1 if part == 'attentions' else 0}.{rest}"


def vae_name(key: str, blocks: int) -> str:
    """Return the original name of a tensor of an autoencoder."""
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"mid_block\.attentions\.0\.", "mid.attn_1.", key)
    for new, old in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
        key = key.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    key = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", key)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", key)


def original(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a folder by their original names."""
    unet, vae, text = (load_file(next((folder / c).glob("*.safetensors"))) for c in ("unet", "vae", "text_encoder"))
    whole = {f"model.diffusion_model.{unet_name(k, 1)}": v for k, v in unet.items()}
    for k, v in vae.items():
        attention = ".attentions." in k and k.endswith("weight") and "group_norm" not in k
        whole[f"first_stage_model.{vae_name(k, 3)}"] = v[:, :, None, None] if attention else v  # convolutions of one pixel there
    return whole | {f"cond_stage_model.transformer.{k}": v for k, v in text.items()}


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def file(sd: Path, here: Path) -> Path:
    """Return a single file, and its configurations beside it."""
    save_file(original(sd), here / "style.safetensors")
    shutil.copytree(sd, here / "style", ignore=shutil.ignore_patterns("*.safetensors"))
    return here / "style.safetensors"


def test_the_file_is_the_folder_that_it_was_made_of(sd: Path, file: Path) -> None:
    found = find(str(file))
    assert found.path == file and found.configs == file.with_suffix("")
    one, other = load(found, precision="float32"), load(find(str(sd)), precision="float32")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(one.encode(image), other.encode(image))
    torch.testing.assert_close(one.embed(["a red ball"]).tokens, other.embed(["a red ball"]).tokens)
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.4])
    torch.testing.assert_close(*(p.answer([Query(x, t, p.embed(["a red ball"]))])[0] for p in (one, other)))


def test_a_run_from_the_command_line_takes_it_and_resumes(file: Path, short_films: None) -> None:
    small = ["--batch", "1", "--init.count", "50", "--densify", "fixed", "--no-viewer", "--guidance", "sds"]
    assert main(["train", "--prompt", "a red ball", "--prior", "style.safetensors", "--steps", "1", "--out", "run", *small]) == 0
    assert f"prior: {file}" in Path("run/config.yaml").read_text(encoding="utf-8")
    assert main(["train", "--resume", "run", "--steps", "2", "--no-viewer"]) == 0


def test_a_file_without_a_part_is_refused(file: Path) -> None:
    held = load_file(file)
    save_file({k: v for k, v in held.items() if "diffusion_model.out.2" not in k}, file)
    with pytest.raises(WeightsError, match=r"single file cannot be loaded"):
        load(find(str(file)))


WIDTH = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
REFUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "SD 1.5": ({WIDTH: torch.zeros(1, 768)}, "hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --include '*.json' --include '*.txt'"),
    "SD 2": ({WIDTH: torch.zeros(1, 1024)}, "with --local-dir x beside it, gets those of SD 2.1 at 512 pixels"),
    "SDXL": ({WIDTH: torch.zeros(1, 2048)}, "hf download stabilityai/stable-diffusion-xl-base-1.0"),
    "another width": ({WIDTH: torch.zeros(1, 5)}, "put a folder x in the diffusers layout beside it"),
    "inpainting": ({WIDTH: torch.zeros(1, 768), "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1, 9, 3, 3)}, "reads 9 channels"),
    "SD 3": ({"model.diffusion_model.joint_blocks.0.x": torch.zeros(1)}, "of Stable Diffusion 3; expected a folder"),
    "a LoRA": ({"lora_unet_x.lora_down.weight": torch.zeros(1)}, "give it to --lora"),
    "something else": ({"a": torch.zeros(1)}, "no network of Stable Diffusion's original layout"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_missing_or_other_is_told_by_the_header(here: Path, kind: str) -> None:
    tensors, words = REFUSED[kind]
    save_file(tensors, here / "x.safetensors")
    with pytest.raises(WeightsError) as caught:
        find("x.safetensors")
    assert words in str(caught.value) and str(caught.value).count("\n") == 1


@pytest.mark.parametrize("name", ["x.ckpt", "x.gguf"])
def test_pickles_and_others_are_not_opened(here: Path, name: str) -> None:
    Path(name).write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match=r"expected \.safetensors"):
        find(name)


def test_configurations_come_from_the_cache_where_none_are_beside_it(here: Path, sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = shutil.copytree(sd, here / "cached", ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(hub, "cached", lambda repo: configs if repo == "stable-diffusion-v1-5/stable-diffusion-v1-5" else None)
    save_file({WIDTH: torch.zeros(1, 768)}, here / "x.safetensors")
    assert find("x.safetensors").configs == configs
    unet = configs / "unet" / "config.json"
    unet.write_text(json.dumps({**json.loads(unet.read_text(encoding="utf-8")), "time_cond_proj_dim": 8}), encoding="utf-8")
    with pytest.raises(WeightsError, match="the guidance scale as an input"):
        find("x.safetensors")
