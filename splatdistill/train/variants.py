"""Variants of one prompt: runs that take turns in one process, from several seeds, to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from splatdistill.errors import RunEnded
from splatdistill.train.commands import Commands
from splatdistill.train.events import Callback
from splatdistill.train.loop import Result, advance
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session


@dataclass
class Variant:
    """Run of one seed, and its result."""

    session: Session
    folder: RunDir
    commands: Commands = field(default_factory=Commands)
    callbacks: list[Callback] = field(default_factory=list)
    result: Result | None = None
    wrong: RunEnded | None = None  # how it went wrong, if it did


def take_turns(variants: Sequence[Variant]) -> None:
    """Make a step of each after the other, until all have ended. Each makes the splats that it would make alone; one that
    goes wrong keeps no other from going.
    """
    going = {k: advance(v.session, v.folder, v.callbacks, v.commands) for k, v in enumerate(variants)}
    while going:
        for k in list(going):
            try:
                next(going[k])
            except StopIteration as end:
                variants[k].result = end.value
                del going[k]
            except RunEnded as wrong:
                variants[k].wrong = wrong
                del going[k]
