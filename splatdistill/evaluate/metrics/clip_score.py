"""Nearness of pictures to their prompt, by a CLIP."""

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement


def clip_scores(features: Float[Tensor, "v d"], texts: Float[Tensor, "v d"]) -> tuple[Measurement, Measurement]:
    """Return the CLIP score, 100 cos (Hessel et al., "CLIPScore", arXiv:2104.08718, with the weight 100 of torchmetrics, as SDI's
    tables, arXiv:2405.15891), and the CLIP distance, 1 - cos (SteinDreamer's tables, arXiv:2401.00604); means over views.

    features, texts: unit vectors, each view's picture and its text.
    """
    cosine = float((features * texts).sum(1).mean())
    return Measurement("clip_score", 100 * cosine), Measurement("clip_distance", 1 - cosine)
