"""The choices among classes that a run has, and the options of `train` and `amortise`."""

from collections.abc import Callable, Mapping

from splatdistill.densify import DENSIFIERS, Densifier
from splatdistill.guidance import GUIDANCES, Guidance
from splatdistill.scene.generator import TRUNKS, Trunk
from splatdistill.scene.initial import Initial
from splatdistill.scene.initials import INITIALS
from splatdistill.settings.classes import Choice
from splatdistill.settings.layers import Layer, Parsed, Subcommand, parse
from splatdistill.settings.recipes import Family
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.config import Train

CHOICES = (
    Choice("guidance", Guidance, GUIDANCES),
    Choice("init", Initial, INITIALS),
    Choice("densify", Densifier, DENSIFIERS),
)
TRAIN = Subcommand("train", Train, CHOICES, others={"amortise": Amortise})
TAKEN = (
    "guidance", "guidance_weight", "prior_views", "cameras", "directions", "regularise", "background", "clip_rgb", "perp_neg", "camera_guidance", "negative",
)  # fmt: skip
"""Settings that a recipe for one prompt gives a training of many."""
AMORTISE = Subcommand("amortise", Amortise, (CHOICES[0], Choice("generator", Trunk, TRUNKS)), TAKEN, others={"train": Train})


def parse_train(argv: list[str], family: Callable[[str], Family | Layer | None], kinds: Mapping[str, type] = {}) -> Parsed:
    """Read the options of `train`, or of another subcommand that makes runs, as `parse` does."""
    return parse(argv, family, TRAIN, kinds)
