"""MVDream's weights as a folder in the diffusers layout, without any code of theirs.

MVDream (Shi et al., arXiv:2308.16512) is Stable Diffusion's UNet whose self-attention sees all views of a set, and to whose time
embedding each camera's is added (multiview.py). Its file has the tensors of the original Stable Diffusion code, under their names
there, and four more, camera_embed.*; the copies on the hub in a "diffusers layout" that wants remote code have the same names
without the first part. Everything else is the Stable Diffusion that it was trained from: the text encoder up to its last
layer but one for 2.1, the autoencoder, the schedule.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.priors.layout import problems
from splatdistill.priors.multiview import NUMBERS
from splatdistill.priors.networks import expected
from splatdistill.weight_files import read_object

PREFIX = "model.diffusion_model."
LATENTS = 32  # a side: it was trained at 256 pixels
CARD = "---\nlicense: creativeml-openrail-m\n---\n\nMVDream (arXiv:2308.16512), converted.\n"


def unet_config(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the UNet, derived from that of the Stable Diffusion that it was trained from."""
    return dict(base) | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": NUMBERS, "sample_size": LATENTS}


def unet_tensors(original: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors under diffusers' names, from the original names; UserError where they are not those of this UNet."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    whole = any(name.startswith(PREFIX) for name in original)
    own = {name.removeprefix(PREFIX): v for name, v in original.items() if not whole or name.startswith(PREFIX)}
    if lacking := [f"camera_embed.{i}.{part}" for i in (0, 2) for part in ("weight", "bias") if f"camera_embed.{i}.{part}" not in own]:
        raise UserError(f"these are not MVDream's weights: there is no {lacking[0]}; expected the UNet's tensors by their original names")
    named = {PREFIX + name.replace("camera_embed.", "label_emb.0."): v for name, v in own.items()}
    try:
        converted = convert_ldm_unet_checkpoint(named, dict(config))
    except (KeyError, IndexError, AttributeError) as e:
        raise UserError(f"these are not MVDream's weights: {e} is not there") from e
    wanted = expected("unet", dict(config))
    for name in wanted.keys() | converted.keys():
        have = converted[name].shape if name in converted else None
        if name not in wanted or have != wanted[name]:
            raise UserError(f"{name} is {'nothing' if have is None else tuple(have)} there, and {tuple(wanted.get(name, ()))} in the base; expected the Stable Diffusion that these weights were trained from")
    if len(converted) != len(own):
        raise UserError(f"of {len(own)} tensors {len(own) - len(converted)} have no place in the base's UNet")
    return converted


def write_folder(weights: Path, base: Path, out: Path, azimuth: float = 0.0) -> Path:
    """Write a folder that `--prior` takes, from MVDream's file (safetensors) and a folder of the Stable Diffusion it was trained
    from.

    azimuth: degrees that are added to a camera's azimuth before the network is told; where the front is differs between
    checkpoints, and has to be seen once. UserError for anything that is not as it should be.
    """
    if faults := problems(base):
        raise UserError(f"{base} is no folder of Stable Diffusion: {faults[0]}")
    if out.exists():
        raise UserError(f"{out} is there already; choose another folder")
    try:
        original = load_file(weights)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{weights} cannot be read as safetensors ({e}); a .pt file is a pickle, which may run code, and is not read here") from e
    config = unet_config(read_object(base / "unet" / "config.json"))
    tensors = unet_tensors(original, config)
    shutil.copytree(base, out, ignore=shutil.ignore_patterns("unet", "*.md", "safety_checker"))
    (out / "unet").mkdir()
    save_file({name: v.contiguous() for name, v in tensors.items()}, out / "unet" / "diffusion_pytorch_model.safetensors")
    (out / "unet" / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    index = read_object(base / "model_index.json") | {"camera_azimuth": azimuth}
    (out / "model_index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    (out / "README.md").write_text(CARD, encoding="utf-8")
    return out


def taught(folder: Path, what: Literal["picture_prompt", "camera_guidance"]) -> bool:
    """Return True if a folder says that its network was taught this: to see a picture of the object before each set of views, or
    to do without cameras, so that guidance may amplify them.
    """
    there = folder / "model_index.json"
    return there.is_file() and read_object(there).get(what) is True


def camera_azimuth(folder: Path) -> float:
    """Return the azimuth in degrees that is added to the cameras of a folder's network; 0 where the folder has none."""
    if not (folder / "model_index.json").is_file():
        return 0.0
    said = read_object(folder / "model_index.json").get("camera_azimuth", 0.0)
    if isinstance(said, bool) or not isinstance(said, int | float) or not -360 <= said <= 360:
        raise UserError(f"{folder / 'model_index.json'} says camera_azimuth {said!r}; expected degrees")
    return float(said)
