"""A prior of one's own, whose score is known, and a metric of one's own.

    python scripts/examples/08_own_prior_and_metric.py

Shows that a method needs nothing of Stable Diffusion. The prior is a mixture of two Gaussians over pictures of 32 x 32 pixels,
one reddish and one bluish; each prompt weighs them in its own way. The metric says how far the splats' colour is from the mean.
"""

import torch

from splatdistill import SDS, Session, Train
from splatdistill.evaluate.metrics import METRICS, Measurement, Metric
from splatdistill.gaussians import Gaussians
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.scene.initial import Ball
from splatdistill.train.config import Background

COLOURS = {"red": (0.85, 0.2, 0.2), "blue": (0.2, 0.2, 0.85)}
METRICS["colour_error"] = Metric("colour error", "lower", "root mean square distance of the visible splats' mean colour to the prompt's", 3)


def two_colours() -> GaussianMixturePrior:
    """Return the mixture: pictures of one colour each, with a little room around them."""
    means = torch.tensor([COLOURS["red"], COLOURS["blue"]], dtype=torch.float64)[:, :, None, None].expand(2, 3, 32, 32)
    return GaussianMixturePrior(means.contiguous(), torch.full((2,), 0.01, dtype=torch.float64), {"red": [1, 0], "blue": [0, 1]})


def colour_error(splats: Gaussians, prompt: str) -> Measurement:
    """Return the distance to the prompt's colour; n/a where nothing is visible."""
    visible = splats[splats.opacities > 0.05]
    if not len(visible):
        return Measurement("colour_error", None, note="nothing is visible")
    away = visible.rgb.mean(0) - torch.tensor(COLOURS[prompt])
    return Measurement("colour_error", float(away.square().mean().sqrt()), by="the splats' colours")


def main(steps: int = 100) -> dict[str, tuple[float, float]]:
    """Distil both prompts, and print the metric before and after."""
    errors = {}
    for prompt in COLOURS:
        config = Train(prompt=prompt, guidance=SDS(scale=1.0), guidance_weight=0.01, steps=steps, init=Ball(count=300), background=Background("white"))
        session = Session(config, two_colours())
        before = colour_error(session.gaussians(), prompt)
        for _ in range(steps):
            session.step()
        after = colour_error(session.gaussians(), prompt)
        errors[prompt] = before.value or 0.0, after.value or 0.0
        print(f"{prompt}: {METRICS['colour_error'].title} {before} at first, {after} after {steps} steps")
    return errors


if __name__ == "__main__":
    main()
