"""Frozen networks that look at pictures: shared by guidance and by evaluation.

Two protocols: how near pictures and texts are (CLIP), and what the shape in a picture is (depth, normals,
foreground). Networks come from folders, from this package or from the local hub cache, and are never downloaded.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.clip import ClipScorer
from splatdistill.estimators.geometry import Geometry, GeometryEstimator, Kind
from splatdistill.estimators.test_time_augmentation import load_judge
from splatdistill.estimators.weights import EMBEDDED_CLIPS, TINY_CLIP, TINY_GEOMETRY, WORLD_CLIP, WORLD_GEOMETRY, find, read_json

__all__ = [
    "EMBEDDED_CLIPS",
    "TINY_CLIP",
    "TINY_GEOMETRY",
    "WORLD_CLIP",
    "WORLD_GEOMETRY",
    "ClipScorer",
    "Geometry",
    "GeometryEstimator",
    "ImageTextScorer",
    "Kind",
    "load_clip",
    "load_geometry",
    "load_judge",
]


@runtime_checkable
class ImageTextScorer(Protocol):
    """Scorer of how near pictures and texts are; higher is nearer."""

    name: str  # goes beside every figure

    def similarities(self, rgb: Float[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b n"]:
        """Return the similarity of every image in [0,1] with every text."""
        ...


def load_geometry(source: str, device: torch.device | str = "cpu") -> GeometryEstimator:
    """Return the estimator of a source, which is tiny-geometry, world-geometry, a folder, or a hub id in the local cache; of which kind it is,
    its configuration says. Raises WeightsError.
    """
    from splatdistill.estimators.network import CLASS_NAME

    folder = find(source)
    if (folder / "model_index.json").is_file():
        from splatdistill.estimators.normals import MarigoldNormals

        return MarigoldNormals(folder, source, device)
    if read_json(folder / "config.json", source).get("_class_name") == CLASS_NAME:
        from splatdistill.estimators.embedded_geometry import EmbeddedGeometry

        return EmbeddedGeometry(folder, device)
    from splatdistill.estimators.depth import DepthNetwork

    return DepthNetwork(folder, source, device)


def load_clip(source: str, device: torch.device | str = "cpu") -> ClipScorer:
    """Return the CLIP of a source: tiny-clip, world-clip, a folder, or a hub id in the local cache. Raises WeightsError."""
    return ClipScorer(find(source, "clip"), device)
