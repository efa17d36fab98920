"""Records of how jobs ended, JSON files beside their runs."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from splatdistill.io.atomic import replacing
from splatdistill.train.events import Verdict

VERDICTS: tuple[str, ...] = get_args(Verdict)
NAME = "record.json"


@dataclass(frozen=True)
class JobRecord:
    """Record of how a job ended."""

    prompt: str
    arm: str
    seed: int
    argv: tuple[str, ...]
    how: str  # done, stopped, failed, killed, or a verdict
    error: str = ""  # what was said by one that was not done
    code: int = 0  # exit status of the last process
    seconds: float = 0.0  # of all its processes, start and files at the end included
    tries: int = 1  # processes
    version: str = ""
    aside: tuple[str, ...] = ()  # earlier tries that nothing could go on from: where each was moved to, and why

    @property
    def final(self) -> bool:
        """Return True if doing it again would tell nothing new: it is done, or went wrong in a way that the seed decides."""
        return self.how == "done" or self.how in VERDICTS

    def write(self, folder: Path) -> None:
        """Write it into the job's folder, whole or not at all."""
        write_json(folder / NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "JobRecord | None":
        """Read what is known of a job; None for nothing, or nothing readable."""
        try:
            said = json.loads((folder / NAME).read_text(encoding="utf-8"))
            return cls(**{**said, "argv": tuple(said["argv"]), "aside": tuple(said.get("aside", ()))})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False, default=str) + "\n", encoding="utf-8")
