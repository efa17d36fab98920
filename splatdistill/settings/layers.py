"""From a command line to a configuration, by layers: what a class defaults to, then the recipe of the prior and the
guidance, then --config FILE, then the options typed. Every layer is a command line, read by one parser.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from splatdistill.checks import BadValue, annotations, described, shown
from splatdistill.errors import UserError
from splatdistill.settings import recipes, yaml
from splatdistill.settings.classes import Choice
from splatdistill.settings.command_line import command_line
from splatdistill.settings.documentation import documentation
from splatdistill.settings.options import Option, options_of, unknown
from splatdistill.settings.recipes import Family
from splatdistill.settings.values import converted, unchecked

TYPED = "command line"


@dataclass(frozen=True)
class Beside:
    """Options that are no part of a configuration; a subcommand may have more."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run directory; by default runs/ and the prompt. One that exists gets a number."""
    config_file: Annotated[str | None, tyro.conf.arg(name="config", metavar="FILE")] = None
    """A YAML file of options, above the recipe and below those typed; or the name of one that comes with the package, such as `fast`."""


@dataclass(frozen=True)
class Subcommand:
    """Subcommand whose options are a configuration."""

    name: str
    config: type
    choices: tuple[Choice, ...]  # the fields of `config` that are one; the first is the guidance
    takes: tuple[str, ...] | None = None  # what it takes from a recipe for splats; None is all of it
    leaves: tuple[str, ...] = ()  # of that, what means nothing to it
    beside: type = Beside  # or more than its options
    others: Mapping[str, type] = field(default_factory=dict)  # configurations of other subcommands, whose options are confused with its own

    def of(self, options: yaml.Tree) -> yaml.Tree:
        """Return the part of a recipe that concerns it."""
        taken = options if self.takes is None else {k: v for k, v in options.items() if k in self.takes}
        return {
            k: {i: u for i, u in v.items() if f"{k}.{i}" not in self.leaves} if isinstance(v, dict) else v
            for k, v in taken.items()
        }


@dataclass(frozen=True)
class Parsed:
    """Configuration, the source of each of its values, and the options beside it."""

    config: Any  # of the subcommand's class
    spell: Mapping[str, str]  # how the class of each choice is asked for
    chosen_by: Mapping[str, str]  # dotted path -> who; what is not in it is a default
    beside: Beside = Beside()

    def yaml(self, heading: list[str]) -> str:
        """Return the whole configuration as a file that --config reads."""
        return yaml.write(yaml.to_tree(self.config, self.spell), self.chosen_by, heading)


@dataclass(frozen=True)
class Layer:
    """Source of options: a file, or a person."""

    who: str
    options: yaml.Tree  # of a file
    argv: tuple[str, ...] = ()  # of a person

    def asks(self, choice: Choice) -> str | None:
        """Return the spelling of the class that this layer wants for a choice, if it says."""
        if self.argv:
            return peek(list(self.argv), f"--{choice.field}")
        said = self.options.get(choice.field)
        said = said.get(yaml.NAME) if isinstance(said, dict) else said
        return None if said is None else str(said)

    def names(self, path: str) -> bool:
        """Return whether this layer has a value for an option."""
        return path in yaml.paths_in(list(self.argv)) or dict(yaml.leaves(self.options)).get(path) is not None

    def without(self, field: str) -> "Layer":
        """Return the layer without its options for a choice: they were meant for another class."""
        return dataclasses.replace(self, options={k: v for k, v in self.options.items() if k != field})

    def fitting(self, kinds: Mapping[str, type]) -> "Layer":
        """Return the layer without those options of a class that it does not name which the chosen class does not have."""
        has = {field: {f.name for f in dataclasses.fields(kind)} for field, kind in kinds.items()}

        def fits(field: str, value: Any) -> Any:
            if field not in has or not isinstance(value, dict) or yaml.NAME in value:
                return value
            return {name: v for name, v in value.items() if name in has[field]}

        return dataclasses.replace(self, options={k: fits(k, v) for k, v in self.options.items()})


def peek(argv: list[str], option: str) -> str | None:
    """Return the value of the last `option value` or `option=value`, without judging the rest."""
    value = None
    for word, after in zip(argv, [*argv[1:], ""]):
        if word.split("=")[0] == option:
            value = word.split("=", 1)[1] if "=" in word else after
    return value


def parse(
    argv: list[str],
    family: Callable[[str], Family | Layer | None],
    command: Subcommand,
    kinds: Mapping[str, type] = {},
    earlier: Sequence[Layer] = (),
) -> Parsed:
    """Read the options of a subcommand.

    family: of the prior that was asked for, or its own lowest layer; it may raise for one that cannot be had. None
    means no recipe.
    kinds: classes that are already chosen, by field, whatever the options say.
    earlier: layers above the recipe and below --config, such as the settings of a run that another one begins with.
    Raises UserError; SystemExit with status 0 after --help.
    """
    layers = [Layer(TYPED, {}, tuple(argv))] if argv else []
    if file := peek(argv, "--config"):
        layers.insert(0, Layer(file, recipes.asked(file)))
    layers = [*earlier, *layers]
    asked = [peek(argv, "--prior"), *(la.options.get("prior") for la in reversed(layers))]
    prior = str(next((p for p in asked if p is not None), "auto"))
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
    paths = recipes.recipe(family, command.choices[0].ancestry(chosen_class(command.choices[0], above, kinds, command)))
    *base, own = (Layer(recipes.label(path), command.of(yaml.read(path))) for path in paths)
    chosen = {c.field: chosen_class(c, [*base, own, *above], kinds, command) for c in command.choices}
    picture = recipes.pictured(family) if any(la.names("image.path") for la in above) else None
    shown = [Layer(recipes.label(picture), command.of(yaml.read(picture))).fitting(chosen)] if picture else []
    return [*(layer.fitting(chosen) for layer in base), own, *shown]


def chosen_class(choice: Choice, layers: list[Layer], kinds: Mapping[str, type], command: Subcommand) -> type:
    """Return the class that the layers choose: the last one that says has its way."""
    asked = [name for la in layers if (name := la.asks(choice)) is not None]
    default = type(getattr(command.config(), choice.field))
    return kinds.get(choice.field) or (choice.find(asked[-1]) if asked else default)


def read(layers: list[Layer], kinds: Mapping[str, type], command: Subcommand) -> Parsed:
    """Return the configuration that the layers make, the later ones above the earlier: the files' values are merged, and the
    parser is called once, with what is typed, on the result.
    """
    kinds = {c.field: chosen_class(c, layers, kinds, command) for c in command.choices}
    for choice in command.choices:
        asked = [la.asks(choice) for la in layers]
        same = [a is None or choice.find(a) is kinds[choice.field] for a in asked]
        layers = [la if ok else la.without(choice.field) for la, ok in zip(layers, same)]
    shape = form(kinds, command)
    known = {o.path: o for o in options_of(command.config, kinds)}
    values: dict[str, Any] = {}
    chosen_by: dict[str, str] = {}
    argv: list[str] = []
    for layer in layers:
        argv += layer.argv
        said = {c.field for c in command.choices} & set(dict(yaml.leaves(layer.options)))
        chosen_by |= dict.fromkeys([*said, *yaml.paths_in(list(layer.argv))], layer.who)
        for path, value in values_in(layer, known, kinds, command):
            values[path], chosen_by[path] = value, layer.who
    try:
        here = command_line(shape, argv, f"splatdistill {command.name}", unchecked(shape(), values), kinds, command.choices, command.others)
        config, beside = (
            part(**{f.name: getattr(here, f.name) for f in dataclasses.fields(part)}) for part in (command.config, command.beside)
        )
    except BadValue as e:
        raise placed(e, shape, kinds, chosen_by) from None
    return Parsed(config, {c.field: c.spell(kinds[c.field]) for c in command.choices}, chosen_by, beside)


def values_in(
    layer: Layer, known: Mapping[str, Option], kinds: Mapping[str, type], command: Subcommand
) -> Iterator[tuple[str, Any]]:
    """Yield the values of a layer's file by the path of their option; UserError for one that there is none of, or that its option
    cannot have. The classes of choices are left out: they have been chosen.
    """
    for said, value in yaml.leaves(layer.options):
        if said in (c.field for c in command.choices):
            continue
        if said not in known:
            if any(k.startswith(f"{said}.") for k in known):
                raise UserError(f"{layer.who}: {said} has options of its own, got {shown(value)}; expected {said}: {{OPTION: VALUE}}")
            raise UserError(f"{layer.who}: {unknown(said, known, command.choices, kinds, command.others)}")
        try:
            yield said, converted(value, known[said].kind)
        except (ValueError, OverflowError):
            quotes = "; put it in quotes" if known[said].kind is str and isinstance(value, int | float) else ""
            raise UserError(f"{layer.who}: {said} must be {described(known[said].kind)}, got {shown(value)}{quotes}") from None


def placed(error: BadValue, shape: type, kinds: Mapping[str, type], chosen_by: Mapping[str, str]) -> UserError:
    """Return the error of a class about one of its fields with the way to the field, and who chose its value if nobody typed it."""
    homes = {kind: name for name, kind in parts_of(shape, kinds)}
    error = error.under(homes.get(error.owner, ""))
    who = chosen_by.get(error.path, TYPED)
    return error if who == TYPED else UserError(f"{error} (of {who})")


def parts_of(kind: type, kinds: Mapping[str, type], prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the dataclasses that sit in the fields of one, by dotted path."""
    for name, hint in annotations(kind).items():
        inner = kinds.get(f"{prefix}{name}", hint)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield f"{prefix}{name}", inner
            yield from parts_of(inner, {}, f"{prefix}{name}.")


def form(kinds: Mapping[str, type], command: Subcommand) -> Any:
    """Return the dataclass that the parser sees: the configuration with its choices made, and the options beside it."""
    annotations: dict[str, Any] = {}
    values: dict[str, Any] = {}
    told = documentation(command.config)
    for choice in command.choices:
        text = f"{', '.join(choice.names)}, or FILE.py:CLASS, a class of your own."
        named = f"{choice.field}_class"
        annotations[named] = Annotated[str, tyro.conf.arg(help=text, name=choice.field, metavar="NAME")]
        values[named] = field(default=choice.spell(kinds[choice.field]))
        annotations[choice.field] = Annotated[kinds[choice.field], tyro.conf.arg(help=told[choice.field])]
        values[choice.field] = field(default_factory=kinds[choice.field])
    body = {"__annotations__": annotations, "__doc__": command.config.__doc__, "__module__": command.config.__module__}
    return dataclass(frozen=True)(type(command.config.__name__, (command.beside, command.config), body | values))
