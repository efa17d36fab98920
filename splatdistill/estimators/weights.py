"""Where an estimator's weights are: a folder, what is embedded in this package, or the local hub cache. Nothing is
downloaded and nothing is replaced: what cannot be had is a WeightsError with the command that gets it.
"""

import json
import re
from pathlib import Path
from typing import Any

from splatdistill.errors import WeightsError
from splatdistill.weight_files import POINTER

EMBEDDED = Path(__file__).parents[1] / "priors" / "tiny"
TINY_GEOMETRY, TINY_CLIP = "tiny-geometry", "tiny-clip"
FOLDERS = {TINY_GEOMETRY: EMBEDDED / "geometry", TINY_CLIP: EMBEDDED / "clip"}
DPT, DEPTH_ANYTHING = "Intel/dpt-hybrid-midas", "depth-anything/Depth-Anything-V2-Small-hf"
MARIGOLD_NORMALS, CLIP = "prs-eth/marigold-normals-v1-1", "openai/clip-vit-large-patch14"


def find(source: str) -> Path:
    """The folder of a source: one of FOLDERS, a folder, or a hub id in the local cache. Raises WeightsError."""
    folder = FOLDERS.get(source, Path(source).expanduser())
    if (folder / "config.json").is_file() or (folder / "model_index.json").is_file():
        return folder
    if source in FOLDERS:
        raise refusal(source, f"the embedded {source} is not in this installation ({folder})")
    if folder.is_dir():
        raise refusal(source, f"the folder {folder} holds neither config.json nor model_index.json")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise refusal(source, f"there is no folder {folder.absolute()}, and a hub id reads OWNER/NAME")
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "model_index.json"):
        file = try_to_load_from_cache(source, name)
        if isinstance(file, str):
            return Path(file).parent
    raise refusal(source, f"there is no folder {folder}, and {source} is not in the local hub cache", hub=True)


def refusal(source: str, why: str, hub: bool = False) -> WeightsError:
    """What was asked for, why it cannot be had, and what to do."""
    fixes = [f'hf download {source} --include "*.json" "*.safetensors"   (then the same command again)'] if hub else []
    if source == TINY_GEOMETRY:
        fixes.append("python scripts/train_geometry.py data, train and export, then give its export folder")
    fixes += [
        f"a folder, or a hub id such as {DPT}, {DEPTH_ANYTHING} (depth) or {MARIGOLD_NORMALS} (normals)",
        "a guidance without such a baseline, for example --guidance sds",
    ]
    return WeightsError("\n".join([f"No weights for the estimator {source}: {why}.", "What to do, one of:", *(f"  {f}" for f in fixes)]))


def check(folder: Path, source: str, stem: str = "model") -> None:
    """WeightsError unless a folder with a config.json has safetensors beside it, its own or shared."""
    names = (f"{stem}.safetensors", f"{stem}.safetensors.index.json", POINTER)
    if not any((folder / n).is_file() for n in names):
        raise refusal(source, f"{folder} has no {names[0]}; pickled weights are not read")


def read_json(file: Path, source: str) -> dict[str, Any]:
    """A configuration; WeightsError if it cannot be read."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as e:
        raise refusal(source, f"{file} cannot be read ({e})") from e
