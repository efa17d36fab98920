"""The parts of measure_gpu.py."""

from gpu.machine import build, machine, parity
from gpu.networks import compiled, networks, vsd_gradients
from gpu.part import Part, Where
from gpu.runs import own_tests, small_cards, steps, tiny

PARTS = {
    1: Part("machine", machine, 20),
    2: Part("build", build, 150, background=True),
    3: Part("parity", parity, 30, renders=True),
    4: Part("networks", networks, 90),
    5: Part("steps", steps, 100, renders=True),
    6: Part("cards", small_cards, 40, renders=True),
    7: Part("vsd", vsd_gradients, 20),
    8: Part("tiny", tiny, 60, renders=True),
    9: Part("compile", compiled, 50, renders=True),
    10: Part("tests", own_tests, 50, renders=True),
}
"""By number; limits in seconds."""

__all__ = ["PARTS", "Part", "Where"]
