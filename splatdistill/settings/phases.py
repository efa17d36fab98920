"""Phases by their names: configs/<family>/phases/<name>.yaml says how long one is and what it sets."""

import dataclasses
from collections.abc import Mapping

from splatdistill.checks import shown
from splatdistill.errors import UserError
from splatdistill.settings import recipes, yaml
from splatdistill.settings.recipes import Family
from splatdistill.train.config import Train
from splatdistill.train.phases import FORM, SHARE, Phase, read

OF_GUIDANCE = ("guidance", "guidance_weight")  # what a phase takes of the recipe of another guidance than the run's


def known(family: Family) -> dict[str, yaml.Tree]:
    """Return the options of a family's phases, by their names."""
    return {path.stem: yaml.read(path) for path in sorted((recipes.folder() / family / "phases").glob("*.yaml"))}


def named(name: str, family: Family) -> Phase:
    """Return a family's phase; UserError for a name that has none."""
    there = known(family)
    if name not in there:
        raise UserError(f"there is no phase {shown(name)} for the prior's family {family}; there are {', '.join(there)}. Expected {FORM}")
    values = dict(yaml.leaves(complete(there[name], family)))
    share = values.pop(SHARE, 1.0)
    return read(Phase(name, float(share), tuple(values.items())).text())


def complete(options: yaml.Tree, family: Family) -> yaml.Tree:
    """Return options with those of the recipe of the guidance that they name, beneath."""
    said = options.get("guidance")
    name = said.get(yaml.NAME) if isinstance(said, Mapping) else said
    if name is None:
        return options
    below = recipes.merged([path for path in recipes.recipe(family, [str(name)]) if path.stem == str(name)])
    own = said if isinstance(said, dict) else {yaml.NAME: name}
    parts = {k: v for k, v in below.items() if k in OF_GUIDANCE}
    return parts | options | {"guidance": recipes.over(parts.get("guidance", {}), own)}


def lengthened(config: Train, chosen_by: Mapping[str, str]) -> Train:
    """Return a configuration with as many steps as its phases take together where a recipe chose them: a phase of share 1 has the
    recipe's. Steps that were typed are divided among the phases.
    """
    if not config.phases or not chosen_by.get("steps", "recipe").startswith("recipe"):
        return config
    return dataclasses.replace(config, steps=max(1, round(config.steps * sum(read(said).share for said in config.phases))))


def looked_up(config: Train, family: Family) -> Train:
    """Return a configuration whose phases say all that they set, so that it means the same with other recipes."""
    texts = tuple(said if read(said).changes is not None else named(read(said).name, family).text() for said in config.phases)
    return dataclasses.replace(config, phases=texts)
