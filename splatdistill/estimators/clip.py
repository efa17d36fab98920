"""Image-text similarity with any CLIP in transformers' folder layout (Radford et al., arXiv:2103.00020).

The embedded `tiny-clip` and OpenAI's models go through the same code and differ only in their folders:
preprocessing is read from the folder's file of it and done in torch, so it is differentiable. A
scorer's `name` belongs beside every figure that it gives; scores of different models do not compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import WeightsError
from splatdistill.estimators.weights import attempt, called, check, read_json, refusal
from splatdistill.weight_files import (
    POINTER,
    SharedWeights,
    configuration_fault,
    shown,
    tensor_faults,
    tensors,
)

if TYPE_CHECKING:
    from transformers import CLIPModel

NEEDED: tuple[tuple[str, ...], ...] = (  # of each row, one
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", POINTER),
    ("preprocessor_config.json", "processor_config.json"),  # of an image processor, and of one with its tokenizer since transformers 5
    ("vocab.json", "tokenizer.json"),
)
MOST_LAYERS = 64  # CLIP ViT-bigG has 48


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of a picture for the network: resize, crop to the middle, normalise."""

    shortest: int | None  # pixels that the shorter side is resized to; None: both sides to `crop`
    crop: tuple[int, int]  # height, width
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path) -> "Preprocessing":
        """Read a CLIPImageProcessor's file, or what a CLIPProcessor's says of it; sizes are numbers in old ones and named in newer ones."""
        alone, whole = (folder / name for name in NEEDED[2])
        config = read_json(alone, str(folder), "clip") if alone.is_file() else read_json(whole, str(folder), "clip")["image_processor"]
        size, crop = config["size"], config.get("crop_size", config["size"])
        shortest = size if isinstance(size, int) else size.get("shortest_edge")
        crop = (crop, crop) if isinstance(crop, int) else (crop.get("height", shortest), crop.get("width", shortest))
        return cls(shortest, crop, tuple(config["image_mean"]), tuple(config["image_std"]))

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 ch cw"]:
        """Return images in [0,1] of any size (b,3,h,w) as the network's input; differentiable."""
        h, w = rgb.shape[-2:]
        size = (int(self.shortest * h / min(h, w)), int(self.shortest * w / min(h, w))) if self.shortest else self.crop
        if size != (h, w):  # antialiased bicubic is what PIL does; overshoots end at black and white there too
            rgb = F.interpolate(rgb, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (size[0] - self.crop[0]) // 2, (size[1] - self.crop[1]) // 2
        rgb = rgb[..., top : top + self.crop[0], left : left + self.crop[1]]
        mean, std = (torch.tensor(v).to(rgb)[:, None, None] for v in (self.mean, self.std))
        return (rgb - mean) / std


def load(folder: Path) -> "CLIPModel":
    """Return the network of a folder, whose weights may be shared with others'. Raises WeightsError."""
    from transformers import CLIPConfig, CLIPModel  # seconds, which nothing that only names a CLIP should take
    from transformers.utils import logging

    logging.disable_progress_bar()  # which would stand between a command's own lines
    compare(folder)
    shared = SharedWeights.of(folder)
    if shared is None or (folder / "model.safetensors").is_file():
        return CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    config = CLIPConfig.from_pretrained(folder, local_files_only=True)
    return CLIPModel.from_pretrained(None, config=config, state_dict=shared.tensors())


def compare(folder: Path) -> None:
    """Raise WeightsError where a folder's tensors are not those of the CLIP that its configuration describes."""
    source = str(folder)
    config = read_json(folder / "config.json", source, "clip")
    parts = [config, *(p for k in ("text_config", "vision_config") if isinstance(p := config.get(k), dict))]
    fault = next((f for p in parts if (f := configuration_fault(p))), "")
    layers = [p.get("num_hidden_layers", 12) for p in parts[1:]]
    if not fault and any(type(n) is not int or not 1 <= n <= MOST_LAYERS for n in layers):
        fault = f"says num_hidden_layers {shown(layers)}; expected at most {MOST_LAYERS}"
    if fault:
        raise refusal(source, f"{folder}/config.json {fault}", "clip")
    check(folder, source, role="clip")
    from transformers import CLIPConfig, CLIPModel

    try:
        with torch.device("meta"):
            expected = {k: v.shape for k, v in CLIPModel(CLIPConfig(**config)).state_dict().items()}
    except Exception as error:  # whatever a library raises over a configuration is a fault of the configuration
        raise refusal(source, f"{folder}/config.json describes no CLIP ({type(error).__name__})", "clip") from error
    if faults := tensor_faults(expected, tensors(folder, "model"), ("position_ids",)):
        raise refusal(source, f"{folder} {'; '.join(faults)}", "clip")


class ClipScorer:
    """Frozen CLIP: unit features of images and texts, and their cosines.

    path: a local folder with the files of `NEEDED`; nothing is downloaded. `name` is what it is `called`. Raises
    WeightsError when files are missing.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        folder = Path(path)
        missing = [" or ".join(names) for names in NEEDED if not any((folder / n).is_file() for n in names)]
        if missing:
            raise WeightsError(
                f"no CLIP in {folder}: it lacks {', '.join(missing)}. Give a folder as CLIPModel.save_pretrained and "
                "CLIPProcessor.save_pretrained write it."
            )
        self.name = called(folder)
        self.device = torch.device(device)
        source = str(folder)
        self.preprocessing = attempt(source, lambda: Preprocessing.read(folder), "clip")
        self.model: Any = attempt(source, lambda: load(folder), "clip")
        self.model = self.model.float().to(self.device).eval().requires_grad_(False)
        from transformers import CLIPTokenizer

        self.tokenizer: Any = attempt(source, lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True), "clip")
        self._length = int(self.model.config.text_config.max_position_embeddings)
        self._texts: dict[str, Tensor] = {}

    @property
    def logit_scale(self) -> float:
        """Return the factor on cosines that the model was trained with; its softmax over texts is a probability."""
        return self.model.logit_scale.exp().item()

    def image_features(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return unit features of images in [0,1]; differentiable in the images."""
        features = self.model.get_image_features(pixel_values=self.preprocessing(rgb.to(self.device).float()))
        features = getattr(features, "pooler_output", features)  # transformers 5 wraps them, 4 does not
        return F.normalize(features, dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Return unit features of texts, each computed once; longer ones are cut at the model's length."""
        new = [t for t in dict.fromkeys(texts) if t not in self._texts]
        if new:
            ids = self.tokenizer(
                new, padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
            ).input_ids
            features = self.model.get_text_features(input_ids=ids.to(self.device))
            features = F.normalize(getattr(features, "pooler_output", features), dim=-1)
            self._texts |= dict(zip(new, features, strict=True))
        return torch.stack([self._texts[t] for t in texts])

    def similarities(self, rgb: Float[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b n"]:
        """Return the cosine of every image with every text; differentiable in the images."""
        return self.image_features(rgb) @ self.text_features(texts).T
