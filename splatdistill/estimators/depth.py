"""Monocular depth with transformers' networks: DPT, the hybrid MiDaS among them (Ranftl et al., "Vision Transformers
for Dense Prediction", arXiv:2103.13413), and Depth Anything (Yang et al., arXiv:2406.09414).

Preprocessing is read from preprocessor_config.json and done in torch, so it is differentiable.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.geometry import Geometry, Kind
from splatdistill.estimators.weights import attempt, check, read_json, refusal
from splatdistill.weight_files import configuration_fault

ARCHITECTURES = ("DPTForDepthEstimation", "DepthAnythingForDepthEstimation")


@dataclass(frozen=True)
class DepthPreprocessing:
    """Preparation of a picture for the network: both sides to a multiple of `multiple`, then normalised."""

    size: tuple[int, int]  # height, width
    multiple: int
    keep_ratio: bool  # the side that needs the smaller change sets the factor of both
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, config: dict[str, Any]) -> "DepthPreprocessing":
        """Read a DPTImageProcessor's configuration; sizes are numbers in old ones and named in newer ones."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
        mean, std = config.get("image_mean", [0.5] * 3), config.get("image_std", [0.5] * 3)
        keep, multiple = bool(config.get("keep_aspect_ratio", False)), int(config.get("ensure_multiple_of", 1))
        return cls((height, width), multiple, keep, tuple(mean), tuple(std))

    def sides(self, h: int, w: int) -> tuple[int, int]:
        """Return the sides of a picture after resizing."""
        factors = self.size[0] / h, self.size[1] / w
        if self.keep_ratio:
            factors = (min(factors, key=lambda f: abs(1 - f)),) * 2
        return tuple(max(1, round(f * n / self.multiple)) * self.multiple for f, n in zip(factors, (h, w)))  # type: ignore[return-value]

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 ph pw"]:
        """Resize bicubically, antialiased as PIL does, and normalise."""
        size = self.sides(*rgb.shape[-2:])
        if size != tuple(rgb.shape[-2:]):
            rgb = F.interpolate(rgb, size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (torch.tensor(v).to(rgb)[:, None, None] for v in (self.mean, self.std))
        return (rgb - mean) / std


class DepthNetwork:
    """Estimator of relative inverse depth. folder: config.json, model.safetensors, preprocessor_config.json. Raises WeightsError."""

    tells: frozenset[Kind] = frozenset({"depth"})

    def __init__(self, folder: str | Path, name: str, device: torch.device | str = "cpu"):
        folder = Path(folder)
        config = read_json(folder / "config.json", name)
        kind = (config.get("architectures") or ["nothing named"])[0]
        if kind not in ARCHITECTURES:
            raise refusal(name, f"{folder} holds {kind}; expected {' or '.join(ARCHITECTURES)}")
        if config.get("depth_estimation_type", "relative") != "relative":
            raise refusal(name, f"{folder} tells metric depth; expected a network of relative inverse depth")
        check(folder, name)
        preparation = read_json(folder / "preprocessor_config.json", name)
        self.preparation = attempt(name, lambda: DepthPreprocessing.of(preparation))
        from transformers import AutoModelForDepthEstimation

        if fault := configuration_fault(config):
            raise refusal(name, f"{folder}/config.json {fault}")
        model: Any = attempt(
            name, lambda: AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        )
        self.name, self.model = name, model.float().to(device).eval().requires_grad_(False)

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Geometry:
        """Return inverse depth in the resolution of the pictures; differentiable in them."""
        depth = self.model(self.preparation(rgb.to(next(self.model.parameters()).dtype))).predicted_depth[:, None]
        return Geometry(F.interpolate(depth, rgb.shape[-2:], mode="bilinear", align_corners=False))
