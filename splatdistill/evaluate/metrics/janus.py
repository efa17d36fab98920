"""Whether there is a second front, by a CLIP and the words for views."""

from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import with_view
from splatdistill.estimators import ClipScorer
from splatdistill.evaluate.metrics import Figure

BEHIND = 45.0  # degrees to either side of straight behind


def janus(scorer: ClipScorer, features: Float[Tensor, "v d"], azimuth: Float[Tensor, " v"], prompt: str) -> Figure:
    """Share of the views from behind that are nearer to "PROMPT, front view" than to "PROMPT, back view", in percent. Our
    own measure; 0 is an object whose back looks like one. It is as good as the CLIP's grasp of these words.
    """
    away = (azimuth - 180 + 180) % 360 - 180  # from straight behind, in [-180, 180)
    behind = features[away.abs() < BEHIND]
    if not len(behind):
        return Figure("janus", None, note="no view is from behind; take more --views")
    texts = scorer.text_features([with_view(prompt, "front"), with_view(prompt, "back")]).to(features)
    front, back = (behind @ texts.T).unbind(1)
    return Figure("janus", 100 * float((front >= back).float().mean()), note=f"of {len(behind)} views from behind")
