"""Distance of renders, as a distribution, from the prior's own pictures: the Fréchet distance (Heusel et al., "GANs Trained
by a Two Time-Scale Update Rule", arXiv:1706.08500) of any features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B, in float64; not below 0."""
    a, b = a.double(), b.double()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    spread = a.var(0).sum() + b.var(0).sum()
    # tr (A B)^(1/2) is the sum of the singular values of the product of any two roots, and centred data are such roots. With fewer
    # pictures than features A B is singular and scipy.linalg.sqrtm loses half of its digits or more there; singular values do not.
    roots = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(0.0, float(gap + spread - 2 * cross))


def fid(renders: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], features: str) -> Measurement:
    """Return the Fréchet distance between renders and the prior's samples, in unit features of a CLIP.

    Published FIDs are of Inception's features and do not compare with this. With fewer pictures than features it is biased
    upwards, for all methods alike where they have equally many.
    """
    if len(renders) < 2 or len(samples) < 2:
        return Measurement("fid", None, note="a distribution takes two pictures at least on either side")
    note = f"in image features of {features}, not of Inception; {len(renders)} renders against {len(samples)} samples of the prior"
    return Measurement("fid", frechet(renders, samples), note=note)
