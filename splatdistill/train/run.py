"""The run directory: what a run writes, and where.

    runs/a-red-mushroom/  config.yaml  log.jsonl  checkpoints/step-000600/  previews/  splats.ply  turntable.mp4  sheet.png

and splats-2.ply, turntable-2.mp4, sheet-2.png and so on with several particles.
"""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from splatdistill.errors import UserError
from splatdistill.train.events import Applied, Ended, Event, Paused, Preview, Refused, Resumed, Saved, StepDone

ASIDE = "set-aside"
"""Name of the folder for runs that were moved out of the way; what is below it is not counted as results."""


def slug(prompt: str) -> str:
    """A prompt as a safe folder name: at most 40 of a-z, 0-9 and -, with a hash when anything was lost."""
    words = " ".join(prompt.split())
    safe = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    if safe and len(safe) <= 40 and safe.replace("-", " ") == words.lower():
        return safe
    return f"{safe[:40].strip('-') or 'prompt'}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


@dataclasses.dataclass(frozen=True)
class RunDir:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, prompt: str, out: Path | None = None) -> "RunDir":
        """A new folder: `out`, else runs/<slug>. One that holds something already is left alone: -2, -3, ... is added."""
        wanted = Path("runs") / slug(prompt) if out is None else Path(out)
        path, k = wanted, 1
        while True:
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                if path.is_dir() and not any(path.iterdir()):
                    return cls(path)
                k += 1
                path = wanted.with_name(f"{wanted.name}-{k}")
            except OSError as e:
                raise UserError(f"could not make the run directory {path}: {e.strerror or e}\nChoose another with --out DIR.") from e

    @property
    def config(self) -> Path:
        """The whole configuration; running it again repeats the run."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def splats(self) -> Path:
        """The result."""
        return self.artefact("splats.ply")

    @property
    def turntable(self) -> Path:
        """A video once around."""
        return self.artefact("turntable.mp4")

    @property
    def sheet(self) -> Path:
        """Views from eight sides."""
        return self.artefact("sheet.png")

    def artefact(self, name: str, particle: int = 0) -> Path:
        """A file about one particle: the first one's has the name, the second one's ends in -2, and so on."""
        path = self.path / name
        return path.with_stem(f"{path.stem}-{particle + 1}") if particle else path

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step goes."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def newest_checkpoint(self) -> Path:
        """The one to resume from."""
        found = sorted(p for p in (self.path / "checkpoints").glob("step-*") if (p / "state.json").exists())
        if not found:
            raise UserError(f"{self.path} has no checkpoint to resume from; expected {self.path / 'checkpoints'}/step-*/state.json")
        return found[-1]

    def preview(self, step: int) -> Path:
        """Where the preview of a step goes."""
        (self.path / "previews").mkdir(exist_ok=True)
        return self.path / "previews" / f"step-{step:06d}.png"

    def record(self, event: Event) -> None:
        """Append an event to log.jsonl, one JSON object a line, pictures and waiting left out."""
        if isinstance(event, Preview | Paused):
            return
        with self.log.open("a") as log:
            log.write(json.dumps({"event": type(event).__name__, **_plain(event)}) + "\n")


def _plain(event: StepDone | Saved | Applied | Refused | Resumed | Ended) -> dict[str, Any]:
    """An event's fields as JSON values; the scenes themselves are none."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name not in ("result", "others")}
    if isinstance(event, StepDone):
        if event.particle is None:
            del values["particle"]
        values["timing"] = {k: round(v, 5) for k, v in dataclasses.asdict(event.timing).items()}
    if isinstance(event, Applied | Refused):
        values["command"] = {"name": type(event.command).__name__, **dataclasses.asdict(event.command)}
    return values
