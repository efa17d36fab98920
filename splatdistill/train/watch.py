"""Whether a run is going wrong, and what to call it.

    nan        gradients keep being non-finite
    empty      nothing is left to see
    exploded   the splats have left the scene, or fill every view
    saturated  the colours have run to their extremes
"""

from dataclasses import dataclass, field

import torch

from splatdistill.gaussians import Gaussians
from splatdistill.train.events import Verdict


@dataclass(frozen=True)
class Watch:
    """Limits; a condition must hold for `patience` looks in a row."""

    refused: int = 10
    """Refused steps in a row that make a run `nan`."""
    patience: int = 5
    """Looks in a row that a bad sign must last."""
    every: int = 20
    """Steps between looks."""
    coverage: float = 0.002
    """Mean alpha under which a scene is empty."""
    reach: float = 4.0
    """Median distance from the origin above which it has exploded."""
    clipped: float = 0.98
    """Share of visible splats with some colour channel far outside [0, 1] above which it is saturated."""


@dataclass
class Watcher:
    """Counts bad signs; not part of the state, since a resumed run deserves a fresh look."""

    limits: Watch
    refused: int = 0
    signs: dict[int, Verdict | None] = field(default_factory=dict)  # by particle
    lasted: dict[int, int] = field(default_factory=dict)

    def step(self, taken: bool) -> Verdict | None:
        """After every step: was it taken, or refused for a non-finite gradient?"""
        self.refused = 0 if taken else self.refused + 1
        return "nan" if self.refused >= self.limits.refused else None

    def look(self, g: Gaussians, coverage: float, particle: int = 0) -> Verdict | None:
        """Now and then: a scene itself."""
        sign = self._sign(g, coverage)
        same = sign is not None and sign == self.signs.get(particle)
        self.lasted[particle] = self.lasted[particle] + 1 if same else int(sign is not None)
        self.signs[particle] = sign
        return sign if self.lasted[particle] >= self.limits.patience else None

    def _sign(self, g: Gaussians, coverage: float) -> Verdict | None:
        visible = g.opacities > 0.05
        if len(g) == 0 or coverage < self.limits.coverage or not bool(visible.any()):
            return "empty"
        if float(g.means[visible].norm(dim=1).median()) > self.limits.reach or coverage > 0.999:
            return "exploded"
        extreme = ((g.rgb[visible] - 0.5).abs() > 1.5).any(1).float().mean()
        return "saturated" if float(extreme) > self.limits.clipped else None


EXPLANATIONS: dict[str, str] = {
    "nan": "gradients stayed non-finite; try --precision float32, a lower guidance scale or learning rate",
    "empty": "nothing is left to see; try a lower --regularise.sparsity, a higher --init.opacity or another --seed",
    "exploded": "the splats left the scene; try a lower --rates.means or guidance scale",
    "saturated": "the colours ran to their extremes; try a lower guidance scale or --rates.colours",
    "oom": "out of memory; try a smaller --batch, --resolutions or --max-gaussians",
}


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak allocation on CUDA, this process's peak resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
