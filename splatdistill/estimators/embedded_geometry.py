"""The embedded estimators `tiny-geometry` and `world-geometry`, trained on the toybox by scripts/train_geometry.py."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.geometry import Geometry, Kind, geometry_of
from splatdistill.estimators.network import GeometryNet
from splatdistill.estimators.weights import attempt, called, check


class EmbeddedGeometry:
    """Estimator of inverse depth, normals and foreground of toybox pictures, clean or decoded from noisy latents, with one small
    U-Net. folder: config.json and model.safetensors, as GeometryNet writes them. Raises WeightsError.
    """

    tells: frozenset[Kind] = frozenset({"depth", "normal", "segment"})

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu"):
        folder = Path(folder)
        check(folder, str(folder))
        self.name = called(folder)
        network = attempt(str(folder), lambda: GeometryNet.from_pretrained(folder))
        self.size = network.size  # pixels a side of the pictures that it was trained on
        self.network = network.to(device).eval().requires_grad_(False)

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Geometry:
        """Return all three maps; differentiable in the pictures, whose sides are multiples of 16."""
        return geometry_of(self.network(rgb.float()))
