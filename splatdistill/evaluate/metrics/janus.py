"""Second fronts by a CLIP and the words for views."""

from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import with_view
from splatdistill.estimators import ClipScorer
from splatdistill.evaluate.metrics import Measurement

SECTOR = 45.0  # degrees to either side of straight ahead and straight behind


def janus(scorer: ClipScorer, features: Float[Tensor, "v d"], azimuth: Float[Tensor, " v"], prompt: str) -> Measurement:
    """Return how often a view from behind looks as much like a front as a view from the front: over all pairs of the two, the share
    in which m = cos("PROMPT, front view") - cos("PROMPT, back view") of the one behind is at least that of the other, in
    percent. Our own measure; 0 is an object with one front, 50 one whose front and back cannot be told apart. Only views of
    the same object are compared, because a CLIP may prefer one of the words throughout; it is as good as its grasp of them.
    """
    away = (azimuth + 180) % 360 - 180  # from straight ahead, in [-180, 180)
    ahead, behind = away.abs() < SECTOR, away.abs() > 180 - SECTOR
    if not ahead.any() or not behind.any():
        return Measurement("janus", None, note="there are no views from the front and from behind; take more --views")
    texts = scorer.text_features([with_view(prompt, "front"), with_view(prompt, "back")]).to(features)
    margin = features @ (texts[0] - texts[1])
    share = (margin[behind][:, None] >= margin[ahead]).float().mean()
    return Measurement(
        "janus",
        100 * float(share),
        note=f"{int(behind.sum())} views from behind against {int(ahead.sum())} from the front",
    )
