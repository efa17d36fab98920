"""Pictures of splats that a prior is shown: their colours, or their normals as colours."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from splatdistill.render import RenderOutput

Shown = Literal["colours", "normals"]


def shown(out: RenderOutput, behind: Float[Tensor, "b 3"], what: Shown) -> Float[Tensor, "b 3 h w"]:
    """Return the picture of a rendering: its colours, or its splats' world normals n as (n + 1) / 2 before the same background, as the
    second stages of Fantasia3D (arXiv:2303.13873) and ProlificDreamer (arXiv:2305.16213) show them, there over black.
    """
    if what == "colours":
        return out.rgb
    assert out.normal is not None, "rendered with normals"
    return 0.5 * (out.normal + out.alpha) + (1 - out.alpha) * behind[:, :, None, None]
