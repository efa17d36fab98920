"""Retrieval of the right prompt among others: CLIP R-precision (Park et al., "Benchmark for Compositional
Text-to-Image Synthesis", NeurIPS 2021; of objects in Jain et al., arXiv:2112.01455).
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators import ClipScorer
from splatdistill.evaluate.metrics import Measurement


def r_precision(scorer: ClipScorer, features: Float[Tensor, "v d"], prompt: str, prompts: Sequence[str]) -> Measurement:
    """Return the share of views whose nearest prompt is their own, in percent; ties count against it."""
    others = [p for p in dict.fromkeys(prompts) if p != prompt]
    if not others:
        return Measurement("r_precision", None, note="there is only one prompt; give more runs, or --candidates FILE")
    texts = scorer.text_features([prompt, *others]).to(features)
    near = features @ texts.T
    right = (near[:, 1:] < near[:, :1]).all(1)
    return Measurement("r_precision", 100 * float(right.float().mean()), note=f"among {len(others) + 1} prompts")
