"""Variants of one prompt: runs that take turns in one process, from several seeds, to choose from."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch

from splatdistill.errors import RunEnded
from splatdistill.train.commands import Commands
from splatdistill.train.events import Callback, Event
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
    """Make a step of each after the other, until all have ended; those on other devices at the same time. Each makes the splats that it
    would make alone; one that goes wrong keeps no other from going. Callbacks are called one at a time.
    """
    places: dict[torch.device, list[Variant]] = {}
    for v in variants:
        places.setdefault(v.session.prior.device, []).append(v)
    if len(places) == 1:
        return in_turn(variants)
    alone = Lock()
    for v in variants:
        v.callbacks = [guarded(callback, alone) for callback in v.callbacks]
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(in_turn, places.values()))


def guarded(callback: Callback, alone: AbstractContextManager[Any]) -> Callback:
    """Return a callback that waits for its turn."""

    def called(event: Event) -> None:
        with alone:
            callback(event)

    return called


def in_turn(variants: Sequence[Variant]) -> None:
    """Make a step of each after the other, until all have ended."""
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
