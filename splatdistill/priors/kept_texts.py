"""Texts that a prior has read, kept as long as there is room for them."""

from collections.abc import Callable, Sequence

from splatdistill.priors.condition import Condition

ROOM = 2**30  # bytes; 10,000 prompts of Stable Diffusion 1.5 in half precision


class KeptTexts:
    """Conditions of prompts, read once each; the ones longest not asked for are forgotten first.

    A corpus of 100,000 prompts with four view words each would take some 60 GB; reading a text again costs less than one image.
    """

    def __init__(self, read: Callable[[list[str]], Condition], room: int = ROOM) -> None:
        self._read, self._room, self._bytes = read, room, 0
        self._kept: dict[str, Condition] = {}  # the last asked for comes last

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, prompts: Sequence[str]) -> Condition:
        """Return the condition of several prompts; those not kept are read together."""
        asked = dict.fromkeys(prompts)
        found = {p: self._kept.pop(p) for p in asked if p in self._kept}
        if new := [p for p in asked if p not in found]:
            copies = [Condition.cat([one]) for one in self._read(new).split(1)]  # a slice would keep all of them alive
            read = dict(zip(new, copies, strict=True))
            self._bytes += sum(c.nbytes for c in read.values())
            found |= read
        self._kept |= found
        while self._bytes > self._room and len(self._kept) > len(found):
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return Condition.cat([found[p] for p in prompts])
