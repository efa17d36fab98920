"""From a command line to a configuration, by layers: what a class defaults to, then the recipe of the prior and the
guidance, then --config FILE, then the options typed. Every layer is a command line, read by one parser.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from splatdistill.cli import recipes, tree
from splatdistill.cli.choices import CHOICES, Choice
from splatdistill.cli.recipes import Family
from splatdistill.cli.watching import PORT, Watching, person
from splatdistill.errors import UserError
from splatdistill.train.config import Train

TYPED = "command line"


@dataclass(frozen=True)
class Subcommand:
    """A subcommand whose options are a configuration."""

    name: str = "train"
    config: type = Train
    choices: tuple[Choice, ...] = CHOICES  # the fields of `config` that are one; the first is the guidance
    takes: tuple[str, ...] | None = None  # what it takes from a recipe for splats; None is all of it
    leaves: tuple[str, ...] = ()  # of that, what means nothing to it
    out: str = "The run directory; by default runs/ and the prompt. One that exists gets a number."
    resumes: bool = True

    def of(self, options: tree.Tree) -> tree.Tree:
        """The part of a recipe that concerns it."""
        taken = options if self.takes is None else {k: v for k, v in options.items() if k in self.takes}
        return {
            k: {i: u for i, u in v.items() if f"{k}.{i}" not in self.leaves} if isinstance(v, dict) else v
            for k, v in taken.items()
        }


TRAIN = Subcommand()


@dataclass(frozen=True)
class Parsed:
    """A configuration, where each of its values came from, and what is not part of it."""

    config: Any  # of the subcommand's class
    spell: Mapping[str, str]  # how the class of each choice is asked for
    chosen_by: Mapping[str, str]  # dotted path -> who; what is not in it is a default
    out: Path | None
    watching: Watching = Watching()
    variants: int = 1

    def yaml(self, heading: list[str]) -> str:
        """The whole configuration as a file that --config reads."""
        return tree.write(tree.to_tree(self.config, self.spell), self.chosen_by, heading)


@dataclass(frozen=True)
class Layer:
    """One source of options."""

    who: str
    options: tree.Tree  # of a file
    argv: tuple[str, ...] = ()  # of a person

    def asks(self, choice: Choice) -> str | None:
        """Which class this layer wants for a choice, if it says."""
        if self.argv:
            return peek(list(self.argv), f"--{choice.field}")
        said = self.options.get(choice.field)
        said = said.get(tree.NAME) if isinstance(said, dict) else said
        return None if said is None else str(said)

    def without(self, field: str) -> "Layer":
        """The layer without its options for a choice: they were meant for another class."""
        return dataclasses.replace(self, options={k: v for k, v in self.options.items() if k != field})

    def fitting(self, kinds: Mapping[str, type]) -> "Layer":
        """Return the layer without those options of a class that it does not name which the chosen class does not have."""
        has = {field: {f.name for f in dataclasses.fields(kind)} for field, kind in kinds.items()}

        def fits(field: str, value: Any) -> Any:
            if field not in has or not isinstance(value, dict) or tree.NAME in value:
                return value
            return {name: v for name, v in value.items() if name in has[field]}

        return dataclasses.replace(self, options={k: fits(k, v) for k, v in self.options.items()})

    def line(self) -> list[str]:
        """The layer as a command line."""
        return [*tree.to_argv(self.options), *self.argv]


def peek(argv: list[str], option: str) -> str | None:
    """The value of the last `option value` or `option=value`, without judging the rest."""
    value = None
    for word, after in zip(argv, [*argv[1:], ""]):
        if word.split("=")[0] == option:
            value = word.split("=", 1)[1] if "=" in word else after
    return value


def parse(
    argv: list[str],
    family: Callable[[str], Family | Layer | None],
    kinds: Mapping[str, type] = {},
    command: Subcommand = TRAIN,
) -> Parsed:
    """Read the options of a subcommand.

    family: of the prior that was asked for, or its own lowest layer; it may raise for one that cannot be had. None
    means no recipe.
    kinds: classes that are already chosen, by field, whatever the options say.
    Raises UserError, or SystemExit with status 2 after the parser has said what is wrong with an option.
    """
    layers = [Layer(TYPED, {}, tuple(argv))] if argv else []
    if file := peek(argv, "--config"):
        layers.insert(0, Layer(file, tree.read(Path(file).expanduser())))
    prior = str(
        next((p for p in (peek(argv, "--prior"), *(la.options.get("prior") for la in layers)) if p is not None), "auto")
    )
    kind = family(prior)
    if isinstance(kind, Layer):
        layers.insert(0, kind.fitting({c.field: chosen_class(c, layers, kinds, command) for c in command.choices}))
    elif kind is not None:
        layers = recipe_layers(kind, layers, kinds, command) + layers
    return read(layers, kinds, command)


def recipe_layers(family: Family, above: list[Layer], kinds: Mapping[str, type], command: Subcommand) -> list[Layer]:
    """Return the layers of the recipe for the guidance that the layers above choose. A class of one's own takes the recipe of
    the one it is derived from, but not that one's options. What the family's base says of a guidance or another choice
    without naming a class holds for every class that has such an option.
    """
    paths = recipes.recipe(family, CHOICES[0].ancestry(chosen_class(CHOICES[0], above, kinds, command)))
    *base, own = (Layer(recipes.label(path), command.of(tree.read(path))) for path in paths)
    chosen = {c.field: chosen_class(c, [*base, own, *above], kinds, command) for c in command.choices}
    return [*(layer.fitting(chosen) for layer in base), own]


def chosen_class(choice: Choice, layers: list[Layer], kinds: Mapping[str, type], command: Subcommand) -> type:
    """The class that the layers choose: the last one that says has its way."""
    asked = [name for la in layers if (name := la.asks(choice)) is not None]
    default = type(getattr(command.config(), choice.field))
    return kinds.get(choice.field) or (choice.find(asked[-1]) if asked else default)


def read(layers: list[Layer], kinds: Mapping[str, type], command: Subcommand) -> Parsed:
    """The configuration that the layers make, the later ones above the earlier."""
    kinds = {c.field: chosen_class(c, layers, kinds, command) for c in command.choices}
    for choice in command.choices:
        asked = [la.asks(choice) for la in layers]
        same = [a is None or choice.find(a) is kinds[choice.field] for a in asked]
        layers = [la if ok else la.without(choice.field) for la, ok in zip(layers, same)]
    shape = form(kinds, command)
    here = shape(**{k: kind() for k, kind in kinds.items()})
    chosen_by: dict[str, str] = {}
    for layer in layers:
        try:
            here = tyro.cli(shape, args=layer.line(), default=here, prog=f"splatdistill {command.name}")
        except SystemExit as e:
            if e.code and layer.who != TYPED:
                raise UserError(f"that was in {layer.who}, which is read as a saved command line") from None
            raise
        chosen_by |= dict.fromkeys(tree.paths_in(layer.line()), layer.who)
    config = command.config(**{f.name: getattr(here, f.name) for f in dataclasses.fields(command.config)})
    watching = Watching(here.viewer, here.wait, here.port) if command.resumes else Watching()
    variants = here.variants if command.resumes else 1
    return Parsed(config, {c.field: c.spell(kinds[c.field]) for c in command.choices}, chosen_by, here.out, watching, variants)


def form(kinds: Mapping[str, type], command: Subcommand) -> Any:
    """The configuration with its choices made, as the dataclass that the parser sees; and the options beside the configuration."""

    def option(kind: Any, default: Any, text: str, **more: str) -> tuple[Any, Any]:
        return Annotated[kind, tyro.conf.arg(help=text, **more)], field(default=default)

    own = "or FILE.py:CLASS, a class of your own"
    extra: dict[str, tuple[Any, Any]] = {
        "out": option(
            Path | None,
            None,
            command.out,
            metavar="DIR",
        ),
        "config_file": option(
            str | None,
            None,
            "A YAML file of options, above the recipe and below those typed.",
            name="config",
            metavar="FILE",
        ),
    }
    if command.resumes:
        extra["resume"] = option(
            str | None, None, "Go on with the run in this directory, with the options it began with.", metavar="DIR"
        )
        extra["replay"] = option(
            str | None, None, "Repeat the run in this directory with every command that its log holds.", metavar="DIR"
        )
        extra["refine"] = option(
            str | None, None, "Go on from the splats of the finished run in this directory at a higher setting: a new run.", metavar="DIR"
        )
        extra["variants"] = option(int, 1, "Train so many seeds side by side, to choose one that --refine goes on with.")
        watched = "Watch and steer the run from a browser, at 127.0.0.1. By default where standard input and output are"
        extra["viewer"] = option(bool, person(), f"{watched} terminals, unless $CI or $SPLATDISTILL_NO_VIEWER is set.")
        extra["wait"] = option(bool, True, "Keep the viewer's page after the last step, until Ctrl-C.")
        extra["port"] = option(int, PORT, "Of the viewer; one that is taken moves on to the next.")
    for choice in command.choices:
        text = f"{', '.join(choice.names)}, {own}."
        extra[f"{choice.field}_class"] = option(
            str, choice.spell(kinds[choice.field]), text, name=choice.field, metavar="NAME"
        )
        extra[choice.field] = (kinds[choice.field], field(default_factory=kinds[choice.field]))
    body = {
        "__annotations__": {k: v[0] for k, v in extra.items()},
        "__doc__": command.config.__doc__,
        "__module__": command.config.__module__,
    }
    values = body | {k: v[1] for k, v in extra.items()}
    return dataclass(frozen=True)(type(command.config.__name__, (command.config,), values))
