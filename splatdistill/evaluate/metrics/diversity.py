"""Diversity of several results for one prompt."""

from collections.abc import Sequence
from itertools import combinations

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement


def diversity(results: Sequence[Float[Tensor, "v d"]], metric: str = "diversity") -> Measurement:
    """Return the mean over pairs of results and over views of 1 - cos between unit features of the same view."""
    if len(results) < 2:
        what = "particle" if metric == "diversity_particles" else "seed"
        return Measurement(metric, None, note=f"there is only one {what}")
    apart = [float(1 - (a * b).sum(1).mean()) for a, b in combinations(results, 2)]
    return Measurement(metric, sum(apart) / len(apart), note=f"of {len(results)} results")
