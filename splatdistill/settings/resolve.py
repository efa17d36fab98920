"""Settle what a configuration leaves open, and refuse what can be refused before anything heavy is loaded: the family of
the prior's weights, the device, words that the prior does not know, relative paths.
"""

import dataclasses
import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from splatdistill import toybox
from splatdistill.errors import UserError, WeightsError
from splatdistill.priors import weights
from splatdistill.priors.lora_files import fault, refusal
from splatdistill.priors.prompts import Prompts, negative_of
from splatdistill.priors.weights import Found
from splatdistill.settings.files import expanded
from splatdistill.settings.phases import looked_up
from splatdistill.settings.recipes import Family, family_of
from splatdistill.toybox.real import parse_real
from splatdistill.toybox.things import understood
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.config import Train
from splatdistill.train.distillation import Distillation
from splatdistill.train.image2d import Image2D
from splatdistill.train.mixed import somewhere
from splatdistill.train.phase_change import refuse_impossible
from splatdistill.train.phases import located

PRIORS = (*weights.EMBEDDED, "auto")  # those that have a name
C = TypeVar("C", Train, Image2D, Amortise)  # configurations with a prior and a device


@dataclass
class Weights:
    """Weights of one run, looked for once."""

    found: Found | None = None

    def family(self, source: str) -> Family:
        """Return the family whose recipes suit the weights; WeightsError if there are none."""
        if source in weights.EMBEDDED:  # so that a prompt it cannot know is refused even where its files are missing
            return family_of(source)
        return family_of(self.find(source).embedded)

    def find(self, source: str) -> Found:
        """Return the weights; WeightsError if there are none."""
        if self.found is None:
            refuse_misspelt(source)
            self.found = weights.find(source)
        return self.found


def refuse_misspelt(source: str) -> None:
    """Raise UserError for a word that is nearly the name of a prior, and no folder."""
    near = difflib.get_close_matches(source.lower(), PRIORS, 1, 0.7)
    if near and source not in PRIORS and not Path(source).exists():
        raise UserError(f"there is no prior {source!r}: did you mean --prior {near[0]}?")


def refuse_prompt(prompt: str, negative: str, family: Family, pictured: bool = False) -> None:
    """Raise UserError for a prompt that is empty, is no text, or that an embedded prior has never seen; where there is a picture it
    may be empty.
    """
    silent = pictured and not prompt.strip()
    if any("\ud800" <= c <= "\udfff" for c in prompt + negative):  # what bytes that are no UTF-8 become
        raise UserError(f"the prompt {prompt!r} holds bytes that are not text; type it in UTF-8")
    if not silent:
        Prompts(prompt)  # raises on an empty one
    if family == "sd":
        return
    try:
        if not silent:
            (toybox.parse if family == "tiny" else understood)(prompt)
    except UserError as e:
        real = family == "tiny" and parse_real(prompt)
        raise UserError(
            f"The embedded prior `{family}` cannot draw this: {e}\n"
            + ("--prior world, which comes with this package too, can.\n" if real else "")
            + "Take one of those (`splatdistill toybox` lists all it knows), or give real Stable Diffusion weights,\n"
            "which know what you ask for: --prior DIR or --prior HUB_ID (`splatdistill doctor` says how to get them)."
        ) from None
    if unknown := toybox.unknown_words(negative_of(negative, prompt), real=family == "world"):
        raise UserError(
            f"The embedded prior `{family}` does not know these words of the negative prompt: {', '.join(map(repr, unknown[:8]))}.\n"
            "Leave --negative out, or name what the toybox has, such as 'a blue cube' (`splatdistill toybox` lists it)."
        )


def resolved(config: C, found: Found) -> C:
    """Return the configuration with `auto` and relative paths replaced by what they mean here, so that it means the same
    tomorrow and from another folder. WeightsError for a LoRA that is none.
    """
    for file in config.lora if isinstance(config, Distillation) else ():
        refuse_lora(file, found)
    if isinstance(config, Train):
        config.init.preflight()
        absolute(config.image).read()  # refuses what is no picture
    local = Path(found.name).expanduser().exists()
    prior = found.embedded or (str(found.path) if local else found.name)
    also: dict[str, Any] = {}
    if isinstance(config, Train):
        config = looked_up(config, family_of(found.embedded))
        refuse_impossible(config)
        also = {"also": tuple(map(somewhere, config.also)), "phases": tuple(map(located, config.phases))}
    return replace(absolute(config), prior=prior, device=device_of(config.device), **also)


def refuse_lora(file: Path, found: Found) -> None:
    """Raise WeightsError for a file that is no LoRA, by its header, or a prior that takes none."""
    if found.embedded:
        raise WeightsError(f"The embedded prior `{found.embedded}` takes no --lora; expected Stable Diffusion weights behind --prior, or no --lora.")
    if why := fault(expanded(file)):
        raise refusal(file, why)


def absolute(part: Any) -> Any:
    """Return a dataclass with all paths in it made absolute."""
    values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    changes = {k: absolute(v) for k, v in values.items() if dataclasses.is_dataclass(v)}
    changes |= {k: expanded(v).absolute() for k, v in values.items() if isinstance(v, Path)}
    changes |= {k: tuple(expanded(i).absolute() for i in v) for k, v in values.items() if isinstance(v, tuple) and v and all(isinstance(i, Path) for i in v)}
    return replace(part, **changes)


def device_of(asked: str) -> str:
    """Return the device of torch that was asked for, as torch spells it; UserError for one that is not here."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(f"--device {asked!r} is no device of torch; expected auto, cpu, cuda, or such as cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"--device {asked}: torch sees no CUDA device; `splatdistill doctor` says more, --device cpu works anywhere"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {asked}: torch sees {torch.cuda.device_count()} CUDA device(s), counted from cuda:0")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        reason = str(e).strip().splitlines() or [type(e).__name__]
        raise UserError(f"--device {asked}: torch cannot use it here ({reason[0][:200]}); --device cpu works anywhere") from None
    return str(device)


def cards(device: str) -> list[str]:
    """Return the devices over which runs that are independent may be spread: where any CUDA card was asked for, all that there are."""
    return [device, *(f"cuda:{k}" for k in range(1, torch.cuda.device_count()))] if device == "cuda" else [device]


def device_again(asked: str, folder: Path, written: Path) -> str:
    """Return the device that a run goes on with, as torch spells it; UserError where the one in its configuration is not here."""
    try:
        return device_of(asked)
    except UserError:
        raise UserError(
            f"{folder} was trained on {asked}, and torch sees no such device here; go on where there is one, or write `device: cpu` into {written}"
        ) from None


def changed(before: C, after: C) -> dict[str, str]:
    """Return the names of the fields that `resolved` settled, each with its source `auto`."""
    return {f.name: "auto" for f in dataclasses.fields(before) if getattr(before, f.name) != getattr(after, f.name)}
