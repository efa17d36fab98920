"""Likeness to the truth: splats against the toybox's own object, and against every object that is nearly it.

A prompt fixes neither where the object's front points in detail nor anything else about its pose but "up", so
the comparison allows one turn about the up axis, to the true object and to every wrong one alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.evaluate.retrieval import changes
from splatdistill.render import RenderOutput
from splatdistill.toybox import Caption, Truth
from splatdistill.toybox.things import Thing, draw, others

STEP = 5.0  # degrees between the turns that are tried


def psnr(image: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Return -10 log10 of the mean squared difference, per image; at most 100 dB, which identical images get."""
    return -10 * (image - other).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def silhouette_iou(alpha: Float[Tensor, "b 1 h w"], other: Float[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Return the intersection over union of what is more than half covered; 1 where both are empty."""
    a, b = alpha > 0.5, other > 0.5
    union = (a | b).sum((1, 2, 3))
    return torch.where(union > 0, (a & b).sum((1, 2, 3)) / union.clamp(min=1), torch.ones(len(alpha)))


def depth_error(seen: RenderOutput, truth: Truth) -> Float[Tensor, " b"]:
    """Return the mean absolute difference of depth, world units, where both are more than half covered; infinite where
    nothing is.
    """
    both = ((seen.alpha > 0.5) & (truth.alpha > 0.5)).float()
    count = both.sum((1, 2, 3))
    error = ((seen.depth - truth.depth).abs() * both).sum((1, 2, 3)) / count.clamp(min=1)
    return torch.where(count > 0, error, torch.full_like(error, float("inf")))


def turned(cameras: Cameras, degrees: Float[Tensor, " n"]) -> Cameras:
    """Return what the cameras see of an object turned by each angle about the up axis, as n*b cameras around the
    unturned object: W diag(R_z(a), 1), all cameras of the first angle first.
    """
    a = torch.deg2rad(degrees)
    turn = torch.eye(4).repeat(len(a), 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = a.cos()
    turn[:, 0, 1], turn[:, 1, 0] = -a.sin(), a.sin()
    poses = torch.einsum("bij,njk->nbik", cameras.world_to_camera.cpu().float(), turn).flatten(0, 1)
    return replace(cameras, world_to_camera=poses, intrinsics=cameras.intrinsics.cpu().float().repeat(len(a), 1, 1))


@dataclass(frozen=True)
class BestTurn:
    """Rotation about the up axis, and the similarity of images to the object after it."""

    degrees: float  # counter-clockwise seen from above, in [0, 360)
    psnr: float  # mean over views, at half resolution


def best_turn(rgb: Float[Tensor, "b 3 h w"], cameras: Cameras, caption: Thing, step: float = STEP) -> BestTurn:
    """Find the turn that brings an object nearest to images (on white) from several cameras: the highest mean PSNR
    over views among all multiples of `step`.
    """
    angles = torch.arange(0, 360, step)
    size = (cameras.height // 2, cameras.width // 2)
    small = F.interpolate(rgb, size, mode="area")
    views = turned(cameras.resized(size[1], size[0]), angles)
    rows = torch.cat([views.world_to_camera.flatten(1), views.intrinsics.flatten(1)], 1)
    _, which = (rows * 1e4).round().unique(dim=0, return_inverse=True)  # a turn often leads to another camera's view
    first = torch.full((int(which.max()) + 1,), len(rows)).scatter_reduce(0, which, torch.arange(len(rows)), "amin")
    pictures = draw(caption, views[first], samples=1).rgb[which]
    near = psnr(small.repeat(len(angles), 1, 1, 1), pictures).view(len(angles), -1).mean(1)
    return BestTurn(angles[near.argmax()].item(), near.max().item())


@dataclass(frozen=True)
class Likeness:
    """Similarity of renders to an object turned by `turn` degrees; per view."""

    caption: Thing
    turn: float
    iou: Float[Tensor, " b"]
    psnr: Float[Tensor, " b"]
    depth_error: Float[Tensor, " b"]


def likeness(seen: RenderOutput, caption: Thing, turn: float = 0.0) -> Likeness:
    """Compare renders on white with the truth of a caption."""
    truth = draw(caption, turned(seen.cameras, torch.tensor([turn])))
    iou, error = silhouette_iou(seen.alpha, truth.alpha), depth_error(seen, truth)
    return Likeness(caption, turn, iou, psnr(seen.rgb, truth.rgb), error)


@dataclass(frozen=True)
class TruthComparison:
    """Similarity of renders to the object that they should be, and to the nearest that they should not be."""

    straight: Likeness  # the true object as it stands
    best: Likeness  # the true object after its best turn
    wrong: Likeness  # the nearest other object after its best turn

    @property
    def nearer_than_wrong(self) -> bool:
        """Return True if the mean PSNR to the true object is above that to every wrong one, each after its best turn."""
        return self.best.psnr.mean().item() > self.wrong.psnr.mean().item()

    @property
    def views_nearer(self) -> int:
        """Return from how many views the true object is nearer than the nearest wrong one."""
        return int((self.best.psnr > self.wrong.psnr).sum())


def compare(seen: RenderOutput, caption: Thing) -> TruthComparison:
    """Compare renders on white with the true object and with all that differ in one attribute (another object
    of the same colour, the same object in another colour, ...; of a real object see `others`): all of them at every 15 degrees, the five
    nearest at every `STEP`, the two nearest of those, like the true one, at full resolution.
    """

    def nearest(captions: Iterable[Thing], step: float, count: int) -> dict[Thing, BestTurn]:
        turns = {c: best_turn(seen.rgb, seen.cameras, c, step) for c in captions}
        return dict(sorted(turns.items(), key=lambda found: -found[1].psnr)[:count])

    def settled(caption: Thing, turn: BestTurn) -> Likeness:  # half resolution can be wrong by a step
        around = [likeness(seen, caption, (turn.degrees + d) % 360) for d in (0, -STEP, STEP)]
        return max(around, key=mean_psnr)

    def mean_psnr(found: Likeness) -> float:
        return found.psnr.mean().item()

    all_wrong = chain(*changes(caption)) if isinstance(caption, Caption) else others(caption)
    wrong = [settled(c, turn) for c, turn in nearest(nearest(all_wrong, 3 * STEP, 5), STEP, 2).items()]
    best = settled(caption, best_turn(seen.rgb, seen.cameras, caption))
    return TruthComparison(likeness(seen, caption), best, max(wrong, key=mean_psnr))
