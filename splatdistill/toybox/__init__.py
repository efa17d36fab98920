"""The toybox: a small procedural world of captioned 3D objects whose truth is known.

Every caption of its grammar names exactly one object, so ground-truth colour, silhouette, depth and
normals exist for every prompt, from any camera. The embedded models are trained on it and the
acceptance checks compare against it. Everything is deterministic.
"""

from splatdistill.toybox.captions import Caption, parse, sample_caption, unknown_words
from splatdistill.toybox.catalogue import NAMED, build
from splatdistill.toybox.drawing import Truth
from splatdistill.toybox.palette import COLOURS
from splatdistill.toybox.primitives import PRIMITIVES
from splatdistill.toybox.split import ACCEPTANCE, HELD_OUT, is_held_out
from splatdistill.toybox.tracer import render

__all__ = [
    "ACCEPTANCE",
    "COLOURS",
    "HELD_OUT",
    "NAMED",
    "PRIMITIVES",
    "Caption",
    "Truth",
    "build",
    "is_held_out",
    "parse",
    "render",
    "sample_caption",
    "unknown_words",
]
