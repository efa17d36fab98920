"""What a Stable Diffusion folder must hold, checked without loading anything.

The diffusers layout of SD 1.x/2.x: model_index.json and the folders tokenizer, text_encoder, unet, scheduler
and vae. Only safetensors are read, plain or in the fp16 variant, whole, sharded or bundled: a pickle may run code.
"""

import json
import struct
from pathlib import Path

from splatdistill.bundle import Bundled

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")


def weight_files(folder: Path, component: str, variant: str | None = None) -> list[Path]:
    """The safetensors of one component and variant that its index, or the plain name, calls for; [] when absent."""
    stem, part = WEIGHTS[component], folder / component
    middle = f".{variant}" if variant else ""
    index = part / f"{stem}.safetensors.index{middle}.json"
    if index.exists():
        return sorted({part / name for name in json.loads(index.read_text())["weight_map"].values()})
    single = part / f"{stem}{middle}.safetensors"
    bundled = None if variant else Bundled.of(part)
    return [single] if single.exists() else [bundled.file] if bundled else []


def half_variant(folder: Path, component: str, prefer: bool) -> str | None:
    """ "fp16" if that is to be read: it is there and preferred, or nothing else is; None is the plain files."""
    half, full = weight_files(folder, component, "fp16"), weight_files(folder, component)
    return "fp16" if half and (prefer or not full) else None


def problems(folder: Path) -> tuple[str, ...]:
    """Everything that keeps a folder from being loaded as SD 1.x/2.x, in words; empty when nothing does."""
    if folder.is_file():
        how = "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(DIR) of diffusers makes one"
        return (f"a single file, where a folder in the diffusers layout is expected; {how}",)
    if not folder.is_dir():
        return ("no such folder",)
    found: list[str] = []
    index = read_json(folder / "model_index.json", found)
    if index and "text_encoder_2" in index:
        return (f"a {index.get('_class_name', 'pipeline')} with two text encoders; expected the one of SD 1.x/2.x",)
    read_json(folder / "scheduler" / "scheduler_config.json", found)
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer.json").exists():
        found += [f"tokenizer/{n} is missing" for n in ("vocab.json", "merges.txt") if not (tokenizer / n).exists()]
    for component in WEIGHTS:
        config = read_json(folder / component / "config.json", found)
        if not (component == "vae" and config and config.get("_class_name") == "PatchAutoencoder"):
            found += weight_problems(folder, component)
    return tuple(found or mismatches(folder))


def read_json(path: Path, found: list[str]) -> dict | None:
    """The object in a JSON file; None, and a line in `found`, where there is none."""
    name = f"{path.parent.name}/{path.name}" if path.name != "model_index.json" else path.name
    if not path.exists():
        found.append(f"{name} is missing")
        return None
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        found.append(f"{name} is not JSON ({error})")
        return None
    if not isinstance(value, dict):
        found.append(f"{name} is not a JSON object")
        return None
    return value


def weight_problems(folder: Path, component: str) -> list[str]:
    """What is wrong with the files of one component's weights."""
    files = weight_files(folder, component, "fp16") + weight_files(folder, component)
    if files:
        bundled = Bundled.of(folder / component)
        if bundled and files == [bundled.file] and not bundled.file.exists():
            return [f"{component}/weights.json points to {bundled.file}, which is missing"]
        return [f"{component}/{f.name} {fault}" for f in files if (fault := safetensors_fault(f))]
    pickles = sorted(p.name for pattern in PICKLES for p in (folder / component).glob(pattern))
    if pickles:
        return [
            f"{component}/ has only {', '.join(pickles)}: a pickle, which may run code when it is opened and is not "
            f"read here; expected {WEIGHTS[component]}.safetensors, which diffusers' save_pretrained writes"
        ]
    return [f"{component}/{WEIGHTS[component]}.safetensors (or .fp16.safetensors) is missing"]


def safetensors_fault(path: Path) -> str:
    """What keeps a file from being whole safetensors, from its header and length alone; "" when nothing does."""
    if not path.exists():
        return "is named in the index and missing"
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"version "):
            return "is a git-lfs pointer and not the weights; `git lfs pull` fetches them"
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            return f"is cut short ({size} bytes) or no safetensors file"
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return "is no safetensors file"
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"has {size} bytes where its header says {expected}: an unfinished download?"


def mismatches(folder: Path) -> list[str]:
    """Components that are there, but are not those of SD 1.x/2.x or do not fit each other."""
    unet, vae, text, scheduler = (
        json.loads((folder / name).read_text())
        for name in (
            "unet/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "scheduler/scheduler_config.json",
        )
    )
    found = []
    for component, config, known in (
        ("unet", unet, ("UNet2DConditionModel",)),
        ("vae", vae, ("AutoencoderKL", "PatchAutoencoder")),
    ):
        if config.get("_class_name") not in known:
            found.append(f"{component}/config.json says {config.get('_class_name')}; expected {' or '.join(known)}")
    if found:
        return found
    channels = 3 * vae["patch"] ** 2 if vae["_class_name"] == "PatchAutoencoder" else vae.get("latent_channels", 4)
    if unet.get("in_channels", 4) != channels:
        found.append(
            f"the UNet reads {unet.get('in_channels', 4)} channels and the VAE makes {channels}: "
            "an inpainting, depth or upscaling model? Expected a plain text-to-image model"
        )
    reads, writes = unet.get("cross_attention_dim"), text.get("hidden_size", 512)
    if reads != writes:
        found.append(f"the UNet reads text of width {reads} and the text encoder makes {writes}")
    if scheduler.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        found.append(f"it predicts {scheduler['prediction_type']!r}; expected epsilon or v_prediction")
    return found
