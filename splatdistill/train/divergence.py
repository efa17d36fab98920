"""Verdicts on a run that diverges, by name.

    nan        gradients keep being non-finite, or values of the splats are
    empty      nothing is left to see
    exploded   the splats have left the scene, are larger than it, or fill every view
    saturated  the colours have run to their extremes
    oom        memory has run out
"""

from dataclasses import dataclass, field

import torch

from splatdistill.gaussians import Gaussians
from splatdistill.system import peak_resident
from splatdistill.train.config import Train
from splatdistill.train.events import Verdict


@dataclass(frozen=True)
class Limits:
    """Limits of what is sound; a sign must last for `patience` looks in a row."""

    refused: int = 10
    """Refused steps in a row that make a run `nan`."""
    patience: int = 5
    """Looks in a row that a bad sign must last."""
    every: int = 20
    """Steps between looks."""
    coverage: float = 0.002
    """Mean alpha under which a scene is empty."""
    reach: float = 4.0
    """Median distance from the origin, or standard deviation, above which the splats have exploded; world units."""
    clipped: float = 0.98
    """Share of visible splats with some colour channel far outside [0, 1] above which it is saturated."""


@dataclass
class DivergenceMonitor:
    """Monitor that counts bad signs; not part of the state, since a resumed run starts its counts anew."""

    limits: Limits = field(default_factory=Limits)
    refused: int = 0
    signs: dict[int, Verdict | None] = field(default_factory=dict)  # by particle
    lasted: dict[int, int] = field(default_factory=dict)

    def step(self, taken: bool) -> Verdict | None:
        """Count a step that was taken, or refused for a non-finite gradient; return the verdict if there is one."""
        self.refused = 0 if taken else self.refused + 1
        return "nan" if self.refused >= self.limits.refused else None

    def look(self, g: Gaussians, coverage: float, particle: int = 0) -> Verdict | None:
        """Check a scene; return the verdict if a sign has lasted. Non-finite values need not last."""
        sign = self.sign(g, coverage)
        same = sign is not None and sign == self.signs.get(particle)
        self.lasted[particle] = self.lasted[particle] + 1 if same else int(sign is not None)
        self.signs[particle] = sign
        at_once = sign is not None and not_finite(g) is not None
        return sign if at_once or self.lasted[particle] >= self.limits.patience else None

    def sign(self, g: Gaussians, coverage: float) -> Verdict | None:
        """Return the sign that a scene shows now, if any. coverage: mean alpha over some views."""
        if (found := not_finite(g)) is not None:
            return found
        visible = g.opacities > 0.05
        if not coverage >= self.limits.coverage or not bool(visible.any()):  # NaN is no coverage
            return "empty"
        distance, size = g.means[visible].norm(dim=1).median(), g.scales[visible].amax(1).median()
        if float(distance) > self.limits.reach or float(size) > self.limits.reach or coverage > 0.999:
            return "exploded"
        extreme = ((g.rgb[visible] - 0.5).abs() > 1.5).any(1).float().mean()
        return "saturated" if float(extreme) > self.limits.clipped else None


def not_finite(g: Gaussians) -> Verdict | None:
    """Return `exploded` for sizes that are not finite, `nan` for any other such value."""
    others = (g.means, g.quats, g.opacities, g.sh)
    if not all(bool(v.isfinite().all()) for v in others):
        return "nan"
    return None if bool(g.scales.isfinite().all()) else "exploded"


EXPLANATIONS: dict[Verdict, str] = {
    "nan": "gradients stayed non-finite; try --precision float32, a lower guidance scale or learning rate",
    "empty": "nothing is left to see; try a lower --regularise.sparsity, a higher --init.opacity or another --seed",
    "exploded": "the splats left the scene; try a lower --rates.means or guidance scale",
    "saturated": "the colours ran to their extremes; try a lower guidance scale or --rates.colours",
}


def explanation(verdict: Verdict, config: Train) -> str:
    """Return what is wrong and what helps; where memory ran out, what has not been tried yet."""
    if verdict != "oom":
        return EXPLANATIONS[verdict]
    ways = [] if config.low_memory else ["--low-memory"]
    if config.batch > 1:
        ways.append(f"--batch 1 --accumulate {config.batch * config.accumulate} (as many views a step, one at a time)")
    return "out of memory; try " + (" or ".join(ways) or "a lower --max-gaussians, or a device with more memory")


def peak_memory(device: torch.device) -> int:
    """Return the peak of memory in bytes: the device's peak allocation on CUDA, this process's peak resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()
