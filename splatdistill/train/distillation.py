"""Fields that every configuration of a distillation has, into splats, into pictures, or into a generator of splats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from splatdistill import checks


@dataclass(frozen=True)
class Prompted:
    """Texts of a run of one prompt. Docstrings are the command line's help."""

    prompt: str = ""
    """Prompt, for example "a red mushroom"."""
    negative: str = ""
    """Negative prompt, to keep away from; {prompt} in it stands for the prompt itself, as each view reads it."""


@dataclass(frozen=True)
class Computed:
    """Prior, device and seed of a run. Docstrings are the command line's help."""

    prior: str = "auto"
    """auto; tiny or world (embedded: toys at 64 pixels; toys and real objects at 128, one view or four); a diffusers folder, or a hub id."""
    device: str = "auto"
    """Device to compute on: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the prior's networks; splats and pictures are always float32."""
    low_memory: bool = False
    """Spare the card's memory, for more time: pictures go through the autoencoder one at a time (so they do by themselves where they
    would not fit), few through the network at once, and the text encoder stays on the CPU.
    """
    vae_precision: Literal["auto", "bfloat16"] = "auto"
    """Precision of the autoencoder: auto is float32 (on a card beside a half-precision network its convolutions are bfloat16); bfloat16
    is all of it, with about half of the memory.
    """
    compile: bool = False
    """Compile the prior's network by torch.compile: minutes at the start, for long runs on a card."""
    max_batch: int = 64
    """Most pictures that the prior's network sees at once."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        """Raise UserError for values of another type, or a seed that torch does not take."""
        checks.types(self)
        checks.within(self, -(2**63), 2**63 - 1, "seed")
        checks.count(self, 1, 1024, "max_batch")

    def loading(self) -> dict[str, Any]:
        """Return the options of `weights.load`."""
        names = ("device", "precision", "low_memory", "vae_precision", "compile", "max_batch")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Distillation(Computed, Prompted):
    """Prompt, prior and seed of a run."""

    lora: tuple[Path, ...] = ()
    """LoRAs to add to the prior's networks, .safetensors files of diffusers, peft or kohya made for the same model; the changes add up."""
    lora_scale: tuple[float, ...] = (1.0,)
    """Factor on each LoRA, or one for all: 0 is the prior alone, 1 as it was trained."""

    def __post_init__(self) -> None:
        """Raise UserError for values of another type, a factor beyond 10, or another number of factors than of files."""
        super().__post_init__()
        checks.within(self, -10, 10, "lora_scale")
        fits = len(self.lora_scale) in (1, len(self.lora))
        checks.need(self, "lora_scale", fits, f"needs one factor for all, or one for each of the {len(self.lora)} files of --lora")

    def loading(self) -> dict[str, Any]:
        """Return the options of `weights.load`."""
        return {**super().loading(), "lora": self.lora, "lora_scale": self.lora_scale}
