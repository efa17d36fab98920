"""Jobs of a network without steps after it: the splats of one pass, written as a run's folder, without a process of their own."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from splatdistill import __version__
from splatdistill.bench.plan import Job
from splatdistill.bench.record import JobRecord
from splatdistill.errors import UserError
from splatdistill.io.atomic import append, write_text
from splatdistill.io.ply import Provenance, write_ply
from splatdistill.scene.generator.saved import Generator
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights
from splatdistill.train.run import RunDir


@lru_cache(maxsize=1)
def network(folder: Path, device: str) -> Generator:
    """Return the generator of a training; the same for one prompt after the other."""
    return Generator.load(folder, device)


def one_pass(job: Job, argv: list[str], trained: Path, run: RunDir, before: JobRecord) -> JobRecord:
    """Write what a network makes of a job's prompt: its splats, the configuration of a run of no steps, and a log that has ended.

    argv: of such a run. trained: folder of the network's training.
    """
    parsed = parse_train(argv, Weights().family)
    try:
        generator = network(trained, parsed.config.device)
        with torch.no_grad():
            g = generator(job.prompt).to("cpu")
        made_of = Provenance(job.prompt, generator.prior.name, generator.prior.licence, __version__)
        write_text(run.config, parsed.yaml([f"made in one pass of the network in {trained}, without steps"]))
        write_ply(run.splats, g, made_of.comments())
        append(run.log, json.dumps({"event": "Ended", "step": 0, "how": "done", "message": "one pass", "calls": 0}))
    except UserError as e:
        return replace(before, how="failed", error=str(e))
    return replace(before, how="done", error="", code=0, tries=before.tries + 1)
