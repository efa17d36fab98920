"""Adam over the parameters of `Splats`, one group and one learning rate per parameter.

betas (0.9, 0.99): a Gaussian's gradients are sparse in time (it is hidden from many views), so that the usual second
moment, remembering 1000 steps, is too slow for runs of some hundreds. eps 1e-15 as in 3D Gaussian Splatting
(arXiv:2308.04079), since gradients of single splats are far below the usual 1e-8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from splatdistill import checks
from splatdistill.scene.splats import PARAMETERS, ParameterName, Splats

BETAS, EPS = (0.9, 0.99), 1e-15
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of the splats' parameters (defaults: threestudio-3dgs)."""

    means: float = 1e-3
    """Positions at the start, world units a step."""
    means_end: float = 2e-5
    """Positions at the end; in between means^(1-p) means_end^p, p being the share of the way to `means_until`."""
    means_until: float = 1.0
    """Progress at which `means_end` is reached, and from which it stays."""
    quats: float = 5e-3
    """Rotations."""
    scales: float = 5e-3
    """Logarithms of the sizes."""
    opacities: float = 5e-2
    """Logits of the opacities."""
    colours: float = 1e-2
    """The constant band of the colours."""
    sh_rest: float = 5e-4
    """The bands that depend on the direction; a twentieth of the constant one in 3D Gaussian Splatting."""
    tuned_for_steps: int = 0
    """Steps of the run that these rates are meant for: in one with more (for each particle) all are smaller by as much. 0: of any."""

    def __post_init__(self) -> None:
        """Raise UserError for rates that are negative; of positions, whose logarithm is interpolated, also for 0."""
        checks.types(self)
        checks.positive(self, "means", "means_end", "means_until")
        checks.within(self, 0, 1, "means_until")
        checks.at_least(self, 0, "quats", "scales", "opacities", "colours", "sh_rest", "tuned_for_steps")

    def over(self, steps: float) -> "LearningRates":
        """Return the rates for a run of so many steps.

        A recipe's are tuned to its length, since Adam moves a parameter by about its rate whatever the gradient's size.
        SDI with `--steps 960` in place of the 240 of its recipe then, and the same rates: PSNR of a green duck and a blue house fell
        from 18.5 and 14.4 to 15.3 and 11.1 dB; with a quarter of the rates it was 18.8 and 14.2 (scripts/acceptance.py).
        That is no law: CSD at 1.6 times its recipe's length carved less with slower rates (IoU 0.84 in place of 0.86).
        """
        factor = self.tuned_for_steps / steps
        return self if factor == 0 or factor >= 1 else replace(self, **{n: factor * getattr(self, n) for n in RATES})

    def at(self, name: ParameterName, progress: float) -> float:
        """Return the learning rate of one parameter at progress in [0, 1]."""
        match name:
            case "means":
                p = min(progress / self.means_until, 1.0)
                return self.means ** (1 - p) * self.means_end**p
            case "quats":
                return self.quats
            case "log_scales":
                return self.scales
            case "logits":
                return self.opacities
            case "sh_dc":
                return self.colours
            case "sh_rest":
                return self.sh_rest

    def optimizer(self, scene: Splats, fused: bool | None = None) -> torch.optim.Adam:
        """Return a fresh Adam with one group per parameter, in the order of PARAMETERS, each with its name. fused: all of it in one kernel;
        by default on CUDA.
        """
        groups = [{"params": [getattr(scene, n)], "name": n, "lr": self.at(n, 0.0)} for n in PARAMETERS]
        return torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=fuses(*scene.parameters()) if fused is None else fused or None)

    def apply(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """Set the learning rates of this progress."""
        for group in optimizer.param_groups:
            if group.get("name") in PARAMETERS:
                group["lr"] = self.at(group["name"], progress)


RATES = tuple(f.name for f in fields(LearningRates) if f.name not in ("means_until", "tuned_for_steps"))


def fuses(*parameters: Tensor) -> bool | None:
    """Return True where an optimizer's step of these is to be one kernel, on CUDA; None leaves it to torch."""
    return True if all(p.is_cuda and p.is_floating_point() for p in parameters) else None


def group(optimizer: torch.optim.Optimizer, name: ParameterName) -> dict:
    """Return the optimizer's group of one parameter."""
    return next(g for g in optimizer.param_groups if g.get("name") == name)


def parameter(optimizer: torch.optim.Optimizer, name: ParameterName) -> nn.Parameter:
    """Return the tensor that the optimizer updates under this name."""
    return group(optimizer, name)["params"][0]


def tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return moments and step counts by "<parameter>.<what>", for safetensors; nothing before the first step."""
    return {
        f"{name}.{key}": torch.as_tensor(value).detach().clone()
        for name in PARAMETERS
        for key, value in optimizer.state.get(parameter(optimizer, name), {}).items()
    }


def load(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Restore the state that `tensors` returned, bit by bit, into an optimizer of splats with as many Gaussians."""
    for name in PARAMETERS:
        p = parameter(optimizer, name)
        state = {k.removeprefix(f"{name}."): v for k, v in saved.items() if k.startswith(f"{name}.")}
        for key in MOMENTS:
            if key in state and state[key].shape != p.shape:
                raise ValueError(f"saved {key} of {name} has shape {tuple(state[key].shape)}, not {tuple(p.shape)}")
        if state:
            optimizer.state[p] = remembered(state, p, fused=bool(group(optimizer, name)["fused"]))
        else:
            optimizer.state.pop(p, None)


def remembered(state: Mapping[str, Tensor], p: Tensor, fused: bool) -> dict[str, Tensor]:
    """Return what Adam remembers of a parameter where it expects it: moments with the parameter, the count of steps there too in the fused
    form, else on the CPU.
    """
    return {k: v.clone().to(p.device if fused or k in MOMENTS else "cpu") for k, v in state.items()}
