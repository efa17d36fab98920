"""Recipes: what belongs to a family of priors and a budget, as YAML files of options.

configs/<family>/<guidance>.yaml, where the family is `tiny` (the embedded prior) or `sd` (Stable Diffusion weights).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Family = Literal["tiny", "sd"]


def folder() -> Path:
    """Where the recipes are: configs/ of the repository, or the copy of it inside an installed package."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def recipe(family: Family, guidances: Sequence[str]) -> Path:
    """The recipe of the first of these guidances that has one, else that of SDS."""
    there = (folder() / family / f"{name}.yaml" for name in (*guidances, "sds"))
    return next(path for path in there if path.is_file())


def label(path: Path) -> str:
    """What a configuration says of values that came from this recipe."""
    return f"recipe {path.parent.name}/{path.stem}"
