"""The choices among classes that a run has, and the subcommand that trains."""

from splatdistill.densify import DENSIFIERS, Densifier
from splatdistill.guidance import GUIDANCES, Guidance
from splatdistill.scene.initial import INITIALS, Initial
from splatdistill.settings.classes import Choice
from splatdistill.settings.layers import Subcommand
from splatdistill.train.config import Train

CHOICES = (
    Choice("guidance", Guidance, GUIDANCES),
    Choice("init", Initial, INITIALS),
    Choice("densify", Densifier, DENSIFIERS),
)
TRAIN = Subcommand("train", Train, CHOICES)
