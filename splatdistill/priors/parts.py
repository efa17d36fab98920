"""The networks of a folder, loaded: what a prior is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from splatdistill.priors import Schedule, networks
from splatdistill.priors.families import ModelFamily, tokenizer_of
from splatdistill.priors.layout import half_variant
from splatdistill.priors.patches import PatchAutoencoder, read_patches
from splatdistill.priors.precision import Precision, VaePrecision, unet_dtype
from splatdistill.priors.prediction import Prediction
from splatdistill.priors.refusal import unusable
from splatdistill.priors.schedule import FlowSchedule
from splatdistill.priors.single_file import SingleFile, networks_of
from splatdistill.weight_files import read_object


@dataclass(frozen=True)
class Parts:
    """Networks, tokenizers and schedule of one model."""

    network: Any
    """UNet or transformer."""
    vae: Any
    encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    schedule: Schedule
    prediction: Prediction
    others: tuple[Any, ...] = ()
    """Further networks, in the family's order."""
    index: dict[str, Any] = field(default_factory=dict)
    """Content of model_index.json."""

    @property
    def image_size(self) -> int:
        """Return the pixels per side that the network was trained on."""
        patches = isinstance(self.vae, PatchAutoencoder)
        factor = self.vae.patch if patches else 2 ** (len(self.vae.config.block_out_channels) - 1)
        return factor * int(self.network.config.sample_size)


def read_parts(
    folder: Path, family: ModelFamily, device: torch.device, precision: Precision, name: str, low_memory: bool = False, file: Path | None = None, vae_precision: VaePrecision = "auto"
) -> Parts:
    """Load a folder of a family that layout.problems finds nothing wrong with. Never asks the network. Raises WeightsError.

    low_memory: the text encoders stay on the CPU. file: a single file that holds the weights of all. vae_precision: bfloat16 for all of the autoencoder.
    """
    dtype = unet_dtype(precision, device)
    latents = torch.float64 if dtype == torch.float64 else torch.float32
    patches = read_patches(folder / "vae")
    of_vae = torch.bfloat16 if vae_precision == "bfloat16" else latents
    dtypes = {c: dtype if c == family.network else of_vae if c == "vae" else latents for c in family.components if not (c == "vae" and patches)}
    places = dict.fromkeys(family.encoders, torch.device("cpu")) if low_memory else {}
    if file is not None:
        whole = networks.attempt("single file", name, lambda: networks_of(SingleFile(file, folder)))
        loaded = {k: networks.finite(torch.nn.Module.to(whole[k], places.get(k, device), d), k, name) for k, d in dtypes.items()}
        return assembled(folder, family, name, loaded, patches)
    variants = {k: half_variant(folder, k, prefer=d == torch.float16) for k, d in dtypes.items()}
    if faults := networks.faults(folder, variants, family):
        raise unusable(name, faults)
    loaded = {k: networks.network(folder, k, variants[k], d, places.get(k, device), name, family) for k, d in dtypes.items()}
    return assembled(folder, family, name, loaded, patches)


def assembled(folder: Path, family: ModelFamily, name: str, loaded: dict[str, Any], patches: PatchAutoencoder | None) -> Parts:
    """Return the loaded networks of a folder with its tokenizers and schedule."""
    tokenizers = [networks.tokenizer(folder, loaded[e].config.vocab_size, name, tokenizer_of(e)) for e in family.encoders]
    schedule, prediction = read_noise(folder, family, name)
    return Parts(
        loaded[family.network],
        patches or loaded["vae"],
        tuple(loaded[e] for e in family.encoders),
        tuple(tokenizers),
        schedule,
        prediction,
        tuple(loaded[k] for k in family.others),
        read_object(folder / "model_index.json"),
    )


def read_noise(folder: Path, family: ModelFamily, name: str) -> tuple[Schedule, Prediction]:
    """Return the schedule of a folder and its network's prediction type."""
    if family.flow:
        return FlowSchedule(), "flow"
    return networks.read_schedule(folder / "scheduler" / "scheduler_config.json", name)
