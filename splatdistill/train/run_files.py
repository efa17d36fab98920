"""Files of a run, and what they say without its tensors. Importing this loads no torch.

    runs/a-red-mushroom/  config.yaml  log.jsonl  checkpoints/step-000600/  previews/  splats.ply  turntable.mp4  sheet.png

and splats-2.ply, turntable-2.mp4, sheet-2.png and so on with several particles.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from splatdistill.errors import UserError, reason
from splatdistill.renamed import tree_now
from splatdistill.train.log import NO_EVENT, Line, event_of, read_log
from splatdistill.train.notes import NOTE, OLD, Plain

ARTEFACTS = ("splats.ply", "turntable.mp4", "sheet.png")
PICTURE, PICTURES = "picture", (".png", ".jpg", ".jpeg", ".webp")
TAIL = 8192  # bytes of a log in which its last events are looked for


@dataclass(frozen=True)
class RunFiles:
    """Names of one run's files, its log, and the configuration that it began with."""

    path: Path

    @property
    def config(self) -> Path:
        """Return the file of the whole configuration that the run began with; running it again repeats the run but for steering."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Return the file of events, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def splats(self) -> Path:
        """Return the file of the result."""
        return self.artefact("splats.ply")

    @property
    def picture(self) -> Path | None:
        """Return the run's own copy of the picture that it began with; None without one."""
        return next((path for path in sorted(self.path.glob(f"{PICTURE}.*")) if path.suffix.lower() in PICTURES), None)

    @property
    def turntable(self) -> Path:
        """Return the file of a video once around."""
        return self.artefact("turntable.mp4")

    @property
    def sheet(self) -> Path:
        """Return the file of views from eight sides."""
        return self.artefact("sheet.png")

    def artefact(self, name: str, particle: int = 0) -> Path:
        """Return a file about one particle: the first one's has the name, the second one's ends in -2, and so on."""
        path = self.path / name
        return path.with_stem(f"{path.stem}-{particle + 1}") if particle else path

    def artefacts(self, particles: int = 1) -> list[Path]:
        """Return the files that a finished run of so many particles has."""
        return [self.artefact(name, k) for k in range(particles) for name in ARTEFACTS]

    def checkpoint(self, step: int) -> Path:
        """Return the path of a step's checkpoint."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def preview(self, step: int) -> Path:
        """Return the path of a step's preview."""
        return self.path / "previews" / f"step-{step:06d}.png"

    def events(self) -> list[Line]:
        """Return all events of the log as plain data; a last line that was cut off is left out. UserError where there is no log, or
        a line is none of a run's.
        """
        return read_log(self.log)

    def last_events(self) -> dict[str, Line]:
        """Return the newest event of each kind near the log's end, also while it is being written; {} while there are none. An Ended
        that something follows is not the end.
        """
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
                lines = log.read().split(b"\n")
        except OSError:
            return {}
        found: dict[str, Line] = {}
        for line in lines:
            try:
                event = event_of(line)
            except NO_EVENT:  # cut off, at the beginning or the end
                continue
            if event["event"] != "Ended":
                found.pop("Ended", None)
            found[event["event"]] = event
        return found

    def checkpoints(self) -> list[Path]:
        """Return the folders of checkpoints, the earliest first; one that was being replaced when the process was killed counts."""
        found: dict[int, Path] = {}
        for note in (self.path / "checkpoints").glob(f"step-*/{NOTE}"):
            match = re.fullmatch(rf"step-(\d+)({re.escape(OLD)})?", note.parent.name, re.ASCII)
            if match and (not match[2] or int(match[1]) not in found):
                found[int(match[1])] = note.parent
        return [found[step] for step in sorted(found)]

    def begun(self) -> Plain:
        """Return the settings that the run began with, as config.yaml has them; UserError where it is not a run's."""
        try:
            text = self.config.read_bytes().decode("utf-8")
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
                raise ValueError("it has aliases")
            plain = yaml.safe_load(text)
        except OSError as e:
            raise UserError(f"{self.path} is no run: there is no {self.config}; expected a directory that `splatdistill train` has made") from e
        except (yaml.YAMLError, ValueError, RecursionError) as e:
            raise UserError(f"{self.config} is not the configuration of a run: {reason(e)[:200]}") from e
        if not isinstance(plain, dict) or not isinstance(plain.get("prompt"), str) or not plain["prompt"].strip():
            raise UserError(f"{self.config} is not the configuration of a run: it has no prompt")
        return tree_now(plain)

    def finished(self, particles: int = 1) -> bool:
        """Return True if the run has done all its steps and every file of its results is there."""
        return self.last_events().get("Ended", {}).get("how") == "done" and all(p.is_file() for p in self.artefacts(particles))


def step_of(checkpoint: Path) -> int:
    """Return the step that the name of a checkpoint's folder says."""
    match = re.match(r"step-(\d+)", checkpoint.name, re.ASCII)
    if match is None:
        raise UserError(f"{checkpoint} is no checkpoint of a run; expected a folder step-NUMBER")
    return int(match[1])
