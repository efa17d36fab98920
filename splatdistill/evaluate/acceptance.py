"""The acceptance table: are splats the object that their prompt names, from every side?

Eight views of a run's splats on white, six around at 15 degrees and two at elevations outside those that splats
are trained on, are recognised by a CLIP and compared with the toybox's truth; views from behind are searched
for a second front.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.estimators import ImageTextScorer
from splatdistill.evaluate.janus import BEHIND, Janus, detect_janus
from splatdistill.evaluate.retrieval import Recognition, recognised
from splatdistill.evaluate.truth import TruthComparison, compare
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import contact_sheet
from splatdistill.priors import DiffusionPrior
from splatdistill.render import Rasterizer, RenderOutput, Screen
from splatdistill.toybox import Caption
from splatdistill.toybox.things import Thing, draw
from splatdistill.toybox.world import SIZE
from splatdistill.toybox.world import VIEWS as WORLD

VIEWS: Cameras = orbit(
    [0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 30.0, 210.0], [15.0] * 6 + [-14.0, 74.0], *WORLD.middle, SIZE
)
VIEWS_NEEDED, IOU_NEEDED = 7, 0.75  # of 8 views; mean over views


@dataclass(frozen=True)
class Sight:
    """Renders on white, clamped to [0, 1]."""

    seen: RenderOutput  # from VIEWS
    behind: Float[Tensor, "b 3 h w"]  # from BEHIND


@torch.no_grad()
def look(gaussians: Gaussians, rasterizer: Rasterizer) -> Sight:
    """Render what the table judges."""
    seen = rasterizer(gaussians, VIEWS, torch.ones(len(VIEWS), 3))
    behind = rasterizer(gaussians, BEHIND, torch.ones(len(BEHIND), 3))
    return Sight(replace(seen, rgb=seen.rgb.clamp(0, 1)), behind.rgb.clamp(0, 1))


def look_at_truth(caption: Thing) -> Sight:
    """Return the same views of the true object: what a perfect run would show."""
    truth = draw(caption, VIEWS)
    nothing = Screen(torch.zeros(len(VIEWS), 0, 2), torch.zeros(len(VIEWS), 0, dtype=torch.int32))
    seen = RenderOutput(truth.rgb, truth.alpha, truth.depth, None, nothing, VIEWS)
    return Sight(seen, draw(caption, BEHIND).rgb)


@dataclass(frozen=True)
class Judged:
    """Row of the table for one run."""

    caption: Thing
    recognition: Recognition
    comparison: TruthComparison
    front: Janus | None  # None where front and back are the same

    @property
    def views_right(self) -> int:
        """Return from how many of the eight views the caption is retrieved."""
        return int(self.recognition.right.sum())

    @property
    def iou(self) -> float:
        """Return silhouette IoU with the truth, mean over views, after the best turn about the up axis."""
        return self.comparison.best.iou.mean().item()

    @property
    def passed(self) -> bool:
        """Return True where all four conditions hold."""
        likeness = self.iou >= IOU_NEEDED and self.comparison.nearer_than_wrong
        return self.views_right >= VIEWS_NEEDED and likeness and not (self.front and self.front.there)

    def record(self) -> "AcceptanceRecord":
        """Return the row in numbers and words."""
        c, f = self.comparison, self.front
        depth = c.best.depth_error.mean().item()
        return AcceptanceRecord(
            prompt=str(self.caption),
            scorer=self.recognition.scorer,
            views_right=self.views_right,
            views_nearer=c.views_nearer,
            taken_for=tuple(map(str, self.recognition.chosen)),
            iou=self.iou,
            iou_unturned=c.straight.iou.mean().item(),
            turn=c.best.turn,
            psnr=c.best.psnr.mean().item(),
            psnr_unturned=c.straight.psnr.mean().item(),
            depth_error=depth if math.isfinite(depth) else None,
            wrong=str(c.wrong.caption),
            wrong_psnr=c.wrong.psnr.mean().item(),
            second_front=None if f is None else f.there,
            back_by_truth=None if f is None else f.by_truth,
            back_by_prior=None if f is None else f.by_prior,
            passed=self.passed,
        )


@dataclass(frozen=True)
class AcceptanceRecord:
    """Row of the table, as written to JSON."""

    prompt: str
    scorer: str
    views_right: int  # of 8
    views_nearer: int  # of 8, from which the truth is nearer than the nearest wrong object
    taken_for: tuple[str, ...]  # what each view is recognised as
    iou: float  # after the best turn, as are psnr and depth_error
    iou_unturned: float
    turn: float  # degrees
    psnr: float  # dB
    psnr_unturned: float
    depth_error: float | None  # world units; None where nothing of it is where the object is
    wrong: str  # the nearest wrong object
    wrong_psnr: float
    second_front: bool | None
    back_by_truth: float | None  # dB by which the back is nearer than the front
    back_by_prior: float | None  # standard errors by which "back view" fits better than "front view"
    passed: bool

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, under HEADINGS."""
        second = "-" if self.second_front is None else "YES" if self.second_front else "no"
        second += "" if self.back_by_truth is None else f" {self.back_by_truth:+.1f} dB"
        second += "" if self.back_by_prior is None else f" {self.back_by_prior:+.1f} se"
        return (
            self.prompt,
            f"{self.views_right}/8",
            f"{self.views_nearer}/8",
            f"{self.iou:.2f} ({self.iou_unturned:.2f})",
            f"{self.turn:.0f}",
            f"{self.psnr:.1f} ({self.psnr_unturned:.1f})",
            f"{self.wrong_psnr:.1f} {self.wrong}",
            "-" if self.depth_error is None else f"{self.depth_error:.2f}",
            second,
            "PASS" if self.passed else "FAIL",
        )


HEADINGS = (
    "prompt",
    "views",
    "nearer",
    "IoU (unturned)",
    "turn",
    "PSNR (unturned)",
    "best wrong object",
    "depth",
    "second front",
    "",
)


def judge(
    sight: Sight, caption: Thing, scorer: ImageTextScorer, prior: DiffusionPrior | None, rng: torch.Generator
) -> Judged:
    """Return one row. Without a prior, and for a real object, which the toy prior does not know, the truth alone looks for a second front."""
    asked = prior if isinstance(caption, Caption) else None
    return Judged(caption, recognised(scorer, sight.seen.rgb, caption), compare(sight.seen, caption), detect_janus(sight.behind, caption, asked, rng))


def needed(prompts: int) -> int:
    """Return how many of so many prompts should pass: five in six."""
    return -(-5 * prompts // 6)


def table(records: Sequence[AcceptanceRecord]) -> str:
    """Return the table as text, and in its last line the count that matters, with means."""
    rows = [HEADINGS, *(r.cells() for r in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    passed = sum(r.passed for r in records)
    means = [sum(getattr(r, k) for r in records) / max(len(records), 1) for k in ("views_right", "views_nearer", "iou", "psnr")]
    told = "mean views {:.1f}, nearer {:.1f}, IoU {:.2f}, PSNR {:.1f} dB".format(*means)
    return "\n".join([*lines, f"{passed} of {len(records)} pass ({needed(len(records))} are wanted); {told}"])


def sheet(captions: Sequence[Thing], sights: Sequence[Sight]) -> Float[Tensor, "3 sheet_h sheet_w"]:
    """Return two rows per run: the splats from the eight views, and the truth below them."""
    rows: list[Tensor] = []
    for caption, sight in zip(captions, sights, strict=True):
        rows += [sight.seen.rgb.cpu(), draw(caption, VIEWS).rgb]
    labels = [
        f"{e:.0f}°, {a % 360:.0f}°" for a, e in zip(VIEWS.azimuth.tolist(), VIEWS.elevation.tolist(), strict=True)
    ]
    return contact_sheet(torch.cat(rows), len(VIEWS), labels * len(rows))
