"""Plan of a bench: every prompt by every arm with every seed, each a job that stands alone."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from splatdistill.train.run import slug

NETWORKS = "networks"
"""Folder of the trainings of networks, below that of the jobs."""


@dataclass(frozen=True)
class Network:
    """Amortised training, one for each seed, whose network makes an arm's splats."""

    name: str
    argv: tuple[str, ...]  # the options of `splatdistill amortise` that make it
    corpus: tuple[str, ...]
    settings: str = ""  # a digest as an arm's


@dataclass(frozen=True)
class Arm:
    """Method as the bench compares it."""

    name: str
    text: str  # how it is asked for: sdi[eta=0]
    argv: tuple[str, ...]  # the options of `splatdistill train` that make it
    share: float = 1.0  # of the budget: 1.4 has 40 % more of it than the others
    about: str = ""  # what it shows, for the report
    settings: str = ""  # a digest of every value of its runs, of recipes and defaults too
    network: Network | None = None
    polish: int = 0  # steps of its runs, which begin from what the network makes
    line: str = ""  # of tables over network images


@dataclass(frozen=True)
class Job:
    """Run of `splatdistill train`, or of another command. Its name follows from its options and from the recipe beneath
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
    command: str = "train"
    before: "Job | None" = None  # the training of the network that it begins from

    @cached_property
    def digest(self) -> str:
        """Return a digest of what is asked for, and of the values that nobody asked for."""
        told = [*self.argv, self.settings, *([self.before.digest] if self.before else [])]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]

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
    polish: dict[str, float] | None = None,
) -> list[Job]:
    """Return all jobs, a prompt after the other, so that what a stopped bench has done is complete for some prompts.

    common: options of all; steps, calls: by name of the arm, of its network where it has one; points: on each convergence curve;
    polish: network images of the steps after the network's, by name of the arm.
    """
    made = []
    for prompt in prompts:
        for seed in seeds:
            for arm in arms:
                before = training(arm, seed, steps[arm.name], calls[arm.name])
                n = arm.polish if before else steps[arm.name]
                images = (polish or {}).get(arm.name, 0.0) if before else calls[arm.name]
                argv = (*arm.argv, *common, f"--prompt={prompt}", "--seed", str(seed), *(("--steps", str(n)) if n else ()))
                every = -(-n // points) if points else 0
                beside = ("--checkpoint-every", str(every), "--preview-every", "0")
                made.append(Job(prompt, arm.name, seed, argv, beside, n, images, arm.settings, before=before))
    return made


def training(arm: Arm, seed: int, steps: int, calls: float) -> Job | None:
    """Return the training of an arm's network, which arms may share; None for a method of one prompt."""
    if arm.network is None:
        return None
    argv = (*arm.network.argv, "--seed", str(seed), "--steps", str(steps))
    name = f"{arm.network.name}, {len(arm.network.corpus)} prompts"
    return Job(name, NETWORKS, seed, argv, ("--preview-every", "0"), steps, calls, arm.network.settings, "amortise")


def trainings(jobs: Sequence[Job]) -> list[Job]:
    """Return the trainings that jobs begin from, each once."""
    return list({job.before.folder: job.before for job in jobs if job.before}.values())
