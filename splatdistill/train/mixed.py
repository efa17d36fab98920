"""Further guidances beside a run's own, each over a prior of its own: their gradients add up."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES, Guidance, View
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.priors.prompts import Prompts, switches
from splatdistill.train.assignments import assignments
from splatdistill.train.config import Train
from splatdistill.train.distillation import Computed
from splatdistill.train.fields import with_fields
from splatdistill.train.sizes import to_prior_size

FORM = "NAME[OPTION=VALUE, ...]@PRIOR*WEIGHT, such as csd, sdi[scale=9]*0.5 or sds[times.t_max=0.5]@some/folder*0.2"
PATTERN = re.compile(r"\s*(?P<name>\w+)\s*(?:\[(?P<options>.*)\])?\s*(?:@(?P<prior>.+?))?\s*(?:\*\s*(?P<weight>[\d.eE+-]+))?\s*")


@dataclass(frozen=True)
class Added:
    """Additional guidance, the name of its prior (empty: the run's own), and its weight."""

    guidance: Guidance
    prior: str = ""
    weight: float = 1.0


class Mixed(nn.Module):
    """Additional guidance with its loaded prior and its memory, which checkpoints carry as part of the run's own."""

    def __init__(self, added: Added, prior: DiffusionPrior) -> None:
        super().__init__()
        self.added, self.prior = added, prior
        self.memory = added.guidance.init(prior)

    def view(self, first: View, config: Train, prompts: Prompts) -> View:
        """Return what the run's own guidance is shown, as this one's prior sees it."""
        if self.prior is first.prior or first.render is None:
            return first
        perp, amplified = switches(self.prior, config.perp_neg, config.camera_guidance)
        prompts = replace(prompts, perp_neg=perp, camera_guidance=amplified)
        x = self.prior.encode(to_prior_size(first.render.rgb.to(self.prior.device), self.prior), first.rng)
        return replace(first, x=x, text=prompts.conditions(self.prior, first.render.cameras.to(self.prior.device)), prior=self.prior)

    def loss(self, view: View) -> Float[Tensor, ""]:
        """Return the weighted loss of this guidance."""
        return self.added.weight * self.added.guidance(view, self.memory).loss

    def learn(self, view: View) -> None:
        """Update the memory from the views, after the splats have moved."""
        self.added.guidance.learn(view, self.memory)


def added(said: str) -> Added:
    """Return what a text such as "sdi[scale=9]@some/folder*0.5" says; UserError where it says nothing of this form."""
    found = PATTERN.fullmatch(said)
    if found is None:
        raise UserError(f"{said!r} names no guidance to add; expected {FORM}")
    if found["name"] not in GUIDANCES:
        raise UserError(f"{said!r}: there is no guidance {found['name']!r}; there are {', '.join(GUIDANCES)}")
    changes = [(path.split("."), value) for path, value in assignments(found["options"] or "", said, FORM)]
    try:
        weight = float(found["weight"] or 1)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise UserError(f"{said!r}: the weight must be a number above 0")
    return Added(with_fields(GUIDANCES[found["name"]](), changes), found["prior"] or "", weight)


def somewhere(said: str) -> str:
    """Return the same text with a folder of its prior in full."""
    prior = added(said).prior
    return said.replace(f"@{prior}", f"@{Path(prior).expanduser().resolve()}") if prior and Path(prior).expanduser().exists() else said


def remembered(config: Train, prior: DiffusionPrior, before: nn.Module | None = None) -> nn.Module:
    """Return new memory of a run's guidance, with that of what is added to it: as it was before, or new. Loads priors that are
    named, once each.
    """
    memory, priors = config.guidance.init(prior), {"": prior}
    for name, part in () if before is None else before.named_children():
        if isinstance(part, Mixed):
            memory.add_module(name, part)
    if before is not None:
        return memory
    for k, part in enumerate(map(added, config.also)):
        if part.prior not in priors:
            found = weights.find(part.prior)
            priors[part.prior] = weights.load(found, **{**Computed.loading(config), "device": str(prior.device)})  # a LoRA is the run's own prior's
        memory.add_module(f"also_{k}", Mixed(part, priors[part.prior]))
    return memory


def mixed(memory: nn.Module) -> Iterator[Mixed]:
    """Yield what is added to a run's guidance."""
    return (part for name, part in memory.named_children() if name.startswith("also_") and isinstance(part, Mixed))
