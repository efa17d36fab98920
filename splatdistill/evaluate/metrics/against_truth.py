"""On the toybox the truth is known: silhouettes, depth and views against the object itself, and hard retrieval."""

import torch

from splatdistill.estimators import ImageTextScorer
from splatdistill.evaluate.acceptance import Sight
from splatdistill.evaluate.janus import words_by_truth
from splatdistill.evaluate.metrics import Measurement, missing
from splatdistill.evaluate.metrics.sharpness import tenengrad
from splatdistill.evaluate.retrieval import recognised
from splatdistill.evaluate.truth import STEP, Likeness, best_turn, likeness, turned
from splatdistill.toybox.things import Thing, draw, symmetric

TRUTH = "the toybox's truth"
NAMES = (
    "r_precision_hard",
    "iou",
    "psnr",
    "depth_error",
    "sharpness",
    "iou_unturned",
    "psnr_unturned",
    "janus_truth",
    "back_margin",
)


def against_truth(sight: Sight, caption: Thing, scorer: ImageTextScorer | None, measured_by: str) -> list[Measurement]:
    """Return the acceptance table's numbers without its wrong objects, from its eight views on white. scorer: an embedded CLIP that knows
    its words.
    """
    views, size = len(sight.seen.rgb), sight.seen.rgb.shape[-1]
    near, straight = nearest(sight, caption), likeness(sight.seen, caption)
    after = f"after a turn of {near.turn:.0f} degrees"
    depth = near.depth_error.mean().item()
    truth = draw(caption, turned(sight.seen.cameras, torch.tensor([near.turn]))).rgb

    def of(metric: str, value: float | None, detail: str = "") -> Measurement:
        note = "" if value is not None else "nothing of it is where the object is"
        return Measurement(metric, value, TRUTH, views, size, "white", note, detail)

    hard = Measurement("r_precision_hard", None, note="no embedded CLIP in this installation knows its words")
    if scorer is not None:
        right = recognised(scorer, sight.seen.rgb, caption).right
        hard = Measurement("r_precision_hard", 100 * right.float().mean().item(), measured_by, views, size, "white")
    return [
        hard,
        of("iou", near.iou.mean().item(), after),
        of("psnr", near.psnr.mean().item(), after),
        of("depth_error", depth if depth < float("inf") else None, after),
        of("sharpness", tenengrad(sight.seen.rgb) / tenengrad(truth), after),
        of("iou_unturned", straight.iou.mean().item()),
        of("psnr_unturned", straight.psnr.mean().item()),
        *fronts(sight, caption, size),
    ]


def fronts(sight: Sight, caption: Thing, size: int) -> list[Measurement]:
    """Measure if what is seen from behind is nearer to a front than to a back, by the truth."""
    if symmetric(caption):
        return missing(("janus_truth", "back_margin"), "its front and back are the same")
    margin = words_by_truth(sight.behind, caption).margin("back", "front")
    found = {"janus_truth": 100 * (margin <= 0).float().mean().item(), "back_margin": margin.mean().item()}
    return [Measurement(m, v, TRUTH, len(sight.behind), size, "white") for m, v in found.items()]


def nearest(sight: Sight, caption: Thing) -> Likeness:
    """Return the comparison with the true object after its best turn: found at half resolution, settled at the full one."""
    turn = best_turn(sight.seen.rgb, sight.seen.cameras, caption)
    around = [likeness(sight.seen, caption, (turn.degrees + d) % 360) for d in (0, -STEP, STEP)]
    return max(around, key=lambda found: found.psnr.mean().item())
