"""The answer of `train --resume` to a run that has nothing left to do, before the seconds that torch takes to load."""

import re
from collections.abc import Mapping
from typing import Any

from splatdistill.errors import UserError
from splatdistill.settings import yaml
from splatdistill.settings.files import expanded
from splatdistill.shell import as_typed
from splatdistill.train.notes import explained, read_note, read_tensors
from splatdistill.train.phases import CHOICES, read
from splatdistill.train.run_files import RunFiles, step_of

FLAGS = ("--viewer", "--no-viewer", "--wait", "--no-wait")  # of a page that would not be opened
STEPS = re.compile(r"[1-9][0-9]{0,6}")


def refuse_finished(argv: list[str]) -> None:
    """Raise UserError where all steps are done and every file is there. Whatever is not plainly so, such as other options, a
    configuration that was edited or a damaged checkpoint, is left to the subcommand, which looks closer.
    """
    words = dict(asked(argv))
    if "--resume" not in words or words.keys() - {"--resume", "--steps", *FLAGS} or not STEPS.fullmatch(words.get("--steps", "1")):
        return
    try:
        run = RunFiles(expanded(words["--resume"]))
        if not (checkpoints := run.checkpoints()):
            return
        note = read_note(newest := checkpoints[-1])
        settings = note.settings
        if settings is None or note.step != step_of(newest) or edited(run, settings):
            return
        with explained(newest):
            read_tensors(newest, note)
        steps = int(words.get("--steps") or settings["steps"])
        finished = note.step >= steps and run.finished(settings["particles"])
    except (UserError, KeyError, TypeError, ValueError):
        return
    if finished:
        raise UserError(has_done(run, note.step, steps))


def has_done(folder: RunFiles, done: int, asked: int) -> str:
    """Return the message that a run has done all the steps that it was asked for."""
    more = as_typed("splatdistill", "train", "--resume", folder.path, "--steps", 2 * done)
    return f"{folder.path} has done {done} steps, and {asked} were asked for; to go further, for example: {more}"


def asked(argv: list[str]) -> list[tuple[str, str]]:
    """Return the options with their values, "" for one that takes none; a word that belongs to none is an option too."""
    found, words = [], iter(argv)
    for word in words:
        name, given, value = word.partition("=")
        found.append((word, "") if name in FLAGS else (name, value if given else next(words, "")))
    return found


def edited(run: RunFiles, settings: Mapping[str, Any]) -> bool:
    """Return True unless config.yaml holds the settings of the newest checkpoint, but for those that the log says were steered, and
    those that phases set: then they are settings that the run has had, and need no check.
    """
    begun, now = dict(yaml.leaves(run.begun())), dict(yaml.leaves(dict(settings)))
    commands = [line["command"] for line in run.events() if line["event"] == "Applied"]
    changed = {command.get("path") for command in commands} | {path for said in begun.get("phases", ()) for path, _ in read(said).changes or ()}
    chosen = {command["part"] for command in commands if command["name"] == "Choose"} | changed & {*CHOICES}
    begun, now = ({path: value for path, value in each.items() if path.split(".")[0] not in chosen} for each in (begun, now))
    return begun.keys() != now.keys() or any(value != now[path] or type(value) is not type(now[path]) for path, value in begun.items() if path not in changed)
