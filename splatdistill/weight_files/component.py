"""The files of one network's folder: one file of weights, several behind an index, or a part of a shared one."""

from pathlib import Path

from splatdistill.weight_files.bounded_json import LARGEST, Unreadable, read_object, shown
from splatdistill.weight_files.headers import Entry, read_header
from splatdistill.weight_files.shared_weights import SharedWeights

MOST_SHARDS = 1000


def weight_files(folder: Path, stem: str, variant: str | None = None) -> list[Path]:
    """Return the safetensors of one network and variant that its index, or the plain name, calls for; [] when absent.

    Raises Unreadable for an index that is none.
    """
    middle = f".{variant}" if variant else ""
    index = folder / f"{stem}.safetensors.index{middle}.json"
    if index.exists() or index.is_symlink():
        return shards(index)
    single = folder / f"{stem}{middle}.safetensors"
    shared = None if variant else SharedWeights.of(folder)
    return [single] if single.exists() or single.is_symlink() else [shared.file] if shared else []


def shards(index: Path) -> list[Path]:
    """Return the files that an index names, all of them beside it. Raises Unreadable."""
    try:
        names = read_object(index, LARGEST).get("weight_map")
        if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
            raise Unreadable("has no weight_map of file names")
    except Unreadable as error:
        raise Unreadable(f"{index.parent.name}/{index.name} {error}") from error
    files = sorted(set(names.values()))
    outside = [n for n in files if Path(n).name != n or not n.endswith(".safetensors")]
    if outside or len(files) > MOST_SHARDS:
        what = f"names {shown(outside[0])}" if outside else f"names {len(files):,} files"
        raise Unreadable(f"{index.parent.name}/{index.name} {what}; expected safetensors in the same folder")
    return [index.parent / n for n in files]


def tensors(folder: Path, stem: str, variant: str | None = None) -> dict[str, Entry]:
    """Return the headers' entries of all tensors of one network and variant; {} when absent. Raises Unreadable."""
    files = weight_files(folder, stem, variant)
    shared = SharedWeights.of(folder)
    if shared and files == [shared.file]:
        return shared.header()
    found: dict[str, Entry] = {}
    for file in files:
        found |= read_header(file)
    return found


def file_fault(folder: Path, file: Path) -> str:
    """Return the reason why a file of weights cannot be read, with its name; "" if it can."""
    try:
        read_header(file)
    except Unreadable as error:
        pointed = file.parent != folder
        return f"weights.json points to {shown(str(file), 200)}, which {error}" if pointed else f"{shown(file.name)} {error}"
    return ""
