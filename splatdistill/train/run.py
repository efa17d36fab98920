"""The run directory: written, and read with its tensors; `run_files` names its files."""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from splatdistill.errors import UserError, reason
from splatdistill.gaussians import Gaussians
from splatdistill.io.atomic import append, remove_temporaries, write_bytes, write_text
from splatdistill.shell import as_typed
from splatdistill.system import BINARY, lock
from splatdistill.train.checkpoint import Checkpoint, read_checkpoint
from splatdistill.train.commands import Choose, SetField
from splatdistill.train.config import Train
from splatdistill.train.events import Event, Paused, Preview, line_of
from splatdistill.train.log import Given, commands_of, description, mend, unknown_steering
from splatdistill.train.notes import NEW, NOTE, Plain, read_note
from splatdistill.train.phases import prior_asked
from splatdistill.train.plain import KINDS, NAME, UNCHANGING, commanded
from splatdistill.train.run_files import PICTURE, PICTURES, RunFiles, step_of

STEERED = "# Steered while it went on:"
logger = logging.getLogger(__name__)

DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")  # no folder can have these names on Windows
ASIDE = "set-aside"
"""Name of the folder for runs that were moved out of the way; what is below it is not counted as results."""


def slug(prompt: str) -> str:
    """Return a prompt as a safe folder name: at most 40 of a-z, 0-9 and -, with a hash when anything was lost or the name is a device
    on Windows.
    """
    words = " ".join(prompt.split())
    safe = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    if safe and not DEVICE.fullmatch(safe) and len(safe) <= 40 and safe.replace("-", " ") == words.lower():
        return safe
    return f"{safe[:40].strip('-') or 'prompt'}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class RunDir(RunFiles):
    """Folder of one run. All code that reads a run's files uses this class."""

    @classmethod
    def create(cls, prompt: str, out: Path | None = None) -> "RunDir":
        """Make a new folder: `out`, else runs/<slug>. One that holds something already is left alone: -2, -3, ... is added."""
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

    def keep_picture(self, config: Train) -> Train:
        """Copy the picture of a run, if it has one, into its folder; return the configuration that reads the copy."""
        if config.image.path is None:
            return config
        suffix = config.image.path.suffix.lower()
        copy = self.path.absolute() / f"{PICTURE}{suffix if suffix in PICTURES else PICTURES[0]}"
        try:
            write_bytes(copy, config.image.path.read_bytes())
        except OSError as e:
            raise UserError(f"{config.image.path}: cannot be read: {reason(e)}") from e
        return replace(config, image=replace(config.image, path=copy))

    def with_picture(self, config: Train) -> Train:
        """Return a configuration that reads the folder's own picture, wherever the folder is now."""
        if config.image.path is None or (own := self.picture) is None:
            return config
        return replace(config, image=replace(config.image, path=own.absolute()))

    # reading -------------------------------------------------------------------------------------------------------

    def commands(self, step: int | None = None) -> list[Given]:
        """Return the commands behind the result, or behind the checkpoint of a step; see `commands_of`."""
        return commands_of(self.events(), step)

    def unknown_steering(self) -> str:
        """Return what to say where the log lacks steps of the run; see `unknown_steering` of the log."""
        return unknown_steering(self.events())

    def newest_checkpoint(self) -> Checkpoint:
        """Return the newest checkpoint that is whole. Others that are passed over are told to the log of `logging`. UserError if
        there is none.
        """
        damaged: list[str] = []
        for folder in reversed(self.checkpoints()):
            try:
                checkpoint = read_checkpoint(folder)
                if checkpoint.note.step != step_of(folder):
                    raise UserError(f"{folder} holds the state of step {checkpoint.note.step}")
            except UserError as e:
                damaged.append(str(e))
                continue
            for why in damaged:
                logger.warning("passed over: %s", why)
            if damaged:
                logger.warning("the newest whole checkpoint is %s", folder)
            return checkpoint
        if damaged:
            raise UserError(f"{self.path} has no whole checkpoint: {damaged[0]}" + (f", and {len(damaged) - 1} more" if damaged[1:] else ""))
        raise UserError(f"{self.path} has no checkpoint to resume from; expected {self.path / 'checkpoints'}/step-*/{NOTE}")

    def good_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that showed no sign of divergence when it was written; None if there is none."""
        for folder in reversed(self.checkpoints()):
            try:
                if read_note(folder).sign is None:
                    return folder
            except UserError:
                continue
        return None

    def scenes(self, step: int | None = None) -> tuple[Gaussians, ...]:
        """Return the scenes of all particles in the checkpoint of a step, or in the newest whole one."""
        return (self.newest_checkpoint() if step is None else read_checkpoint(self.checkpoint(step))).scenes()

    def settings(self, step: int | None = None) -> Plain:
        """Return the settings in force at the end, or at the checkpoint of a step, as `config.yaml` has them: what the run began
        with, and what it was steered to. From the checkpoint; where there is none, or one of an earlier version, from
        config.yaml and the log. What cannot be steered is as config.yaml has it: it may say where the weights are now.
        """
        saved: Plain | None = None
        asked: Plain = {}
        for folder in reversed(self.checkpoints()) if step is None else [self.checkpoint(step)]:
            try:
                note = read_note(folder)
                saved, asked = note.settings, prior_asked((note.settings or {}).get("phases", ()), note.phase)
                break
            except UserError:
                if step is not None:
                    raise
        begun = self.begun() if saved is None or self.config.is_file() else {}  # a run from Python may have no config.yaml
        if saved is None:
            for given in self.commands(step) if self.log.is_file() else []:
                if isinstance(given.command, SetField | Choose):
                    begun = commanded(begun, given.command)
            return begun
        for part in KINDS:  # a class of one's own has its name in config.yaml alone
            own = begun.get(part)
            if isinstance(own, dict) and NAME in own and isinstance(saved.get(part), dict) and NAME not in saved[part]:
                saved = saved | {part: {NAME: own[NAME]} | saved[part]}
        return saved | {k: begun[k] for k in UNCHANGING if k in begun} | asked

    # writing -------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder: UserError while another process continues the run. Then remove the partial files of a process that was
        killed.
        """
        log = self._locked()
        try:
            mend(self.log)
            for folder in (self.path, self.path / "previews", self.path / "checkpoints"):
                remove_temporaries(folder)
            for left in (self.path / "checkpoints").glob(f"step-*{NEW}"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            if log is not None:
                os.close(log)

    def _locked(self) -> int | None:
        """Return the log, open and locked; None where the file system knows none."""
        try:
            log = os.open(self.log, os.O_RDWR | os.O_CREAT | BINARY, 0o666)
        except OSError as e:
            raise UserError(f"cannot write {self.log}: {reason(e)}") from e
        try:
            free = lock(log)
        except OSError:
            os.close(log)
            return None
        if not free:
            os.close(log)
            raise UserError(f"another process is going on with {self.path}; wait until it ends, or stop it")
        return log

    def record(self, event: Event) -> None:
        """Append an event to log.jsonl, one JSON object a line, pictures and waiting left out."""
        if not isinstance(event, Preview | Paused):
            append(self.log, line_of(event))

    def note_steering(self) -> None:
        """Write into config.yaml, in comments at its end, what was changed when."""
        if not self.config.is_file():  # of a run from Python that wrote none
            return
        text = self.config.read_text(encoding="utf-8")
        text = text.split(f"\n{STEERED}")[0].rstrip("\n") + "\n"
        events = self.events()
        lines = [f"#   before step {g.attempt + 1}: {description(g.command)}" for g in commands_of(events)]
        if (unknown := unknown_steering(events)) or lines:
            text = text.replace(" repeats this run\n", " repeats this run but for what is said at the end\n")
            again = f"`{as_typed('splatdistill', 'train', '--replay', self.path)}` repeats all of it (steps that were refused count here)"
            text += "\n".join(["", f"{STEERED} {unknown or again}", *(" ".join(line.splitlines()) for line in lines), ""])
        write_text(self.config, text)
