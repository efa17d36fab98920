"""Quality, sharpness and realism of pictures by a CLIP: CLIP-IQA (Wang et al., "Exploring CLIP for Assessing the Look and
Feel of Images", arXiv:2207.12396), with the prompts of torchmetrics that SDI's tables name (arXiv:2405.15891).
"""

from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators import ClipScorer
from splatdistill.evaluate.metrics import Measurement

PAIRS = {
    "iqa_quality": ("Good photo.", "Bad photo."),
    "iqa_sharpness": ("Sharp photo.", "Blurry photo."),
    "iqa_real": ("Real photo.", "Abstract photo."),
}
NOTE = "not comparable with tables made by torchmetrics' clip_iqa, an RN50 without positional embedding"


def clip_iqa(scorer: ClipScorer, features: Float[Tensor, "v d"]) -> list[Measurement]:
    """Return softmax(100 cos) of the first prompt of each pair, in percent, mean over views."""
    measurements = []
    for metric, pair in PAIRS.items():
        logits = 100 * features @ scorer.text_features(pair).T.to(features)
        measurements.append(Measurement(metric, 100 * float(logits.softmax(1)[:, 0].mean()), note=NOTE))
    return measurements
