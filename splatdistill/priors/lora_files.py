"""Files of LoRA, judged by their headers alone."""

import re
from collections.abc import Sequence
from pathlib import Path

from splatdistill.errors import WeightsError
from splatdistill.weight_files import Unreadable, read_header, shown

KOHYA = "lora_"
OTHERS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "lora_mid": "a Tucker decomposition",
    "dora_scale": "a DoRA",
    "lora_magnitude": "a DoRA",
    ".diff": "whole differences of weights",
}
"""Parts of the names of tensors in files of other kinds than LoRA."""
DOWN = re.compile(r"(\.lora_A(\.default)?|\.lora\.down|\.lora_linear_layer\.down|_lora\.down|\.lora_down)\.weight$")
UP = re.compile(r"(\.lora_B(\.default)?|\.lora\.up|\.lora_linear_layer\.up|_lora\.up|\.lora_up)\.weight$")


def fault(file: Path) -> str:
    """Return the reason why a file is no LoRA that is read here, in words that follow its name; "" for one that may be. Reads its header."""
    if file.suffix.lower() != ".safetensors":
        return f"is a {file.suffix or 'file without a suffix'}, which may run code when it is opened, or is none; only .safetensors is read"
    try:
        names = list(read_header(file))
    except Unreadable as error:
        return str(error)
    for part, kind in OTHERS.items():
        if any(part in name for name in names):
            return f"holds {kind}, which is not read; expected a LoRA, of matrices up and down"
    if not any(DOWN.search(name) for name in names):
        return f"holds no LoRA: expected tensors that end in lora_A.weight or lora_down.weight, got {shown(next(iter(names), ''))}"
    return ""


def with_scales(files: Path | Sequence[Path] | None, scales: float | Sequence[float]) -> list[tuple[Path, float]]:
    """Return each file with its factor, which may be one for all. ValueError where there is another number of factors."""
    some = [] if files is None else [files] if isinstance(files, Path) else list(files)
    factors = [scales] if isinstance(scales, int | float) else list(scales)
    return list(zip(some, factors * len(some) if len(factors) == 1 else factors, strict=True))


def refusal(file: Path, why: str) -> WeightsError:
    """Return an error of two lines: the file with its fault, and the accepted formats."""
    return WeightsError(f"The LoRA {file} cannot be used: it {why}.\nExpected a .safetensors file of diffusers, peft or kohya, made for the model in --prior; or leave --lora out.")
