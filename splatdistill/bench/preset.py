"""Benches by name: YAML files of prompts, arms, seeds and a budget. Every key is read, and every other one refused."""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from splatdistill.errors import UserError
from splatdistill.settings.recipes import folder

Needs = Literal["toybox", "real", "any"]
Budget = Literal["recipe", "steps", "calls", "seconds"]


@dataclass(frozen=True)
class Listed:
    """Arm of a preset."""

    method: str  # how it is asked for: sdi[eta=0]
    name: str = ""  # what tables call it; by default what it is asked for
    share: float = 1.0  # of the budget
    about: str = ""
    corpus: str = ""  # of the network that makes its splats, as `amortise --corpus` has it; without one each prompt is a run by itself
    polish: int = 0  # steps on the splats of each prompt that such a network has made
    line: str = ""  # methods that share it are points of one line over network images a prompt


@dataclass(frozen=True)
class Preset:
    """Bench with a name, which `--preset` runs."""

    about: str = ""
    needs: Needs = "any"  # what the prompts ask of a prior
    prior: str = "auto"
    prompts: tuple[str, ...] = ()
    arms: tuple[Listed, ...] = ()
    arms_sd: tuple[Listed, ...] = ()  # with Stable Diffusion weights; by default the same
    seeds: tuple[int, ...] = (0,)
    budget: Budget = "recipe"
    amount: float = 0.0  # of the budget: steps, images that networks are asked about, or seconds
    amount_sd: float = 0.0  # with Stable Diffusion weights; by default the same
    points: int = 8  # of each convergence curve


def presets() -> dict[str, Preset]:
    """Return the benches that are known by name."""
    return {path.stem: read(path) for path in sorted((folder() / "bench").glob("*.yaml"))}


def read(path: Path) -> Preset:
    """Read a preset's file; UserError for one that is none."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"could not read {path}: {e.strerror or e}; expected a YAML file of a bench") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not YAML: {' '.join(str(e).split())}") from e
    if not isinstance(said, dict):
        raise UserError(f"{path} holds no keys; expected prompts, arms and so on")
    return made(said, path)


def made(said: dict[str, Any], path: Path) -> Preset:
    """Return the preset that a file describes."""
    known = [f.name for f in dataclasses.fields(Preset)]
    for key in said:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            raise UserError(
                f"{path}: there is no key {key!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}")
            )
    for key, allowed in (("needs", get_args(Needs)), ("budget", get_args(Budget))):
        if key in said and said[key] not in allowed:
            raise UserError(f"{path}: {key} is one of {', '.join(allowed)}; got {said[key]!r}")
    lists = {key: listed(said[key], key, path) for key in ("arms", "arms_sd") if key in said}
    for key, kind in (("prompts", str), ("seeds", int)):
        if key in said and not (isinstance(said[key], list) and all(isinstance(v, kind) for v in said[key])):
            raise UserError(f"{path}: {key} is a list of {kind.__name__} values")
    for key in ("amount", "amount_sd"):
        if key in said and not isinstance(said[key], int | float):
            raise UserError(f"{path}: {key} is a number; got {said[key]!r}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in {**said, **lists}.items()}
    return Preset(**values)


def listed(said: Any, key: str, path: Path) -> list[Listed]:
    """Return the arms of a file: words, or groups of method, name, share and about."""
    known = {f.name for f in dataclasses.fields(Listed)}
    if not isinstance(said, list):
        raise UserError(f"{path}: {key} is a list of arms, such as `- sds`")
    arms = []
    for one in said:
        group: Any = {"method": one} if isinstance(one, str) else one
        if isinstance(group, dict) and "of" in group:  # as files of earlier versions have it
            group = {"method": group["of"], **{k: v for k, v in group.items() if k != "of"}}
        if not isinstance(group, dict) or "method" not in group or set(group) - known:
            raise UserError(
                f"{path}: {key} holds {one!r}; expected a method, or a group of {', '.join(sorted(known))} with `method`"
            )
        polish = group.get("polish", 0)
        if type(polish) is not int or polish < 0 or (polish and not group.get("corpus")):
            raise UserError(f"{path}: polish is a number of steps on what the network of a `corpus` makes; got {one!r}")
        arms.append(Listed(**group))
    return arms
