"""Families of text-to-image models that are read here: which networks a folder of each holds, in the diffusers layout."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelFamily:
    """Networks of one family, by the names of their folders."""

    name: str
    pipelines: tuple[str, ...]
    """Classes that model_index.json names; () for all of Stable Diffusion's that want nothing but a text."""
    network: str = "unet"
    classes: tuple[str, ...] = ("UNet2DConditionModel",)
    """Classes of the network that predicts."""
    encoders: tuple[str, ...] = ("text_encoder",)
    """Text encoders, each with a tokenizer of its own; all are CLIP's."""
    projected: tuple[str, ...] = ()
    """Those of them whose projection makes the pooled vector."""
    flow: bool = False
    """True where the network predicts the velocity of a rectified flow."""
    others: tuple[str, ...] = ()
    """Further networks that are read."""
    unread: tuple[str, ...] = ()
    """Networks of a folder that are left out."""

    @property
    def components(self) -> tuple[str, ...]:
        """Return the names of the folders with weights."""
        return (self.network, "vae", *self.encoders, *self.others)

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Return the names of the tokenizers' folders, in the order of the encoders."""
        return tuple(tokenizer_of(e) for e in self.encoders)


SD = ModelFamily("Stable Diffusion 1.x/2.x", ())
XL = ModelFamily(
    "Stable Diffusion XL",
    ("StableDiffusionXLPipeline",),
    encoders=("text_encoder", "text_encoder_2"),
    projected=("text_encoder_2",),
)
SD3 = ModelFamily(
    "Stable Diffusion 3",
    ("StableDiffusion3Pipeline",),
    network="transformer",
    classes=("SD3Transformer2DModel",),
    encoders=("text_encoder", "text_encoder_2"),
    projected=("text_encoder", "text_encoder_2"),
    flow=True,
    unread=("text_encoder_3",),
)
ZERO123 = ModelFamily(
    "Zero-1-to-3",
    ("Zero123Pipeline",),
    encoders=(),
    others=("image_encoder", "clip_camera_projection"),
)
NAMED = (XL, SD3, ZERO123)


def tokenizer_of(encoder: str) -> str:
    """Return the folder of a text encoder's tokenizer."""
    return encoder.replace("text_encoder", "tokenizer")


def family_of(index: dict[str, Any] | None) -> ModelFamily:
    """Return the family of a folder by its model_index.json; Stable Diffusion 1.x/2.x where it says nothing else."""
    said = (index or {}).get("_class_name")
    return next((family for family in NAMED if said in family.pipelines), SD)
