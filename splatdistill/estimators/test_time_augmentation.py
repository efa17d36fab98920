"""Test-time augmentation of a CLIP: a picture moved, zoomed and mirrored a little, what is seen in all of them averaged.

Averaging over crops and reflections at test time is as old as AlexNet (Krizhevsky et al., ImageNet Classification with
Deep Convolutional Neural Networks, 2012, section 4.1: ten). The embedded tiny-clip needs it to be a judge: with one look
it does not know two of twelve true objects of the acceptance table from enough sides, with these it knows all.
`scripts/evaluate_tiny.py` prints both. The CLIPs of papers look once, as the papers' did.
"""

from functools import reduce
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.clip import ClipScorer
from splatdistill.estimators.weights import EMBEDDED_CLIPS, called

ZOOMS, SHIFTS = (0.92, 1.0, 1.08), (-0.06, 0.0, 0.06)  # factors; halves of a side. Within what tiny-clip was trained with
LOOKS = tuple(product(ZOOMS, SHIFTS, (False, True)))  # the last: mirrored, which changes neither an object nor its colours


class AugmentedClip(ClipScorer):
    """CLIP whose picture feature is the mean over LOOKS, normalised; its text features are unchanged."""

    def __init__(self, path: str | Path, device: torch.device | str = "cpu"):
        super().__init__(path, device)
        self.name = f"{self.name}, {len(LOOKS)} looks"

    def image_features(self, rgb: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return unit features of images in [0,1]; differentiable in the images."""
        return F.normalize(reduce(torch.add, (super(AugmentedClip, self).image_features(look(rgb, *how)) for how in LOOKS)), dim=-1)


def look(rgb: Float[Tensor, "b 3 h w"], zoom: float, shift: float, mirrored: bool) -> Float[Tensor, "b 3 h w"]:
    """Return pictures `zoom` times as large about their middle, moved to the left by `shift` halves of a side; the rims go on outwards."""
    if (zoom, shift) != (1.0, 0.0):
        how = torch.tensor([[1 / zoom, 0.0, shift], [0.0, 1 / zoom, 0.0]]).to(rgb)
        grid = F.affine_grid(how.expand(len(rgb), 2, 3), list(rgb.shape), align_corners=False)
        rgb = F.grid_sample(rgb, grid, padding_mode="border", align_corners=False)
    return rgb.flip(-1) if mirrored else rgb


def load_judge(path: str | Path, device: torch.device | str = "cpu") -> ClipScorer:
    """Return the CLIP of a folder as a judge: an embedded one with many looks, any other with one. WeightsError where there is none."""
    return (AugmentedClip if called(Path(path)) in EMBEDDED_CLIPS else ClipScorer)(path, device)
