"""LoRA files on top of a model: low-rank changes that others trained, added to its weights when it is loaded.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4: a layer W becomes

    W + scale (alpha / rank) B A,   A of shape (rank, in), B of shape (out, rank).

Read are the names of diffusers and peft (unet.….lora_A.weight, and the older .lora.down.weight and .processor.to_q_lora.down.weight)
and kohya's (lora_unet_….lora_down.weight), for whose names diffusers has the table. Only safetensors.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from splatdistill.priors.families import ModelFamily
from splatdistill.priors.lora_files import DOWN, KOHYA, UP, fault, refusal
from splatdistill.priors.networks import attempt, plain
from splatdistill.priors.parts import Parts
from splatdistill.weight_files import shown

METADATA = "lora_adapter_metadata"
"""Key under which diffusers keeps peft's configuration, as JSON."""


@dataclass(frozen=True)
class LowRankUpdate:
    """Low-rank change of one layer: the factors of B A."""

    down: Tensor  # A, (rank, in) or of a convolution (rank, in, k, k)
    up: Tensor  # B, (out, rank) or (out, rank, 1, 1)
    factor: float  # alpha / rank

    def delta(self, like: Tensor) -> Tensor:
        """Return alpha / rank B A, in the shape and on the device of a weight."""
        up, down = (m.to(like.device, torch.promote_types(torch.float32, like.dtype)) for m in (self.up, self.down))
        return self.factor * (up.flatten(1) @ down.flatten(1)).reshape(like.shape)


def add(parts: Parts, family: ModelFamily, file: Path, scale: float) -> None:
    """Add a LoRA to the network and the text encoders that it changes. Raises WeightsError where it was made for another model."""
    if why := fault(file):
        raise refusal(file, why)
    changes = attempt(f"LoRA {file.name}", str(file), lambda: read(file, family, dict(parts.network.config)))
    encoders = dict(zip(family.encoders, parts.encoders))
    modules = {f"{c}.{n}": m for c, network in {family.network: parts.network, **encoders}.items() for n, m in layers(c, network).items()}
    strange = [name for name in changes if name not in modules]
    if strange:
        raise refusal(file, f"changes layers that the model does not have: {shown(strange[0], 100)}" + (f" and {len(strange) - 1} more" if strange[1:] else ""))
    for name, change in changes.items():
        weight = modules[name].weight
        if (change.up.shape[0], change.down.flatten(1).shape[1]) != (weight.shape[0], weight.flatten(1).shape[1]):
            raise refusal(file, f"changes {shown(name, 100)} as if it were {change.up.shape[0]} x {change.down.flatten(1).shape[1]}; the model's is {tuple(weight.shape)}")
    with torch.no_grad():
        for name, change in changes.items():
            weight: Tensor = modules[name].weight
            delta = change.delta(weight)
            if not delta.isfinite().all():
                raise refusal(file, f"holds numbers that are not finite, for {shown(name, 100)}")
            weight.copy_((weight.to(delta) + scale * delta).to(weight))


def layers(component: str, network: nn.Module) -> dict[str, Any]:
    """Return the layers that a LoRA may change, keyed by the names of the loaded network."""
    return {plain(component, n): m for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}


def read(file: Path, family: ModelFamily, config: Mapping[str, Any]) -> dict[str, LowRankUpdate]:
    """Return the changes of a file, by the name of the component and the layer. ValueError for halves without the other."""
    with safe_open(file, "pt") as stored:
        tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118
        metadata = json.loads((stored.metadata() or {}).get(METADATA, "{}"))
    alphas: dict[str, float] = {}
    if all(k.startswith(KOHYA) for k in tensors):
        tensors, alphas = from_kohya(tensors, config)
    alphas |= {k: float(v) for k, v in tensors.items() if k.endswith(".alpha")}
    down = {layer(k, DOWN, family): v for k, v in tensors.items() if DOWN.search(k)}
    up = {layer(k, UP, family): v for k, v in tensors.items() if UP.search(k)}
    if down.keys() != up.keys():
        raise ValueError(f"only one of the two matrices is there for {sorted(down.keys() ^ up.keys())[0]}")
    alpha = {layer(k.removesuffix(".alpha"), DOWN, family): v for k, v in alphas.items()}
    return {name: LowRankUpdate(a, up[name], alpha.get(name, told_alpha(name, metadata, len(a))) / len(a)) for name, a in down.items()}


def from_kohya(tensors: dict[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return kohya's tensors by diffusers' names, and the alphas; SDXL's blocks need the UNet's configuration."""
    from types import SimpleNamespace

    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin

    found: Any = StableDiffusionLoraLoaderMixin.lora_state_dict(tensors, unet_config=SimpleNamespace(**config))
    return found[0], {k: float(v) for k, v in (found[1] or {}).items()}


def layer(key: str, end: re.Pattern[str], family: ModelFamily) -> str:
    """Return the component and layer that a tensor belongs to, as one dotted name."""
    return component_layer(end.sub("", key), family)


def component_layer(name: str, family: ModelFamily) -> str:
    """Return the layer's name in the loaded network: unet.….to_out.0 for unet.….processor.to_out_lora; without a component's name
    it is the network's.
    """
    name = name.replace(".processor.", ".").removesuffix("_lora")
    component, _, rest = name.partition(".")
    if component in family.encoders:  # older names of diffusers, which its table for kohya's still gives
        rest = re.sub(r"\.self_attn\.to_(q|k|v|out)$", r".self_attn.\1_proj", rest)
        return f"{component}.{plain(component, rest)}"
    name = name if component == family.network else f"{family.network}.{name}"
    return re.sub(r"\.to_out$", ".to_out.0", name)


def told_alpha(name: str, metadata: Mapping[str, Any], rank: int) -> float:
    """Return alpha of peft's configuration; the rank where there is none, so that the factor is 1."""
    component, _, rest = name.partition(".")
    pattern = metadata.get(f"{component}.alpha_pattern") or {}
    found = next((v for k, v in pattern.items() if rest.endswith(k)), metadata.get(f"{component}.lora_alpha", rank))
    return float(found) * (rank**0.5 if metadata.get(f"{component}.use_rslora") else 1.0)
