"""Plan of a bench: every prompt by every arm with every seed, each a job that stands alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from splatdistill.train.run import slug


@dataclass(frozen=True)
class Arm:
    """Method as the bench compares it."""

    name: str
    text: str  # how it is asked for: sdi[eta=0]
    argv: tuple[str, ...]  # the options of `splatdistill train` that make it
    share: float = 1.0  # of the budget: 1.4 has 40 % more of it than the others
    about: str = ""  # what it shows, for the report
    settings: str = ""  # a digest of every value of its runs, of recipes and defaults too


@dataclass(frozen=True)
class Job:
    """Run of `splatdistill train`. Its name follows from its options and from the recipe beneath
    that, so that a bench with other options, or after a recipe has changed, finds none of the old results in their place.
    """

    prompt: str
    arm: str  # its name
    seed: int
    argv: tuple[str, ...]  # what makes the run what it is
    saving: tuple[str, ...] = ()  # what changes nothing about the result: how often it is saved
    steps: int = 0
    calls: float = 0.0  # images that networks will be asked about, as planned
    settings: str = ""  # its arm's

    @cached_property
    def digest(self) -> str:
        """Return a digest of what is asked for, and of the values that nobody asked for."""
        return hashlib.sha256(json.dumps([*self.argv, self.settings]).encode()).hexdigest()[:10]

    @property
    def folder(self) -> str:
        """Return its place below the bench's folder of jobs; nothing of a prompt or a name is taken over unescaped."""
        return f"{slug(self.arm)}/{slug(self.prompt)}-seed-{self.seed}-{self.digest}"


def jobs(
    prompts: Sequence[str],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    common: Sequence[str],
    steps: dict[str, int],
    calls: dict[str, float],
    points: int,
) -> list[Job]:
    """Return all jobs, a prompt after the other, so that what a stopped bench has done is complete for some prompts.

    common: options of all; steps, calls: by name of the arm; points: on each convergence curve.
    """
    made = []
    for prompt in prompts:
        for seed in seeds:
            for arm in arms:
                n = steps[arm.name]
                argv = (*arm.argv, *common, f"--prompt={prompt}", "--seed", str(seed), "--steps", str(n))
                every = -(-n // points) if points else 0
                beside = ("--checkpoint-every", str(every), "--preview-every", "0")
                made.append(Job(prompt, arm.name, seed, argv, beside, n, calls[arm.name], arm.settings))
    return made
