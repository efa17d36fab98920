"""Recipes: the options that suit a family of priors and a budget, as YAML files.

configs/<family>/base.yaml holds what the methods share, configs/<family>/<guidance>.yaml what one of them has different; the
family is `tiny` or `world` (the embedded priors) or `sd` (Stable Diffusion weights).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from splatdistill.checks import shown
from splatdistill.errors import UserError
from splatdistill.settings import yaml
from splatdistill.settings.files import expanded, is_file

Family = Literal["tiny", "world", "sd"]
DEFAULT: Family = "world"  # of the embedded prior that `auto` takes
BASE = "base"


def family_of(prior: str) -> Family:
    """Return the family of a prior by its name: an embedded one's own, else Stable Diffusion's."""
    return prior if prior == "tiny" or prior == "world" else "sd"


def folder() -> Path:
    """Return configs/ of the repository, or the copy of it inside an installed package."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def recipe(family: Family, guidances: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a recipe, the lowest first: the family's base, then the file of the first of these guidances that
    has one, else that of SDS.
    """
    there = (folder() / family / f"{name}.yaml" for name in (*guidances, "sds"))
    base = folder() / family / f"{BASE}.yaml"
    return (*((base,) if base.is_file() else ()), next(path for path in there if path.is_file()))


def pictured(family: Family) -> Path | None:
    """Return the file of what a family's recipes change where a picture is the prompt; None where there is none."""
    path = folder() / "image" / f"{family}.yaml"
    return path if path.is_file() else None


def extra() -> dict[str, Path]:
    """Return the files of configs/extra by their names."""
    return {path.stem: path for path in sorted((folder() / "extra").glob("*.yaml"))}


def asked(source: str) -> yaml.Tree:
    """Return the options that --config names: a file, or a name of `extra`. UserError for neither."""
    path, names = expanded(source), extra()
    if not is_file(path):
        if source in names:
            return yaml.read(names[source])
        if not path.suffix and path.name == source:
            raise UserError(f"--config {shown(source)}: there is no such file, and none of this name comes with the package: {', '.join(names)}")
    return yaml.read(path)


def over(below: yaml.Tree, above: yaml.Tree) -> yaml.Tree:
    """Return options above others as one tree."""
    both = {k: over(below[k], v) if isinstance(v, dict) and isinstance(below.get(k), dict) else v for k, v in above.items()}
    return below | both


def merged(paths: Sequence[Path]) -> yaml.Tree:
    """Return the options of a recipe's files as one tree, the later files above the earlier."""
    whole: yaml.Tree = {}
    for path in paths:
        whole = over(whole, yaml.read(path))
    return whole


def label(path: Path) -> str:
    """Return what a configuration says of values that came from this file."""
    return f"recipe {path.parent.name}/{path.stem}"
