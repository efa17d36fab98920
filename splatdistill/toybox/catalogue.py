"""Objects of the toybox besides primitives: 18 named objects in 12 colours.

Objects stand upright (z up), look along +x, are centred and stay within 1.1 of the origin. An object's
right side in its front view is +y.
"""

from collections.abc import Callable

from splatdistill.toybox.palette import BLACK, COLOURS, GRAY, besides
from splatdistill.toybox.parts import Colour, Part
from splatdistill.toybox.primitives import PRIMITIVES


def _eyes(x: float, y: float, z: float, r: float, colour: Colour) -> list[Part]:
    return [Part("ball", (x, s * y, z), (r,), colour) for s in (-1, 1)]


# -- named objects: a colour's name gives the parts ------------------------------------------------


def _snowman(n: str) -> list[Part]:
    c, coal = COLOURS[n], besides(n, "black", "white")
    return [
        Part("ball", (0, 0, -0.48), (0.43,), c),
        Part("ball", (0, 0, 0.09), (0.32,), c),
        Part("ball", (0, 0, 0.52), (0.24,), c),
        Part("cone", (0.33, 0, 0.50), (0.075, 0.15, 0.0), besides(n, "orange", "red"), axis="x"),
        *_eyes(0.2, 0.09, 0.60, 0.045, coal),
        *[Part("ball", (0.31, 0, z), (0.045,), coal) for z in (0.02, 0.18)],
        Part("cylinder", (0, 0, 0.72), (0.27, 0.025), coal),
        Part("cylinder", (0, 0, 0.82), (0.17, 0.12), coal),
    ]


def _mushroom(n: str) -> list[Part]:
    return [
        Part("cone", (0, 0, -0.40), (0.24, 0.40, 0.17), besides(n, "white", "brown")),
        Part("ellipsoid", (0, 0, 0.10), (0.70, 0.70, 0.42), COLOURS[n], "spotted", besides(n, "white", "red")),
    ]


def _mug(n: str) -> list[Part]:
    c = COLOURS[n]
    return [
        Part("cylinder", (0, -0.12, 0), (0.46, 0.56), c),
        Part("donut", (0, 0.42, 0), (0.27, 0.075), c, axis="x"),
        Part("cylinder", (0, -0.12, 0.55), (0.38, 0.02), (0.35 * c[0], 0.35 * c[1], 0.35 * c[2])),
        Part("ellipsoid", (0.44, -0.12, 0), (0.05, 0.19, 0.19), besides(n, "white", "red")),
    ]


def _tree(n: str) -> list[Part]:
    c = COLOURS[n]
    return [
        Part("cylinder", (0, 0, -0.64), (0.12, 0.26), besides(n, "brown", "black")),
        Part("cone", (0, 0, -0.14), (0.60, 0.30, 0.05), c),
        Part("cone", (0, 0, 0.26), (0.47, 0.28, 0.05), c),
        Part("cone", (0, 0, 0.64), (0.33, 0.26, 0.0), c),
    ]


def _chair(n: str) -> list[Part]:
    c = COLOURS[n]
    legs = [Part("box", (x * 0.36, y * 0.36, -0.45), (0.065, 0.065, 0.37), c) for x in (-1, 1) for y in (-1, 1)]
    return [Part("box", (0, 0, -0.08), (0.45, 0.45, 0.07), c), Part("box", (-0.38, 0, 0.38), (0.07, 0.45, 0.44), c), *legs]


def _house(n: str) -> list[Part]:
    c, roof = COLOURS[n], besides(n, "red", "gray")
    windows = [Part("box", (0.46, s * 0.29, -0.10), (0.05, 0.11, 0.12), besides(n, "cyan", "yellow")) for s in (-1, 1)]
    return [
        Part("box", (0, 0, -0.25), (0.48, 0.56, 0.42), c),
        Part("prism", (0, 0, 0.40), (0.64, 0.26, 0.62), roof, axis="y"),
        Part("box", (0.46, 0, -0.43), (0.05, 0.13, 0.24), besides(n, "brown", "white")),
        *windows,
        Part("box", (-0.2, 0.3, 0.52), (0.08, 0.08, 0.18), besides(n, "brown", "black")),
    ]


def _duck(n: str) -> list[Part]:
    c = COLOURS[n]
    return [
        Part("ellipsoid", (-0.08, 0, -0.25), (0.62, 0.44, 0.38), c),
        Part("ball", (0.30, 0, 0.32), (0.31,), c),
        Part("ellipsoid", (0.64, 0, 0.27), (0.19, 0.16, 0.065), besides(n, "orange", "yellow")),
        Part("ellipsoid", (-0.66, 0, -0.02), (0.2, 0.17, 0.13), c),
        *_eyes(0.50, 0.17, 0.43, 0.06, besides(n, "black", "white")),
    ]


def _car(n: str) -> list[Part]:
    c = COLOURS[n]
    lights = [Part("ball", (0.80, s * 0.26, -0.12), (0.085,), besides(n, "yellow", "white")) for s in (-1, 1)]
    lights += [Part("box", (-0.80, s * 0.28, -0.12), (0.03, 0.09, 0.06), besides(n, "red", "white")) for s in (-1, 1)]
    wheels = [Part("cylinder", (x * 0.45, y * 0.40, -0.36), (0.19, 0.07), besides(n, "black", "gray"), axis="y") for x in (-1, 1) for y in (-1, 1)]
    return [
        Part("box", (0, 0, -0.16), (0.80, 0.42, 0.19), c),
        Part("box", (-0.12, 0, 0.14), (0.42, 0.36, 0.17), besides(n, "cyan", "gray")),
        Part("box", (-0.12, 0, 0.33), (0.44, 0.38, 0.05), c),
        *lights,
        *wheels,
    ]


def _rocket(n: str) -> list[Part]:
    c, trim = COLOURS[n], besides(n, "red", "white")
    return [
        Part("cylinder", (0, 0, -0.10), (0.28, 0.50), c),
        Part("cone", (0, 0, 0.66), (0.28, 0.26, 0.0), trim),
        Part("box", (0, 0, -0.52), (0.045, 0.55, 0.20), trim),
        Part("box", (-0.28, 0, -0.52), (0.27, 0.045, 0.20), trim),
        Part("ball", (0.22, 0, 0.18), (0.13,), besides(n, "cyan", "yellow")),
        Part("cone", (0, 0, -0.70), (0.22, 0.10, 0.15), BLACK if n != "black" else GRAY),
    ]


def _robot(n: str) -> list[Part]:
    c, limb = COLOURS[n], besides(n, "gray", "white")
    return [
        Part("box", (0, 0, -0.12), (0.30, 0.40, 0.34), c),
        Part("box", (0, 0, 0.46), (0.25, 0.29, 0.20), c),
        *_eyes(0.25, 0.12, 0.50, 0.075, besides(n, "yellow", "white")),
        Part("box", (0.25, 0, 0.34), (0.03, 0.15, 0.03), besides(n, "black", "white")),
        Part("box", (0.30, 0, -0.10), (0.03, 0.20, 0.13), besides(n, "white", "black")),
        *[Part("capsule", (0, s * 0.51, -0.12), (0.09, 0.24), limb) for s in (-1, 1)],
        *[Part("cylinder", (0, s * 0.19, -0.64), (0.11, 0.22), limb) for s in (-1, 1)],
        Part("cylinder", (0, 0, 0.74), (0.03, 0.10), limb),
        Part("ball", (0, 0, 0.85), (0.07,), besides(n, "red", "white")),
    ]


def _teapot(n: str) -> list[Part]:
    c = COLOURS[n]
    spout = [Part("ball", (0, 0.50 + 0.10 * i, -0.16 + 0.13 * i), (0.14 - 0.015 * i,), c) for i in range(4)]
    return [
        Part("ellipsoid", (0, 0, -0.12), (0.56, 0.56, 0.46), c),
        Part("donut", (0, -0.58, -0.06), (0.25, 0.07), c, axis="x"),
        *spout,
        Part("cylinder", (0, 0, 0.32), (0.30, 0.05), c),
        Part("ball", (0, 0, 0.43), (0.11,), besides(n, "black", "white")),
    ]


def _fish(n: str) -> list[Part]:
    c, fin = COLOURS[n], besides(n, "orange", "white")
    return [
        Part("ellipsoid", (0.10, 0, 0), (0.66, 0.28, 0.42), c),
        Part("ellipsoid", (-0.68, 0, 0.20), (0.22, 0.06, 0.20), fin),
        Part("ellipsoid", (-0.68, 0, -0.20), (0.22, 0.06, 0.20), fin),
        Part("ellipsoid", (0.0, 0, 0.44), (0.28, 0.05, 0.18), fin),
        *_eyes(0.54, 0.18, 0.13, 0.10, besides(n, "white", "yellow")),
        *_eyes(0.60, 0.22, 0.14, 0.06, BLACK),
    ]


def _cat(n: str) -> list[Part]:
    c = COLOURS[n]
    ears = [Part("cone", (0.16, s * 0.20, 0.70), (0.13, 0.15, 0.0), c) for s in (-1, 1)]
    paws = [Part("capsule", (0.28, s * 0.17, -0.52), (0.11, 0.22), c) for s in (-1, 1)]
    return [
        Part("ellipsoid", (-0.08, 0, -0.32), (0.40, 0.38, 0.48), c),
        Part("ball", (0.16, 0, 0.34), (0.35,), c),
        *ears,
        *paws,
        *_eyes(0.44, 0.14, 0.42, 0.075, besides(n, "green", "white")),
        Part("ball", (0.51, 0, 0.30), (0.055,), besides(n, "pink", "black")),
        Part("capsule", (-0.52, 0, -0.20), (0.08, 0.38), c),
    ]


def _television(n: str) -> list[Part]:
    c = COLOURS[n]
    return [
        Part("box", (0, 0, 0.0), (0.26, 0.72, 0.46), c),
        Part("box", (0.25, -0.10, 0.0), (0.04, 0.50, 0.36), besides(n, "cyan", "white")),
        *[Part("ball", (0.27, 0.56, z), (0.07,), besides(n, "black", "white")) for z in (-0.12, 0.15)],
        *[Part("cylinder", (0, s * 0.45, -0.60), (0.06, 0.16), besides(n, "brown", "black")) for s in (-1, 1)],
        *[Part("cylinder", (-0.05, s * 0.16, 0.62), (0.025, 0.20), besides(n, "black", "gray")) for s in (-1, 1)],
    ]


def _sofa(n: str) -> list[Part]:
    c, cushion = COLOURS[n], besides(n, "white", "gray")
    return [
        Part("box", (0, 0, -0.26), (0.42, 0.80, 0.16), c),
        Part("box", (-0.34, 0, 0.12), (0.12, 0.80, 0.36), c),
        *[Part("box", (0.02, s * 0.70, -0.02), (0.42, 0.12, 0.20), c) for s in (-1, 1)],
        *[Part("box", (0.08, s * 0.29, -0.08), (0.34, 0.27, 0.07), cushion) for s in (-1, 1)],
        *[Part("box", (x * 0.34, y * 0.66, -0.48), (0.05, 0.05, 0.08), besides(n, "brown", "black")) for x in (-1, 1) for y in (-1, 1)],
    ]


def _airplane(n: str) -> list[Part]:
    c, trim = COLOURS[n], besides(n, "red", "white")
    return [
        Part("capsule", (0, 0, 0), (0.21, 0.62), c, axis="x"),
        Part("box", (0.06, 0, -0.02), (0.20, 0.90, 0.045), c),
        Part("box", (-0.66, 0, 0.06), (0.12, 0.36, 0.035), trim),
        Part("box", (-0.68, 0, 0.28), (0.13, 0.035, 0.24), trim),
        Part("ellipsoid", (0.48, 0, 0.15), (0.20, 0.15, 0.12), besides(n, "cyan", "yellow")),
        *[Part("cylinder", (0.22, s * 0.48, -0.10), (0.10, 0.17), GRAY if n != "gray" else BLACK, axis="x") for s in (-1, 1)],
    ]


def _owl(n: str) -> list[Part]:
    c = COLOURS[n]
    return [
        Part("ellipsoid", (0, 0, -0.22), (0.44, 0.50, 0.58), c),
        Part("ball", (0.02, 0, 0.36), (0.40,), c),
        *[Part("cone", (0.02, s * 0.27, 0.72), (0.12, 0.16, 0.0), c) for s in (-1, 1)],
        Part("ellipsoid", (0.20, 0, -0.25), (0.28, 0.33, 0.40), besides(n, "white", "yellow")),
        *_eyes(0.31, 0.17, 0.42, 0.15, besides(n, "white", "yellow")),
        *_eyes(0.42, 0.17, 0.42, 0.075, BLACK),
        Part("cone", (0.44, 0, 0.28), (0.08, 0.12, 0.0), besides(n, "orange", "red"), axis="x"),
    ]


def _train(n: str) -> list[Part]:
    c, trim = COLOURS[n], besides(n, "black", "gray")
    wheels = [Part("cylinder", (x, y * 0.34, -0.42), (0.17, 0.06), trim, axis="y") for x in (-0.50, -0.02, 0.46) for y in (-1, 1)]
    return [
        Part("cylinder", (0.22, 0, -0.02), (0.28, 0.50), c, axis="x"),
        Part("box", (-0.48, 0, 0.10), (0.26, 0.36, 0.40), c),
        Part("box", (-0.48, 0, 0.54), (0.32, 0.42, 0.05), besides(n, "red", "white")),
        Part("cone", (0.52, 0, 0.42), (0.09, 0.20, 0.15), trim),
        Part("ball", (0.12, 0, 0.28), (0.13,), besides(n, "yellow", "white")),
        Part("box", (0.0, 0, -0.32), (0.74, 0.28, 0.06), trim),
        Part("cylinder", (0.73, 0, -0.02), (0.13, 0.03), besides(n, "yellow", "white"), axis="x"),
        *wheels,
    ]


NAMED: dict[str, Callable[[str], list[Part]]] = {
    "snowman": _snowman,
    "mug": _mug,
    "chair": _chair,
    "house": _house,
    "duck": _duck,
    "car": _car,
    "rocket": _rocket,
    "robot": _robot,
    "teapot": _teapot,
    "fish": _fish,
    "cat": _cat,
    "television": _television,
    "sofa": _sofa,
    "airplane": _airplane,
    "owl": _owl,
    "train": _train,
    "mushroom": _mushroom,
    "tree": _tree,
}
SYMMETRIC: frozenset[str] = frozenset({"mushroom", "tree", *PRIMITIVES})
"""Objects that look the same from the front and from behind."""


def build(name: str, colour: str) -> list[Part]:
    """Return the parts of a named object in a colour."""
    return NAMED[name](colour)
