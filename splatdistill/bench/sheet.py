"""All results beside each other: a row for each prompt, a column for each method."""

import textwrap
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from splatdistill.bench.judge import Results
from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.evaluate.measure import Laboratory, named
from splatdistill.io.images import contact_sheet
from splatdistill.io.ply import read_ply
from splatdistill.toybox import render

SIZE = 128  # pixels per side of a picture
VIEW = ([30.0], 15.0, 2.8, 42.0)  # azimuth, elevation, distance, field of view


def words(text: str, size: int = SIZE) -> Float[Tensor, "3 size size"]:
    """Text in a square, dark on white."""
    canvas = Image.new("L", (size, size), 255)
    lines = textwrap.wrap(text, 18)[:7]
    ImageDraw.Draw(canvas).multiline_text(
        (4, size // 2), "\n".join(lines), fill=0, font=ImageFont.load_default(size=12), anchor="lm"
    )
    return torch.from_numpy(np.array(canvas)).float().div(255).expand(3, -1, -1)


@torch.no_grad()
def picture(path: Path, lab: Laboratory) -> Float[Tensor, "3 size size"]:
    """Splats from the front right."""
    gaussians = read_ply(path).to(lab.device)
    out = lab.rasterizer(gaussians, orbit(*VIEW, SIZE).to(lab.device), torch.ones(1, 3, device=lab.device))
    return out.rgb[0].clamp(0, 1).cpu()


def sheet(results: Results, lab: Laboratory, seed: int) -> Float[Tensor, "3 h w"]:
    """The results of one seed; on the toybox with the truth as the last column. An empty place says how its run ended."""
    truth = all(named(p) is not None for p in results.prompts)
    cells, labels = [], []
    by_place = {(j.job.prompt, j.job.arm): j for j in results.judged if j.job.seed == seed}
    for prompt in results.prompts:
        cells.append(words(prompt))
        labels.append(f"seed {seed}")
        for arm in results.arms:
            labels.append(arm)
            cells.append(shown(by_place.get((prompt, arm)), lab))
        if truth and (caption := named(prompt)):
            labels.append("truth")
            cells.append(render([caption.parts()], orbit(*VIEW, SIZE)).rgb[0])
    return contact_sheet(torch.stack(cells), len(results.arms) + 1 + truth, labels)


def shown(judged, lab: Laboratory) -> Float[Tensor, "3 size size"]:
    """A job's picture, or words in its place."""
    if judged is None:
        return words("-")
    splats = judged.measured.run.splats if judged.measured else ()
    try:
        return picture(splats[0], lab) if splats else words(judged.ended)
    except UserError:
        return words(judged.ended)
