"""Queues of what browsers ask for, bounded: someone who presses a button a thousand times is heard once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from splatdistill.train.commands import Command, Densify, Prune, Save

MOST = 64  # things that wait
ACTS = (Save, Densify, Prune)  # once between two steps is enough; of the others the last one counts


class WorkQueue:
    """Queue of work for another thread, with at most one entry of each kind."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()

    def put(self, kind: Hashable, do: Callable[[], None]) -> bool:
        """Queue a function; return whether it was accepted. A kind that is queued already, or one too many, is not."""
        with self.lock:
            if kind in self.waiting or len(self.waiting) >= MOST:
                return False
            self.waiting[kind] = do
            return True

    def take(self) -> Callable[[], None] | None:
        """Return the oldest entry and remove it; None where the queue is empty."""
        with self.lock:
            return self.waiting.popitem(last=False)[1] if self.waiting else None

    @property
    def empty(self) -> bool:
        """Return whether the queue is empty."""
        return not self.waiting


class CommandQueue:
    """Queue of a run's commands from its page, in order; commands without effect are left out.

    put: the run's own queue. `done` is to be called with each command that took effect or was refused.
    """

    def __init__(self, put: Callable[[Command], None]) -> None:
        self.run, self.lock = put, threading.Lock()
        self.waiting: list[Command] = []

    def put(self, command: Command) -> None:
        """Queue a command, unless the same is queued already."""
        with self.lock:
            again = any(type(w) is type(command) for w in self.waiting) if isinstance(command, ACTS) else self.waiting[-1:] == [command]
            if again or len(self.waiting) >= MOST:
                return
            self.waiting.append(command)
        self.run(command)

    def done(self, command: Command) -> None:
        """Remove a command that took effect or was refused."""
        with self.lock:
            if command in self.waiting:
                self.waiting.remove(command)
