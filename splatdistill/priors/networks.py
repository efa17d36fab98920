"""The networks of a Stable Diffusion folder: compared with the headers of their files, then loaded.

A folder comes here after layout.problems has found nothing. Whatever a library then raises over it is a fault of the
folder, and a WeightsError.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from splatdistill.errors import UserError, WeightsError
from splatdistill.priors.camera_projection import CameraProjection
from splatdistill.priors.families import SD, ModelFamily
from splatdistill.priors.layout import tensors, weight_files
from splatdistill.priors.prediction import Prediction
from splatdistill.priors.refusal import unusable
from splatdistill.priors.schedule import TableSchedule
from splatdistill.weight_files import Entry, SharedWeights, Unreadable, first_line, read_object, tensor_faults

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

T = TypeVar("T")

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in the attention of autoencoders from before diffusers 0.13, which it still reads."""
POSITIONS, PROJECTION = "position_ids", "text_projection.weight"
"""Tensors of text encoders that files may hold without need; the second only where no projection is wanted."""
LARGEST = 6_000_000_000
"""Parameters of the largest network that is loaded; SD has 0.87 billion, SDXL's UNet 2.6."""


def class_of(component: str, family: ModelFamily) -> Any:
    """Return the class of a component in diffusers or transformers."""
    if component in family.encoders:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        return CLIPTextModelWithProjection if component in family.projected else CLIPTextModel
    if component == "image_encoder":
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection
    if component == "clip_camera_projection":
        return CameraProjection
    if component == "vae":
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        return AutoencoderKL
    if component == "transformer":
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

        return SD3Transformer2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel


def expected(component: str, config: dict[str, Any], family: ModelFamily = SD) -> dict[str, torch.Size]:
    """Return the names and shapes of the tensors that a configuration describes, from a network on the meta device.

    Raises Unreadable for a configuration that describes no network.
    """
    from transformers import CLIPTextConfig, CLIPVisionConfig

    try:
        kind = class_of(component, family)
        with torch.device("meta"):
            if component in family.encoders:
                network = kind(CLIPTextConfig(**config))
            elif component == "image_encoder":
                network = kind(CLIPVisionConfig(**config))
            else:
                known = inspect.signature(kind.__init__).parameters
                network = kind(**{k: v for k, v in config.items() if k in known})
    except Exception as error:  # whatever a library raises over a configuration is a fault of the configuration
        raise Unreadable(f"describes no network ({first_line(error)})") from error
    count = sum(p.numel() for p in network.parameters())
    if count > LARGEST:
        raise Unreadable(f"describes a network of {count:.2g} parameters; Stable Diffusion has 0.87 billion, XL 2.6, 3 medium 2.0")
    return {plain(component, k): v.shape for k, v in network.state_dict().items()}


def plain(component: str, name: str) -> str:
    """Return the loaded network's name of a tensor; for a text encoder without the prefix that only files have."""
    if component.startswith("text_encoder"):
        return name.removeprefix("text_model.")
    if component == "image_encoder":
        return name.removeprefix("vision_model.")
    if component == "vae" and ".attentions." in name:
        parts = name.split(".")
        return ".".join([*parts[:-2], OLD_ATTENTION.get(parts[-2], parts[-2]), parts[-1]])
    return name


def faults(folder: Path, variants: Mapping[str, str | None], family: ModelFamily = SD) -> list[str]:
    """Return the places where the tensors in the files are not those of the networks that the configurations describe.

    variants: the files to be read, of every component that has some.
    """
    lines = []
    for component, variant in variants.items():
        try:
            found: dict[str, Entry] = {plain(component, k): v for k, v in tensors(folder, component, variant).items()}
            wanted = expected(component, read_object(folder / component / "config.json"), family)
        except Unreadable as error:
            lines.append(f"{component}/config.json {error}")
            continue
        lines += [f"{component}/ {fault}" for fault in tensor_faults(wanted, found, optional(component, family))]
    return lines


def optional(component: str, family: ModelFamily) -> tuple[str, ...]:
    """Return the ends of the names of tensors that a component's files may hold and that are not needed."""
    if component == "image_encoder":
        return (POSITIONS,)
    if component not in family.encoders:
        return ()
    return (POSITIONS,) if component in family.projected else (POSITIONS, PROJECTION)


def attempt(what: str, name: str, load: Callable[[], T]) -> T:
    """Load a part of the weights `name`; WeightsError where it cannot be."""
    try:
        return load()
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise broken(what, name, error) from error
    except BaseException as error:  # what a library in Rust raises over a broken file is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise broken(what, name, error) from error


def broken(what: str, name: str, error: BaseException) -> WeightsError:
    """Return the error for a part that could not be loaded, with the first line of its cause."""
    return unusable(name, (f"its {what} cannot be loaded ({first_line(error)})",))


def network(
    folder: Path, component: str, variant: str | None, dtype: torch.dtype, device: torch.device, name: str, family: ModelFamily = SD
) -> Any:
    """Return one network of a folder in `dtype`, on `device`. Raises WeightsError, for non-finite weights too."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging

    for library in (logging, diffusers_logging):
        library.disable_progress_bar()  # a bar for every component hides what the run has to say
    kind = class_of(component, family)

    def load() -> nn.Module:
        shared = SharedWeights.of(folder / component)
        if shared and weight_files(folder, component, variant) == [shared.file]:
            # torch's own: diffusers' warns of casting, though nothing here is to stay float32
            return nn.Module.to(with_shared(kind, folder / component, shared), device, dtype)
        local = {"local_files_only": True, "use_safetensors": True, "variant": variant}
        return kind.from_pretrained(folder / component, dtype=dtype, **local).to(device)

    return finite(attempt(component.replace("_", " "), name, load), component, name)


def finite(loaded: Any, component: str, name: str) -> Any:
    """Return a network whose weights are all finite; WeightsError for another."""
    bad = [k for k, v in loaded.state_dict().items() if not v.isfinite().all()]
    if bad:
        raise unusable(name, (f"{component}/ holds numbers that are not finite in {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else ""),))
    return loaded


def with_shared(kind: Any, folder: Path, shared: SharedWeights) -> nn.Module:
    """Return a component whose tensors are in a file that it shares with others."""
    from transformers import CLIPTextConfig, CLIPTextModel

    if kind is CLIPTextModel:  # transformers knows the names that its older versions gave to tensors
        config = CLIPTextConfig.from_pretrained(folder, local_files_only=True)
        return kind.from_pretrained(None, config=config, state_dict=shared.tensors())
    model = kind.from_config(kind.load_config(folder, local_files_only=True))
    model.load_state_dict(shared.tensors())
    return model


def tokenizer(folder: Path, vocabulary: int, name: str, which: str = "tokenizer") -> "CLIPTokenizer":
    """Return the tokenizer of a model's folder, after a trial on a word. Raises WeightsError, for token ids beyond the text encoder's
    `vocabulary` too.
    """
    from transformers import CLIPTokenizer

    def load() -> CLIPTokenizer:
        found = CLIPTokenizer.from_pretrained(folder / which, local_files_only=True)
        found("a ball, front view", padding="max_length", max_length=8, truncation=True)
        return found

    found = attempt(which.replace("_", " "), name, load)
    largest = max((*found.get_vocab().values(), *found.all_special_ids))
    if largest >= vocabulary:
        raise unusable(name, (f"its {which} has a token of number {largest} and its text encoder {vocabulary} tokens",))
    return found


def read_schedule(config_file: Path, name: str = "") -> tuple[TableSchedule, Prediction]:
    """Return the training schedule and the network's prediction type, from a scheduler_config.json of any diffusers scheduler.

    Files from before prediction_type existed mean epsilon. Raises WeightsError for a table that does not fall within
    0 and 1.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    config = attempt("schedule", name, lambda: read_object(config_file, largest=4 * 2**20))
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    given = {n: config[n] for n in names if config.get(n) is not None}
    table = attempt("schedule", name, lambda: DDPMScheduler(**given).alphas_cumprod)
    if not (table.isfinite().all() and (table >= 0).all() and (table < 1).all() and (table.diff() <= 0).all()):
        raise unusable(name, ("its noise schedule does not fall from 1 to 0",))
    return TableSchedule(table), config.get("prediction_type", "epsilon")
