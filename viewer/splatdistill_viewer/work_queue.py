"""Queues of what browsers ask for, bounded: someone who presses a button a thousand times is heard once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from splatdistill.train.commands import Command, Densify, Prune, Save

MOST = 64  # things that wait
ACTS = (Save, Densify, Prune)  # once between two steps is enough; of the others the last one counts


class WorkQueue:
    """Work for another thread, each kind at most once at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()

    def put(self, kind: Hashable, do: Callable[[], None]) -> bool:
        """Ask for work; return whether it was taken. What waits already, or one too many, is not taken."""
        with self.lock:
            if kind in self.waiting or len(self.waiting) >= MOST:
                return False
            self.waiting[kind] = do
            return True

    def take(self) -> Callable[[], None] | None:
        """Return what waits longest, which waits no more."""
        with self.lock:
            return self.waiting.popitem(last=False)[1] if self.waiting else None

    @property
    def empty(self) -> bool:
        """Return whether nothing waits."""
        return not self.waiting


class CommandQueue:
    """A run's commands from its page, in order: what would change nothing is not put.

    put: the run's own queue. `done` is to be called with each command that took effect or was refused.
    """

    def __init__(self, put: Callable[[Command], None]) -> None:
        self.run, self.lock = put, threading.Lock()
        self.waiting: list[Command] = []

    def put(self, command: Command) -> None:
        """Ask the run for it, unless it waits already."""
        with self.lock:
            again = any(type(w) is type(command) for w in self.waiting) if isinstance(command, ACTS) else self.waiting[-1:] == [command]
            if again or len(self.waiting) >= MOST:
                return
            self.waiting.append(command)
        self.run(command)

    def done(self, command: Command) -> None:
        """Take note that a command waits no more."""
        with self.lock:
            if command in self.waiting:
                self.waiting.remove(command)
