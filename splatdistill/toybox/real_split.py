"""Real objects and colours that training never sees, and the prompts that are kept for acceptance; fixed before the first step.

The file names, for kinds whose objects may take another colour, colours that no picture shows; objects (by their library and
number) that no picture shows; the acceptance prompts, each with the shown CC0 object that is its truth; prompts of rooms; and
the digest of the pack that all this was chosen from.
"""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("real_split.json")


@dataclass(frozen=True)
class RealSplit:
    """Split of the real objects into shown and held out ones."""

    pack: str  # digest
    kinds: dict[str, bool]  # every kind of real object, and whether it takes colours
    colours_not_seen: dict[str, tuple[str, ...]]
    instances_not_seen: frozenset[str]
    truth: dict[str, str]  # acceptance prompt: object
    rooms: tuple[str, ...]

    @staticmethod
    def load(path: Path = FILE) -> "RealSplit":
        """Read the file."""
        read = json.loads(path.read_text(encoding="utf-8"))
        colours = {kind: tuple(c) for kind, c in read["colours_not_seen"].items()}
        instances = frozenset(read["instances_not_seen"])
        return RealSplit(read["pack"], read["kinds"], colours, instances, read["acceptance"], tuple(read["rooms"]))


SPLIT = RealSplit.load()
