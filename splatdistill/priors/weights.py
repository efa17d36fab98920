"""Choice of a run's weights: found and checked before anything heavy is loaded, offline, in under a second.

A source is `auto`, `tiny` or `world` (embedded in this package), a folder, or a hub id. Nothing is ever replaced
silently: `auto` says what it chose and why, and an explicit source that cannot be had is a WeightsError with
what was looked for, why each place failed, and the commands that put it right.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from splatdistill.errors import WeightsError
from splatdistill.priors import DiffusionPrior, hub, single_file
from splatdistill.priors.families import SD3, XL, ZERO123, ModelFamily
from splatdistill.priors.layout import family_in, problems
from splatdistill.priors.precision import Precision, VaePrecision
from splatdistill.priors.refusal import unusable
from splatdistill.weight_files import shown

if TYPE_CHECKING:
    from splatdistill.priors.stable import StableDiffusionPrior

VARIABLE = "SPLATDISTILL_PRIOR"
TINY, WORLD = Path(__file__).parent / "tiny" / "prior", Path(__file__).parent / "world"
KNOWS = {"tiny": "only toys", "world": "only toys and some 200 real objects"}
EMBEDDED = tuple(KNOWS)
DEFAULT = "world"  # the one that auto takes
EMBEDDED_LICENCE = "Apache-2.0"
NOT_CACHED = "not in the local cache"


@dataclass(frozen=True)
class Tried:
    """Place that was searched, and its state."""

    where: str
    outcome: str


@dataclass(frozen=True)
class Found:
    """Weights that can be loaded."""

    path: Path
    name: str
    """Name in outputs: "tiny", "world", a hub id, a folder."""
    licence: str
    tried: tuple[Tried, ...] = ()
    notice: str = ""
    """Notice that the person must be told, and outputs must carry: set when `auto` chose the embedded prior."""
    configs: Path | None = None
    """Folder of the configurations of a single file; None for a folder, which has its own."""

    @property
    def embedded(self) -> str:
        """Return the name of the embedded weights that these are; "" for others."""
        return self.name if self.name in EMBEDDED and self.path == place_of(self.name) else ""


def find(source: str = "auto", *, download: bool = False, cuda: bool | None = None) -> Found:
    """Resolve `auto`, an embedded prior's name, a folder or a hub id to a checked local folder.

    auto takes, in this order: what SPLATDISTILL_PRIOR names; the first of hub.CANDIDATES in the hub cache, if
    there is CUDA to run it (cuda=None asks torch); the embedded prior, with a notice.
    download: fetch a hub id (with auto and CUDA: the first candidate) that is not in the cache; otherwise the
    network is only asked, for a second at most, why an explicit id is not to be had.
    Raises WeightsError.
    """
    if source == "auto":
        named = os.environ.get(VARIABLE, "").strip()
        if named and named != "auto":
            return explicit(named, download, f" ({VARIABLE})")
        return automatic(download, has_cuda() if cuda is None else cuda)
    return explicit(source, download)


def explicit(source: str, download: bool, origin: str = "") -> Found:
    """Return the weights that were asked for by name, or raise WeightsError. A folder wins over a hub id of the same spelling."""
    if source in EMBEDDED:
        return embedded((), name=source)
    if not source.strip():
        raise refusal(f"''{origin}", (Tried("the name", "is empty"),))
    try:
        folder = Path(source).expanduser()
        there = folder.exists()
    except (OSError, RuntimeError) as error:  # too long a name, no such user
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise refusal(f"{shown(source)}{origin}", (Tried("the name", f"can be no folder's ({why})"),)) from error
    if there and folder.is_file():
        found, faults = single_file.find(folder)
        if found is None:
            raise unusable(f"{source}{origin}", faults)
        place = Tried(f"file {folder}", f"complete, configurations in {found.configs}")
        return Found(folder.resolve(), source, hub.card_licence(found.configs), (place,), configs=found.configs.resolve())
    if there:
        faults = problems(folder)
        if faults:
            raise unusable(f"{source}{origin}", faults)
        return Found(folder.resolve(), source, hub.card_licence(folder), (Tried(f"folder {folder}", "complete"),))
    tried = (Tried(f"folder {folder}", "does not exist"),)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise refusal(f"{source}{origin}", (*tried, Tried("hub", "not a hub id, which reads OWNER/NAME")))
    if other := hub.other_model(source):
        raise unusable(f"{source}{origin}", (f"they are {other}",))
    place = look_in_cache(source, download)
    if isinstance(place, Found):
        return replace(place, tried=(*tried, *place.tried))
    if place.outcome == NOT_CACHED:
        gone = f"; its owner removed it, a copy is {hub.MIRRORS[source]}" if source in hub.MIRRORS else ""
        state = "removed from the hub" if gone else hub.remote_state(source)
        place = replace(place, outcome=f"{place.outcome if gone else state}{gone}")
    raise refusal(f"{source}{origin}", (*tried, place), repo=source)


def automatic(download: bool, cuda: bool) -> Found:
    """Return the first candidate weights in the hub cache where a GPU can run them; else the embedded prior, with a notice of
    the reason.
    """
    tried: list[Tried] = [Tried(f"the environment variable {VARIABLE}", "not set")]
    for repo in hub.CANDIDATES:
        place = look_in_cache(repo, download and cuda and repo == hub.CANDIDATES[0])
        if isinstance(place, Tried):
            tried.append(place)
        elif cuda:
            return replace(place, tried=(*tried, *place.tried))
        else:
            why = f"{repo} is here, but takes many hours a run without CUDA; --prior {repo} insists."
            return embedded((*tried, *place.tried), notice(why))
    torn = "".join(f" ({t.where}: {t.outcome})" for t in tried[1:] if t.outcome != NOT_CACHED)
    why = f"{'No' if cuda else 'No CUDA and no'} Stable Diffusion weights are here{torn}."
    return embedded(tuple(tried), notice(why))


def notice(why: str) -> str:
    """Return the line that is printed when auto takes the embedded prior."""
    return f"Using the embedded prior `{DEFAULT}`, which knows {KNOWS[DEFAULT]}. {why} `splatdistill doctor` says how to get real ones."


def look_in_cache(repo: str, download: bool) -> Found | Tried:
    """Return a repository in the local hub cache, after downloading it if that was asked for; or the reason why it is unusable."""
    where = f"hub cache, {repo}"
    folder = hub.cached(repo)
    if download and (folder is None or problems(folder)):
        failure = hub.fetch(repo)
        if failure:
            return Tried(f"hub, {repo}", failure)
        folder = hub.cached(repo)
    if folder is None:
        return Tried(where, NOT_CACHED)
    faults = problems(folder)
    if faults:
        return Tried(where, f"incomplete in {folder}: {'; '.join(faults)}")
    return Found(folder, repo, hub.licence_of(repo, folder), (Tried(where, "complete"),))


def place_of(name: str) -> Path:
    """Return the folder of an embedded prior."""
    return {"tiny": TINY, "world": WORLD}[name]


def embedded(tried: tuple[Tried, ...], said: str = "", name: str = "") -> Found:
    """Return a prior inside this package, the default one unless named; WeightsError if this installation lacks it."""
    name = name or DEFAULT
    folder = place_of(name)
    faults = problems(folder)
    place = Tried(f"embedded prior {folder}", "; ".join(faults) or "complete")
    if faults:
        raise refusal(name, (*tried, place), hint="This installation lacks its package data: install splatdistill again.")
    return Found(folder, name, EMBEDDED_LICENCE, (*tried, place), said)


def refusal(asked: str, tried: tuple[Tried, ...], repo: str = "", hint: str = "") -> WeightsError:
    """Return an error of one screen: the weights asked for, the places searched in order, why each failed, and the next step."""
    target = hub.MIRRORS.get(repo, repo) or hub.CANDIDATES[0]
    size = "about 2.6 GB" if hub.known(target) else "of use where it is Stable Diffusion 1.x/2.x, XL or 3, or Zero-1-to-3"
    fixes = [
        (hub.command(target), f"downloads it ({size}); with --local-dir DIR it can be carried to where there is no network"),
        ("--prior DIR", "takes a folder in the diffusers layout of SD 1.x/2.x, SDXL or SD 3"),
        ("--prior world", "takes the small prior of toys and real objects that comes with this package"),
    ]
    lines = [f"No usable weights for the prior {asked}. Looked, in this order:"]
    lines += [f"  {i}. {t.where}: {t.outcome}" for i, t in enumerate(tried, 1)]
    lines += (
        ["What to do:", f"  {hint}"]
        if hint
        else ["What to do, one of:", *(f"  {what}\n      {why}" for what, why in fixes)]
    )
    return WeightsError("\n".join(lines))


def has_cuda() -> bool:
    """Return whether torch can compute on an NVIDIA (or ROCm) GPU."""
    import torch

    return torch.cuda.is_available()


def class_of(family: ModelFamily) -> "type[StableDiffusionPrior]":
    """Return the class of priors of a family; its import is heavy, and not needed to say that weights are missing."""
    if family is XL:
        from splatdistill.priors.stable_xl import StableDiffusionXLPrior

        return StableDiffusionXLPrior
    if family is SD3:
        from splatdistill.priors.stable_3 import StableDiffusion3Prior

        return StableDiffusion3Prior
    if family is ZERO123:
        from splatdistill.priors.zero123 import Zero123Prior

        return Zero123Prior
    from splatdistill.priors.stable import StableDiffusionPrior

    return StableDiffusionPrior


def load(
    source: str | Found,
    device: str = "cpu",
    precision: Precision = "auto",
    *,
    max_batch: int = 64,
    compile: bool = False,
    views: int = 1,
    low_memory: bool = False,
    vae_precision: VaePrecision = "auto",
    lora: Path | Sequence[Path] | None = None,
    lora_scale: float | Sequence[float] = 1.0,
) -> DiffusionPrior:
    """Return the prior of a source, or of the result of find, by its family; see StableDiffusionPrior.from_folder."""
    found = find(source) if isinstance(source, str) else source
    return class_of(family_in(found.configs or found.path)).from_folder(
        found.configs or found.path,
        device,
        precision,
        name=found.name,
        licence=found.licence,
        max_batch=max_batch,
        compile=compile,
        views=views,
        low_memory=low_memory,
        vae_precision=vae_precision,
        lora=lora,
        lora_scale=lora_scale,
        file=found.path if found.configs else None,
    )
