"""Two references beside every PSNR against the truth: the prior's own pictures, which distillation cannot be expected to beat by
much, and as many splats fitted to pictures of the true object, which no guidance can be expected to reach.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import orbit
from splatdistill.evaluate.embedded_models import QUARTERS, four_views
from splatdistill.evaluate.truth import STEP, psnr, turned
from splatdistill.gaussians import Gaussians
from splatdistill.priors import DiffusionPrior
from splatdistill.render import Rasterizer
from splatdistill.scene.splats import Splats
from splatdistill.toybox.things import Thing, draw
from splatdistill.toybox.world import VIEWS
from splatdistill.train.config import Train
from splatdistill.train.step import backgrounds


@dataclass(frozen=True)
class Sampled:
    """Sets of four pictures that a prior drew of an object, against the truth after each set's best turn about the up axis."""

    images: Float[Tensor, "sets 4 3 h w"]
    psnr: float  # dB, mean over pictures, on the sets' own backgrounds
    psnr_unturned: float


def background_of(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " 3"]:
    """Return the colour behind pictures of one set: the median along their edges."""
    edges = (images[..., :2, :], images[..., -2:, :], images[..., :2].mT, images[..., -2:].mT)
    return torch.cat([e.flatten(2) for e in edges], 2).transpose(0, 1).flatten(1).median(1).values


def sampled(prior: DiffusionPrior, thing: Thing, rng: torch.Generator, sets: int = 2, scale: float = 5.0, steps: int = 25) -> Sampled:
    """Draw sets of an object by DDIM of a prior that sees four views at once, told words and cameras as in training, and compare
    each with the true object on the set's own background. A plain background close to the object's colour makes the comparison
    easier than a white one.
    """
    images = four_views(prior, [str(thing)] * sets, rng, scale, steps).unflatten(0, (sets, len(QUARTERS)))
    around = orbit([0.0, 90.0, 180.0, 270.0], 15.0, *VIEWS.middle, prior.image_size)
    angles = torch.arange(0, 360, 3 * STEP)
    size = prior.image_size // 2
    views, best, straight = turned(around.resized(size, size), angles), [], []
    for one in images:
        behind = background_of(one)
        small = F.interpolate(one, (size, size), mode="area")
        near = psnr(small.repeat(len(angles), 1, 1, 1), draw(thing, views, behind.expand(len(views), 3), samples=1).rgb)
        turn = angles[near.view(len(angles), -1).mean(1).argmax()]
        for found, turns in ((best, turn + STEP * torch.tensor([-1.0, 0.0, 1.0])), (straight, torch.zeros(1))):
            truths = draw(thing, turned(around, turns), behind.expand(len(turns) * len(around), 3)).rgb
            found.append(psnr(one.repeat(len(turns), 1, 1, 1), truths).view(len(turns), -1).mean(1).max())
    return Sampled(images, torch.stack(best).mean().item(), torch.stack(straight).mean().item())


def fitted(config: Train, thing: Thing, size: int, rasterizer: Rasterizer) -> Gaussians:
    """Return splats fitted to pictures of the true object, by squared error over random backgrounds: as many as those of a run with
    this configuration, with its start, rates, cameras and number of updates, and none of its regularisers. size: pixels a side.
    """
    rng = torch.Generator().manual_seed(config.seed)
    scene = Splats.from_gaussians(config.init.of(config.prompt).make(rng))
    optimizer = config.rates.over(config.steps).optimizer(scene)
    updates = config.steps * config.inner
    for k in range(updates):
        progress = k / updates
        config.rates.over(config.steps).apply(optimizer, progress)
        cameras = config.cameras.at(progress).sample(config.batch, size, size, rng, config.prior_views)
        behind = backgrounds(config.background, torch.zeros(3), len(cameras), rng, config.prior_views)
        wanted = draw(thing, cameras, behind).rgb
        optimizer.zero_grad()
        (rasterizer(scene.gaussians(), cameras, behind).rgb - wanted).square().sum().backward()
        optimizer.step()
    return scene.gaussians().detach()
