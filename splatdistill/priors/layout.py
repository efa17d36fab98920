"""The files of a Stable Diffusion folder, checked without loading anything.

The diffusers layout: model_index.json and the folders tokenizer, text_encoder, unet, scheduler and vae in SD 1.x/2.x;
families.py says what SDXL and SD 3 have beside or instead of them. Only safetensors are read, plain or in the fp16 variant, whole, sharded or shared: a pickle may run code.
What the configurations say is checked in model_configs.py, tensors against networks in networks.py.
"""

from pathlib import Path
from typing import Any

from splatdistill.priors import model_configs
from splatdistill.priors.families import ModelFamily, family_of
from splatdistill.weight_files import LARGEST, Entry, Unreadable, file_fault, read_object, regular_size, shown
from splatdistill.weight_files import tensors as component_tensors
from splatdistill.weight_files import weight_files as component_files

PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")


def stem(component: str) -> str:
    """Return the file name of a component's weights, without suffixes."""
    return "model" if component.startswith(("text_encoder", "image_encoder")) else "diffusion_pytorch_model"


def family_in(folder: Path) -> ModelFamily:
    """Return the family of a folder; Stable Diffusion 1.x/2.x where it does not say."""
    try:
        return family_of(read_object(folder / "model_index.json"))
    except Unreadable:
        return family_of(None)


def weight_files(folder: Path, component: str, variant: str | None = None) -> list[Path]:
    """Return the safetensors of one component and variant; [] when absent. Raises Unreadable."""
    return component_files(folder / component, stem(component), variant)


def half_variant(folder: Path, component: str, prefer: bool) -> str | None:
    """Return "fp16" where those files are there and preferred, or the only ones; None for the plain files."""
    half, full = weight_files(folder, component, "fp16"), weight_files(folder, component)
    return "fp16" if half and (prefer or not full) else None


def tensors(folder: Path, component: str, variant: str | None) -> dict[str, Entry]:
    """Return the headers' entries of the tensors of one component and variant. Raises Unreadable."""
    return component_tensors(folder / component, stem(component), variant)


def problems(folder: Path) -> tuple[str, ...]:
    """Return every fault of a folder's files that prevents loading, as text; empty when there is none."""
    try:
        return tuple(found_problems(folder))
    except OSError as error:
        return (f"it cannot be read ({error.strerror})",)


def found_problems(folder: Path) -> list[str]:
    """Return the faults as `problems` does; OSError where the file system refuses."""
    if folder.is_file():
        return ["a single file, where a folder in the diffusers layout is expected"]
    if not folder.is_dir():
        return ["no such folder"]
    found: list[str] = []
    index = read_json(folder / "model_index.json", found)
    if index is not None and (other := model_configs.other_pipeline(index)):
        return [f"it holds {other}"]
    if (index is None and (folder / "adapter_config.json").exists()) or (folder / "pytorch_lora_weights.safetensors").exists():
        return ["it holds a LoRA, which changes another model and is none"]
    family = family_of(index)
    configs = {"scheduler": read_json(folder / "scheduler" / "scheduler_config.json", found)}
    for component in family.components:
        config = configs[component] = read_json(folder / component / "config.json", found)
        if not (component == "vae" and config and config.get("_class_name") in model_configs.PIXELS):
            found += weight_problems(folder, component)
    for each in family.tokenizers:
        found += tokenizer_problems(folder / each)
    return found or model_configs.mismatches({k: v for k, v in configs.items() if v is not None}, family)


def configuration_problems(folder: Path) -> list[str]:
    """Return the faults of the configurations of a folder whose weights may not be there; none where one of them is missing."""
    family, lacking = family_in(folder), []
    read = {c: read_json(folder / c / ("config.json" if c != "scheduler" else "scheduler_config.json"), lacking) for c in ("scheduler", *family.components)}
    return [] if lacking else model_configs.mismatches({k: v for k, v in read.items() if v is not None}, family)


def read_json(path: Path, found: list[str], largest: int | None = None) -> dict[str, Any] | None:
    """Return the object in a JSON file; None, and a line in `found`, where there is none."""
    name = f"{path.parent.name}/{path.name}" if path.name != "model_index.json" else path.name
    try:
        return read_object(path) if largest is None else read_object(path, largest)
    except Unreadable as error:
        found.append(f"{name} {error}")
        return None


def tokenizer_problems(folder: Path) -> list[str]:
    """Return the faults of the files of a tokenizer."""
    new: list[str] = []
    vocabulary = ("vocab.json", "merges.txt")
    if not (folder / "tokenizer.json").exists():
        new += [f"{folder.name}/{n} is missing" for n in vocabulary if not (folder / n).exists()]
    for name in ("tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / name).exists() or (folder / name).is_symlink():
            value = read_json(folder / name, new, LARGEST)
            if value is not None and (fault := model_configs.tokenizer_fault(name, value)):
                new.append(f"{folder.name}/{name} {fault}")
    merges = folder / "merges.txt"
    if merges.exists():
        try:
            if regular_size(merges) > LARGEST:
                new.append(f"{folder.name}/merges.txt has {regular_size(merges):,} bytes; expected at most {LARGEST:,}")
        except Unreadable as error:
            new.append(f"{folder.name}/merges.txt {error}")
    return new


def weight_problems(folder: Path, component: str) -> list[str]:
    """Return the faults of the files of one component's weights."""
    try:
        files = weight_files(folder, component, "fp16") + weight_files(folder, component)
    except Unreadable as error:
        return [str(error)]
    if files:
        return [f"{component}/{fault}" for f in files if (fault := file_fault(folder / component, f))]
    pickles = sorted(p.name for pattern in PICKLES for p in (folder / component).glob(pattern))
    if pickles:
        return [
            f"{component}/ has only {', '.join(map(shown, pickles[:3]))}: a pickle, which may run code when it is opened and is not "
            f"read here; expected {stem(component)}.safetensors, which diffusers' save_pretrained writes"
        ]
    return [f"{component}/{stem(component)}.safetensors (or .fp16.safetensors) is missing"]
