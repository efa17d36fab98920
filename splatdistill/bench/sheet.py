"""All results beside each other: a row for each prompt, a column for each method."""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from splatdistill.bench.measure_jobs import Results
from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError
from splatdistill.evaluate.measure import Evaluator, named
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats
from splatdistill.io.images import contact_sheet
from splatdistill.render import Rasterizer
from splatdistill.toybox.things import draw
from splatdistill.toybox.world import VIEWS as WORLD

SIZE = 128  # pixels per side of a picture
VIEW = ([30.0], 15.0, *WORLD.middle)  # azimuth, elevation, distance, field of view


def words(text: str, size: int = SIZE) -> Float[Tensor, "3 size size"]:
    """Return text in a square, dark on white."""
    canvas = Image.new("L", (size, size), 255)
    lines = textwrap.wrap(text, size // 7)[: size // 18]
    ImageDraw.Draw(canvas).multiline_text(
        (4, size // 2), "\n".join(lines), fill=0, font=ImageFont.load_default(size=12), anchor="lm"
    )
    return torch.from_numpy(np.array(canvas)).float().div(255).expand(3, -1, -1)


@torch.no_grad()
def looks(splats: Gaussians, rasterizer: Rasterizer, views: Cameras) -> Float[Tensor, "v 3 h w"]:
    """Return splats on white."""
    white = torch.ones(len(views), 3, device=splats.means.device)
    return rasterizer(splats, views.to(splats.means.device), white).rgb.clamp(0, 1).cpu()


def side_by_side(
    prompts: Sequence[str],
    methods: Sequence[str],
    views: Cameras,
    corner: str,
    shown: Callable[[str, str], tuple[str, Float[Tensor, "v 3 h w"] | str]],
) -> Float[Tensor, "3 h w"]:
    """Return rows for each prompt, one for each view; a column for each method, and where all prompts are of the toybox one for
    the truth. corner: label of the prompts' column. shown: the label and the pictures of a prompt's result by a method, or
    words in their place.
    """
    truth = all(named(p) is not None for p in prompts)
    cells, labels = [], []
    for prompt in prompts:
        columns = [(corner, prompt), *((label, seen) for m in methods for label, seen in [shown(prompt, m)])]
        if truth and (caption := named(prompt)):
            columns.append(("truth", draw(caption, views).rgb))
        for view in range(len(views)):
            labels += [label if view == 0 else "" for label, _ in columns]
            for _, seen in columns:
                if isinstance(seen, str):
                    cells.append(words(seen if view == 0 else "", views.width))
                else:
                    cells.append(seen[view])
    return contact_sheet(torch.stack(cells), len(methods) + 1 + truth, labels)


def sheet(results: Results, judges: Evaluator, seed: int) -> Float[Tensor, "3 h w"]:
    """Return the results of one seed. An empty place says how its run ended."""
    views = orbit(*VIEW, SIZE)
    by_place = {(j.job.prompt, j.job.arm): j for j in results.judged if j.job.seed == seed}

    def shown(prompt: str, arm: str) -> tuple[str, Float[Tensor, "v 3 h w"] | str]:
        judged = by_place.get((prompt, arm))
        if judged is None:
            return arm, "-"
        if not (judged.measured and judged.measured.run.splats):
            return arm, judged.ended
        try:
            splats = load_splats(judged.measured.run.splats[0]).strict(drop_invalid=True)  # told when it was measured
        except UserError:
            return arm, judged.ended
        return arm, looks(splats.to(judges.device), judges.rasterizer, views)

    return side_by_side(results.prompts, results.arms, views, f"seed {seed}", shown)
