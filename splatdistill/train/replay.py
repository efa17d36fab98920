"""Replay of a steered run.

From the same configuration, on the CPU with the same number of threads, a replayed run gives the same splats, bit for
bit: every command takes effect before the same attempted step as it did then.
"""

from dataclasses import dataclass, field

from splatdistill.train.commands import Command, Commands
from splatdistill.train.log import Given


@dataclass
class Replay(Commands):
    """Commands of a log in their places, and those of a person besides."""

    given: list[Given] = field(default_factory=list)  # those that are still to come

    def take(self, attempt: int = 0) -> list[Command]:
        """Return the commands of the log up to this attempt, then those given now."""
        now = [g.command for g in self.given if g.attempt <= attempt]
        self.given = [g for g in self.given if g.attempt > attempt]
        return now + super().take(attempt)
