"""Places of an estimator's weights: a folder, what is embedded in this package, or the local hub cache. Nothing is
downloaded and nothing is replaced: what cannot be had is a WeightsError with the command that gets it.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from splatdistill.errors import UserError, WeightsError
from splatdistill.shell import as_typed
from splatdistill.weight_files import LARGEST, Unreadable, download_command, file_fault, first_line, shown, weight_files
from splatdistill.weight_files import read_object as bounded

PRIORS = Path(__file__).parents[1] / "priors"
TINY_GEOMETRY, TINY_CLIP, WORLD_GEOMETRY, WORLD_CLIP = "tiny-geometry", "tiny-clip", "world-geometry", "world-clip"
EMBEDDED_CLIPS = (TINY_CLIP, WORLD_CLIP)
FOLDERS = {
    TINY_GEOMETRY: PRIORS / "tiny" / "geometry",
    TINY_CLIP: PRIORS / "tiny" / "clip",
    WORLD_GEOMETRY: PRIORS / "world" / "geometry",
    WORLD_CLIP: PRIORS / "world" / "clip",
}
DPT, DEPTH_ANYTHING = "Intel/dpt-hybrid-midas", "depth-anything/Depth-Anything-V2-Small-hf"
MARIGOLD_NORMALS, CLIP = "prs-eth/marigold-normals-v1-1", "openai/clip-vit-large-patch14"
CLIP_B32 = "openai/clip-vit-base-patch32"

BESIDE = {"tiny": (TINY_GEOMETRY, TINY_CLIP), "world": (WORLD_GEOMETRY, WORLD_CLIP)}  # estimators that know what a prior knows

T = TypeVar("T")
Role = Literal["geometry", "clip"]
NAMES: Mapping[Role, str] = {"geometry": "estimator", "clip": "CLIP"}
ROLES: Mapping[str, Role] = {DPT: "geometry", DEPTH_ANYTHING: "geometry", MARIGOLD_NORMALS: "geometry", CLIP: "clip", CLIP_B32: "clip"}
RECOMMENDED: Mapping[Role, tuple[str, ...]] = {
    "geometry": (
        f"a folder, or a hub id such as {DPT}, {DEPTH_ANYTHING} (depth) or {MARIGOLD_NORMALS} (normals)",
        "a guidance without such a baseline, for example --guidance sds",
    ),
    "clip": (
        f"a folder of a CLIP in transformers' layout, or a hub id such as {CLIP_B32} or {CLIP}",
        f"{TINY_CLIP} or {WORLD_CLIP}, the small CLIPs of this package, for prompts of the toybox: of toys, and of toys and real objects",
    ),
}


def geometry_for(prior: str) -> str:
    """Return the estimator of shapes that `auto` stands for beside a prior, by its name."""
    return BESIDE.get(prior, (DPT, CLIP))[0]


def clip_for(prior: str) -> str:
    """Return the CLIP that `auto` stands for beside a prior, by its name."""
    return BESIDE.get(prior, (DPT, CLIP))[1]


def find(source: str, role: Role = "geometry") -> Path:
    """Return the folder of a source: one of FOLDERS, a folder, or a hub id in the local cache. Raises WeightsError.

    role: of the network that is wanted, for what is recommended in its place.
    """
    try:
        folder = FOLDERS.get(source, Path(source).expanduser())
        if (folder / "config.json").is_file() or (folder / "model_index.json").is_file():
            return folder
        is_folder = folder.is_dir()
    except (OSError, RuntimeError) as error:  # too long a name, no such user
        raise refusal(shown(source), "that can be no folder's name", role) from error
    if source in FOLDERS:
        raise refusal(source, f"the embedded {source} is not in this installation ({folder})", role)
    if is_folder:
        raise refusal(source, f"the folder {folder} holds neither config.json nor model_index.json", role)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise refusal(shown(source), f"there is no folder {shown(str(folder.absolute()), 200)}, and a hub id reads OWNER/NAME", role)
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "model_index.json"):
        file = try_to_load_from_cache(source, name)
        if isinstance(file, str):
            return Path(file).parent
    if (other := ROLES.get(source)) not in (None, role):
        raise refusal(source, f"it is a network of {other}, and one of {role} is wanted", role)
    raise refusal(source, f"there is no folder {folder}, and {source} is not in the local hub cache", role, hub=True)


def refusal(source: str, why: str, role: Role = "geometry", hub: bool = False) -> WeightsError:
    """Return the error that says which source was asked for, why it cannot be had, and what to do."""
    fixes = [f"{download_command(source)}   (then the same command again)"] if hub else []
    if source in (TINY_GEOMETRY, WORLD_GEOMETRY):
        more = ("--pack", "world.pack") if source == WORLD_GEOMETRY else ()
        fixes += [as_typed("python", "scripts/train_geometry.py", part, "--work", "geometry", *more) for part in ("data", "train", "export")]
        fixes[-1] += "   (one after the other, then give geometry/export)"
    fixes += RECOMMENDED[role]
    return WeightsError("\n".join([f"No weights for the {NAMES[role]} {source}: {why}.", "What to do, one of:", *(f"  {f}" for f in fixes)]))


def check(folder: Path, source: str, stem: str = "model", role: Role = "geometry") -> None:
    """Raise WeightsError unless a folder with a config.json has whole safetensors beside it, its own or shared."""
    try:
        files = weight_files(folder, stem)
    except Unreadable as error:
        raise refusal(source, str(error), role) from error
    if not files:
        raise refusal(source, f"{folder} has no {stem}.safetensors; pickled weights are not read", role)
    for file in files:
        if fault := file_fault(folder, file):
            raise refusal(source, f"{folder}: {fault}", role)


def read_json(file: Path, source: str, role: Role = "geometry") -> dict[str, Any]:
    """Return a configuration; WeightsError if it cannot be read."""
    try:
        return bounded(file)
    except Unreadable as error:
        raise refusal(source, f"{file} {error}", role) from error


def attempt(source: str, load: Callable[[], T], role: Role = "geometry") -> T:
    """Load a network; WeightsError with the first line of whatever a library raises over its folder."""
    try:
        return load()
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise refusal(source, f"it cannot be loaded ({first_line(error)})", role) from error


def called(folder: Path) -> str:
    """Return the name in a folder's training.json, or else the folder's own."""
    try:
        return shown(bounded(folder / "training.json", LARGEST).get("name", folder.resolve().name))
    except Unreadable:
        return folder.resolve().name
