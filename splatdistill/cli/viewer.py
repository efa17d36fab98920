"""Watching a run from a browser. The viewer is imported when it is wanted, and only then."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Protocol, runtime_checkable

import tyro
from rich.console import Console

from splatdistill.cli.console import watched
from splatdistill.errors import UserError
from splatdistill.settings import recipes, yaml
from splatdistill.settings.commands import CHOICES
from splatdistill.settings.layers import Beside
from splatdistill.settings.resolve import refuse_prompt
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.commands import Choose, Command, Commands, SetField
from splatdistill.train.events import Callback, Event
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant

PORT = 8080
WATCHED = ("viewer", "no_viewer", "wait", "no_wait", "port", "viewer_host")  # what is no part of a run


@runtime_checkable
class RunViewer(Protocol):
    """Interface of a run's viewer, as the run uses it."""

    def __call__(self, event: Event) -> None:
        """Handle an event."""

    def replay(self) -> None:
        """Write the film of the run."""

    def hold(self) -> None:
        """Serve the page until Ctrl-C."""

    def close(self) -> None:
        """Close the page."""


@runtime_checkable
class VariantsViewer(Protocol):
    """Interface of the page of variants, as the runs use it."""

    chosen: int | None  # which one is to be refined

    def callback(self, k: int) -> Callback:
        """Return what one of them calls."""
        ...

    def hold(self) -> None:
        """Serve the page until one is chosen, or Ctrl-C."""

    def hand_over(self) -> Any:
        """Return the server, cleared for the run that goes on."""

    def close(self) -> None:
        """Close the page."""


@runtime_checkable
class Corpus(Protocol):
    """Page of an amortised training, as far as that needs it."""

    def stepped(self, step: int) -> None:
        """Handle the end of a step."""

    def waits(self) -> None:
        """Serve the page during a pause."""

    def hold(self, how: str) -> None:
        """Serve the page until Ctrl-C."""

    def close(self) -> None:
        """Close the page."""


@dataclass(frozen=True)
class Watching:
    """Options of the live viewer."""

    viewer: bool = False
    wait: bool = True  # keep the page after the last step
    port: int = PORT
    server: Any = None  # of a page that is there already
    hosts: tuple[str, ...] = ()  # names beside this machine's own by which a browser may reach the page

    def __post_init__(self) -> None:
        checked_port(self.port)
        if self.hosts:
            from splatdistill_viewer.gate import checked_hosts

            checked_hosts(self.hosts)

    def open(self, session: Session, folder: RunDir, commands: Commands, console: Console) -> RunViewer | None:
        """Open the viewer of a run, if one is wanted; one that cannot be opened keeps no run from going."""
        if not self.viewer:
            return None

        def make(say: Callable[[str], None]) -> RunViewer:
            from splatdistill_viewer.run_page import RunPage

            prior = session.config.prior
            recipe, allowed = partial(choosing, prior, alone=not session.config.also), partial(words, prior)
            return RunPage(session, folder, commands, self.port, say, recipe, allowed, self.server, self.hosts)

        return opened(make, console)

    def corpus(self, session: AmortisedSession, folder: RunDir, commands: Commands, console: Console) -> "Corpus | None":
        """Open the page of an amortised training, if one is wanted and can be had."""
        if not self.viewer:
            return None

        def make(say: Callable[[str], None]) -> Corpus:
            from splatdistill_viewer.corpus_page import CorpusPage

            return CorpusPage(session, folder, commands, self.port, say, partial(words, session.config.prior), hosts=self.hosts)

        return opened(make, console)

    def choose(self, runs: Sequence[Variant], console: Console) -> VariantsViewer | None:
        """Open the page of several runs, if one is wanted and can be had."""
        if not self.viewer:
            return None

        def make(say: Callable[[str], None]) -> VariantsViewer:
            from splatdistill_viewer.variants_page import VariantsPage

            config = runs[0].session.config
            recipe, allowed = partial(choosing, config.prior, alone=not config.also), partial(words, config.prior)
            return VariantsPage(runs, self.port, say, recipe, allowed, self.hosts)

        return opened(make, console)


@dataclass(frozen=True)
class Watched(Beside):
    """Options of a subcommand whose run can be watched."""

    viewer: bool = field(default_factory=watched)
    """Watch and steer the run from a browser, at 127.0.0.1. By default where standard input and output are terminals, unless
    $CI or $SPLATDISTILL_NO_VIEWER is set."""
    wait: bool = True
    """Keep the viewer's page after the last step, until Ctrl-C."""
    port: int = PORT
    """Port of the viewer; one that is taken moves on to the next."""
    viewer_host: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Names beside 127.0.0.1 by which a browser reaches the viewer through a tunnel or a proxy: localhost:9000, box.lan."""

    @property
    def watching(self) -> Watching:
        """Return how the run is watched; UserError for a port or a host that is none."""
        return Watching(self.viewer, self.wait, self.port, hosts=self.viewer_host)


def checked_port(port: int) -> int:
    """Return a port that can be listened on; UserError for any other."""
    if not 1 <= port <= 65535:
        raise UserError(f"--port lies within 1 and 65535, got {port}; left out it is {PORT}, or the next that is free")
    return port


def opened(make: Callable[[Callable[[str], None]], Any], console: Console) -> Any:
    """Return a page, with its address told; None if it could not be made, which is told as well."""

    def say(text: str) -> None:
        console.print(text, style="yellow")

    try:
        page = make(say)
    except UserError:
        raise
    except Exception as e:
        say(f"the viewer could not be opened, the run goes on without it: {type(e).__name__}: {e}")
        return None
    here, elsewhere = page.where
    console.print(f"watch and steer it at {here}  (from another machine: {elsewhere}  and then the same address there)")
    return page


def words(prior: str, prompt: str, negative: str) -> None:
    """Raise UserError for words on the page that would be refused on the command line; no words at all are for the run to refuse."""
    try:
        if prompt.strip():
            refuse_prompt(prompt, negative, recipes.family_of(prior))
    except UserError as e:
        raise UserError(str(e).splitlines()[0]) from None  # the rest says what to type there


def choosing(prior: str, name: str, alone: bool = True) -> Sequence[Command]:
    """Return the commands that go over to another guidance as its recipe for this prior has it. Several steps towards one target
    are ended before a guidance comes that has none, and begin after one that has. alone: no other guidance is added, whose
    gradient would have no target.
    """
    recipe = recipes.merged(recipes.recipe(recipes.family_of(prior), [name]))
    options = recipe.get("guidance", {})
    own = options.get(yaml.NAME) == name  # not that of the SDS recipe in its place
    has = {f.name for f in dataclasses.fields(CHOICES[0].find(name))}
    fields = tuple(yaml.leaves({k: v for k, v in options.items() if k in has})) if own else ()
    commands: list[Command] = [Choose("guidance", name, tuple((k, v) for k, v in fields if not isinstance(v, list)))]
    inner = int(recipe.get("inner", 1)) if own and alone else 1
    commands.insert(1 if inner > 1 else 0, SetField("inner", inner))
    if own and "guidance_weight" in recipe:
        commands.append(SetField("guidance_weight", float(recipe["guidance_weight"])))
    return commands
