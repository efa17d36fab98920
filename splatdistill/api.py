"""`train` from Python: the same recipes, with objects in the place of options.

    result = splatdistill.distil(prompt="a red mushroom", guidance=SDI(), steps=300)
    session = splatdistill.session(prompt="a red mushroom")  # and session.step(), session.render(...)

In a notebook a result, and a session, are shown as pictures.

As on the command line, what is left at a class's default is for the recipe to choose: `SDI()` and `--guidance sdi`
mean the same. `Session(Train(...), prior)` takes everything literally.
"""

import dataclasses
import difflib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from splatdistill import __version__
from splatdistill.gaussians import Gaussians
from splatdistill.guidance import Guidance
from splatdistill.io.atomic import write_text
from splatdistill.io.inline import figure
from splatdistill.settings import yaml
from splatdistill.settings.commands import CHOICES, parse_train
from splatdistill.settings.layers import Parsed
from splatdistill.settings.phases import lengthened
from splatdistill.settings.resolve import Weights, changed, refuse_prompt, resolved
from splatdistill.train.begin import begin
from splatdistill.train.commands import Commands
from splatdistill.train.config import Train
from splatdistill.train.events import Callback, Ended
from splatdistill.train.finish import Artefacts
from splatdistill.train.loop import run
from splatdistill.train.notebook import NotebookProgress, in_notebook
from splatdistill.train.progress import Progress
from splatdistill.train.reference import Reference
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.tracking import available, trackers

HERE = "Python"


@dataclass(frozen=True)
class Result:
    """Outcome of `distil`: how the run ended, its files, and its folder."""

    ended: Ended
    files: Artefacts | None
    folder: Path

    def __repr__(self) -> str:
        return f"Result({self.ended.message}, {len(self.gaussians)} splats in {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Return the sheet of views with a line about the run, as notebooks show it."""
        sheet = self.files.sheet if self.files is not None else None
        return figure(repr(self), sheet.read_bytes() if sheet is not None and sheet.is_file() else None)

    @property
    def gaussians(self) -> Gaussians:
        """Return the splats."""
        return self.ended.result


def distil(
    prompt: str,
    guidance: Guidance | str | None = None,
    *,
    out: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
    commands: Commands | None = None,
    progress: bool = True,
    track: str | None = None,
    **settings: Any,
) -> Result:
    """Make a whole run, as `splatdistill train`: a run directory with splats.ply, turntable.mp4 and sheet.png.

    settings: fields of `Train`. callbacks are told every event; commands is a queue to steer by. progress: show it, in a
    terminal or a notebook; elsewhere nothing is shown. track: "tensorboard" writes event files into the folder. Raises UserError for what a person can put right, RunEnded for a run
    that went wrong.
    """
    available(track)
    parsed, weights = settle(prompt, guidance, settings)
    going = begin(parsed.config, weights.find(parsed.config.prior))
    folder = RunDir.create(prompt, None if out is None else Path(out))
    going.config = folder.keep_picture(going.config)
    parsed = replace(parsed, config=going.config)
    write_text(
        folder.config,
        parsed.yaml([f"splatdistill {__version__}, from Python", weights.find(parsed.config.prior).notice]),
    )
    with shown(going, progress) as display:
        ended, files = run(going, folder, [*callbacks, *trackers(track, folder), *display], commands)
    return Result(ended, files, folder.path)


@contextmanager
def shown(going: Session, wanted: bool) -> Iterator[list[Callback]]:
    """Yield the callbacks that show a run's progress: one where there is a terminal or a notebook, else none."""
    steps, step = going.config.steps, going.state.step
    if wanted and in_notebook():
        yield [NotebookProgress(steps, step)]
    elif wanted and sys.stdout.isatty():
        with Progress(Console(markup=False, highlight=False, soft_wrap=True), steps, step) as bar:
            yield [bar]
    else:
        yield []


def session(prompt: str, guidance: Guidance | str | None = None, **settings: Any) -> Session:
    """Return the same run as a session to be stepped by hand; it writes nothing."""
    parsed, weights = settle(prompt, guidance, settings)
    return begin(parsed.config, weights.find(parsed.config.prior))


def settle(prompt: str, guidance: Guidance | str | None, settings: dict[str, Any]) -> tuple[Parsed, Weights]:
    """Return the configuration that recipe and arguments make, and the weights for it."""
    names = [f.name for f in dataclasses.fields(Train)]
    for name in settings:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise TypeError(
                f"there is no setting {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}")
            )
    given = {"prompt": prompt, **settings} | ({} if guidance is None else {"guidance": guidance})
    kinds = {c.field: type(given[c.field]) for c in CHOICES if isinstance(given.get(c.field), c.base)}
    argv = [f"--{k}={given[k]}" for k in ("prior", *(c.field for c in CHOICES)) if isinstance(given.get(k), str)]
    image: Any = given.get("image")
    pictured = isinstance(image, Reference) and image.path is not None
    argv += [f"--image.path={image.path}"] if pictured else []
    weights = Weights()
    parsed = parse_train(argv, weights.family, kinds=kinds)
    over = {k: v for k, v in given.items() if not (isinstance(v, str) and k in parsed.spell)}
    config = laid_over(parsed.config, over, Train())
    refuse_prompt(config.prompt, config.negative, weights.family(config.prior), pictured)
    found = weights.find(config.prior)
    if found.notice:
        warnings.warn(found.notice, stacklevel=3)
    final = lengthened(resolved(config, found), {**parsed.chosen_by, **dict.fromkeys(over, HERE)})
    here = dict(yaml.leaves(yaml.to_tree(config, parsed.spell)))
    before = dict(yaml.leaves(yaml.to_tree(parsed.config, parsed.spell)))
    chosen = {path: HERE for path, value in here.items() if before.get(path) != value}
    return replace(parsed, config=final, chosen_by={**parsed.chosen_by, **chosen, **changed(config, final)}), weights


def overlay(below: Any, above: Any, default: Any) -> Any:
    """Return `below` with every field that `above` has away from the default; parts of another class are taken whole."""
    if not (dataclasses.is_dataclass(above) and type(above) is type(below)):
        return above if above != default else below
    return laid_over(below, fields_of(above), default if type(default) is type(above) else type(above)())


def laid_over(below: Any, values: Mapping[str, Any], default: Any) -> Any:
    """Return a configuration, or a part of one, with those of these values that are away from the default. It is built, and
    checked, with all of them at once.
    """
    over = {name: overlay(getattr(below, name), value, getattr(default, name)) for name, value in values.items()}
    return replace(below, **over)


def fields_of(part: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name."""
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
