"""A packed world of three small objects, written as scripts/pack_world.py writes one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str) -> ModuleType:
    """Return a module of scripts/, as the scripts see each other."""
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.find_spec(name)
    assert spec is not None
    return importlib.import_module(name)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (8,3) and faces (12,3) of a box."""
    places = np.array([[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return places, np.array([(a, b, c) for a, b, c, _ in quads] + [(a, c, d) for a, _, c, d in quads])


def entry(name: str, kind: str, colour: tuple[float, float, float], tinted: bool, nose: bool = True) -> dict[str, Any]:
    """Return a box with, in front (+x), a black nose; the object's line of the index and its arrays."""
    places, faces = box((-0.4, -0.5, -0.3), (0.4, 0.5, 0.3))
    material = np.zeros(len(faces), np.uint8)
    if nose:
        more, its_faces = box((0.4, -0.1, -0.1), (0.6, 0.1, 0.1))
        faces = np.concatenate([faces, its_faces + len(places)])
        places, material = np.concatenate([places, more]), np.concatenate([material, np.ones(len(its_faces), np.uint8)])
    arrays = {
        "places": np.round(places * 32767).astype(np.int16),
        "openness": np.full(len(places), 255, np.uint8),
        "faces": faces.astype(np.uint16),
        "materials": material,
        "uv": np.zeros((0, 3, 2), np.uint16),
        "textures": [],
    }
    told = {"name": name, "kind": kind, "title": kind, "creator": "test", "licence": "CC0-1.0", "tinted": [0] if tinted else []}
    return told | {"materials": [[*colour, -1], [0.0, 0.0, 0.0, -1]], "uv_low": [0, 0], "uv_size": [1, 1], "arrays": arrays}


def small_pack(path: Path) -> Path:
    """Write a pack of an armchair that takes colours, a horse that does not, and an armchair held out from training; return its path."""
    from splatdistill.toybox.real_split import SPLIT

    kept = min(SPLIT.instances_not_seen)
    things = [
        entry("BlendSwap-CC-0-86", "armchair", (0.8, 0.8, 0.8), True),
        entry("BlendSwap-CC-0-97", "horse", (0.4, 0.2, 0.1), False),
        entry(kept, "armchair", (0.1, 0.1, 0.8), True),
    ]
    script("embedded.pack").write(path, things)
    return path
