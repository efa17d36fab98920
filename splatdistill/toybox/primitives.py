"""The six primitives, alone or one on another."""

from splatdistill.toybox.palette import COLOURS, WHITE
from splatdistill.toybox.parts import Colour, Part, Pattern

Vector = tuple[float, float, float]
PRIMITIVES: tuple[str, ...] = ("ball", "cube", "cylinder", "cone", "donut", "capsule")
_HALF_HEIGHT = {"ball": 0.62, "cube": 0.5, "cylinder": 0.58, "cone": 0.6, "donut": 0.22, "capsule": 0.7}


def primitive(shape: str, colour: Colour, centre: Vector, k: float, pattern: Pattern, colour2: Colour) -> Part:
    """Return one primitive of scale k around `centre`."""
    paint = (colour, pattern, colour2)
    match shape:
        case "ball":
            return Part("ball", centre, (0.62 * k,), *paint)
        case "cube":
            return Part("box", centre, (0.5 * k, 0.5 * k, 0.5 * k), *paint)
        case "cylinder":
            return Part("cylinder", centre, (0.42 * k, 0.58 * k), *paint)
        case "cone":
            return Part("cone", centre, (0.55 * k, 0.6 * k, 0.0), *paint)
        case "donut":
            return Part("donut", centre, (0.5 * k, 0.22 * k), *paint)
        case _:
            return Part("capsule", centre, (0.32 * k, 0.38 * k), *paint)


def single(shape: str, colour: str, pattern: Pattern = "plain", colour2: str = "white") -> list[Part]:
    """Return a primitive on its own."""
    return [primitive(shape, COLOURS[colour], (0, 0, 0), 1.15, pattern, COLOURS[colour2])]


def stack(top: str, top_colour: str, bottom: str, bottom_colour: str) -> list[Part]:
    """Return one primitive on another, touching."""
    k = 0.68
    half_top, half_bottom = _HALF_HEIGHT[top] * k, _HALF_HEIGHT[bottom] * k
    height = half_top + half_bottom
    return [
        primitive(bottom, COLOURS[bottom_colour], (0, 0, half_bottom - height), k, "plain", WHITE),
        primitive(top, COLOURS[top_colour], (0, 0, height - half_top), k, "plain", WHITE),
    ]
