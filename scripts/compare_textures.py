"""Textures of meshes: colours of the splats as they are baked, and refined by guidances, against the truth.

    python scripts/compare_textures.py runs/a-red-mushroom runs/a-blue-robot --guidances "" vsd sds --steps 50
    python scripts/compare_textures.py runs/acceptance/* --out textures

Finished runs of toybox prompts become meshes as `splatdistill export --format glb` makes them, and their textures are refined as
--refine-texture does: "" is the phase `picture`. All lie on the same surface, so that only colours differ. From eight views on white, after
the turn about the up axis that suits the baked mesh best, the PSNR of whole pictures, and that of pixels where both the mesh and the
true object are. Differences to the baked texture are paired by prompt, with 95 % intervals. --out: the meshes, and a sheet: a row
for each run, the truth first, then baked, then each guidance, front and back.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from splatdistill.bench.statistics import Comparison, compare
from splatdistill.cli.refine_texture import sessions
from splatdistill.errors import UserError
from splatdistill.evaluate.acceptance import VIEWS
from splatdistill.evaluate.truth import best_turn, psnr, turned
from splatdistill.export.mesh_views import MeshViews
from splatdistill.export.meshes import meshed
from splatdistill.export.refine import refined
from splatdistill.export.saved_splats import chosen
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.io.mesh import Mesh, write_glb
from splatdistill.render import rasterizer
from splatdistill.toybox.things import draw, understood

SIZE = 128
BAKED = "baked"


def inside(rgb: Tensor, truth: Tensor, both: Tensor) -> Tensor:
    """Return the PSNR of the pixels that are in both silhouettes, per picture."""
    error = ((rgb - truth).square().mean(1, keepdim=True) * both).sum((1, 2, 3)) / both.sum((1, 2, 3)).clamp(min=1)
    return -10 * error.clamp(min=1e-10).log10()


def shown(mesh: Mesh, views: MeshViews) -> Tensor:
    """Return a mesh on white."""
    return views.show(torch.from_numpy(mesh.texture.copy()).permute(2, 0, 1).float() / 255, torch.ones(len(views.cameras), 3))


def textures(path: Path, guidances: Sequence[str], steps: int) -> dict[str, Mesh]:
    """Return a run's mesh with the baked texture and with refined ones, by the guidance."""
    session = sessions(path, "", Console(stderr=True))
    mesh = meshed(chosen(path, 1).gaussians, rasterizer("cpu"))
    found = {BAKED: mesh}
    for guidance in guidances:
        found[guidance or "picture"] = refined(mesh, sessions(path, guidance, Console(stderr=True)) if guidance else session, steps)
    return found


def judged(meshes: dict[str, Mesh], prompt: str) -> tuple[dict[str, tuple[float, float]], list[Tensor]]:
    """Return PSNR of whole pictures and inside both silhouettes, by the texture; and pictures of the front and the back, the truth first."""
    views, thing = MeshViews.of(meshes[BAKED], VIEWS.resized(SIZE, SIZE)), understood(prompt)
    first = shown(meshes[BAKED], views)
    turn = best_turn(first, views.cameras, thing)
    truth = draw(thing, turned(views.cameras, torch.tensor([turn.degrees])))
    alpha = torch.nn.functional.avg_pool2d(views.seen, views.seen.shape[-1] // SIZE)
    both = ((alpha > 0.99) & (truth.alpha > 0.99)).float()
    rows, pictures = {}, [truth.rgb[0], truth.rgb[3]]
    for name, mesh in meshes.items():
        rgb = shown(mesh, views)
        rows[name] = (float(psnr(rgb, truth.rgb).mean()), float(inside(rgb, truth.rgb, both).mean()))
        pictures += [rgb[0], rgb[3]]
    return rows, pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run this script's command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs of toybox prompts, one a prompt")
    parser.add_argument("--guidances", nargs="+", default=["", "sds", "vsd"], help='the phase picture (""), and methods such as "sdi[times.t_max=0.5]"')
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where meshes and a sheet go")
    asked = parser.parse_args(arguments)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    sheet: list[Tensor] = []
    for path in asked.runs:
        prompt = chosen(path, 1).prompt
        meshes = textures(path, asked.guidances, asked.steps)
        found[prompt], pictures = judged(meshes, prompt)
        sheet += pictures
        print(f"{prompt:32}" + "  ".join(f"{name} {whole:.2f} {part:.2f}" for name, (whole, part) in found[prompt].items()), flush=True)
        if asked.out is not None:
            for name, mesh in meshes.items():
                (asked.out / path.name).mkdir(parents=True, exist_ok=True)
                write_glb(asked.out / path.name / f"{''.join(c if c.isalnum() else '-' for c in name)}.glb", mesh, [f"prompt {prompt}"])
    names = list(next(iter(found.values())))
    print("\n| texture | PSNR, dB | PSNR inside, dB | difference to baked | inside |\n| --- | --- | --- | --- | --- |")
    for name in names:
        mean = [sum(row[name][k] for row in found.values()) / len(found) for k in (0, 1)]
        print(f"| {name} | {mean[0]:.2f} | {mean[1]:.2f} | {' | '.join(difference(found, name, k) for k in (0, 1))} |")
    if asked.out is not None:
        write_png(asked.out / "textures.png", contact_sheet(torch.stack(sheet), columns=2 + 2 * len(names)))
        print(asked.out / "textures.png")
    return 0


def difference(found: dict[str, dict[str, tuple[float, float]]], name: str, which: int) -> str:
    """Return the mean difference of a texture's PSNR to the baked one's, with its interval."""
    if name == BAKED:
        return ""
    mine, theirs = ({(prompt, 0): row[key][which] for prompt, row in found.items()} for key in (name, BAKED))
    c: Comparison | None = compare("psnr", name, mine, BAKED, theirs)
    assert c is not None
    return f"{c.difference:+.2f}" + ("" if c.low is None or c.high is None else f" [{c.low:.2f}, {c.high:.2f}]")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as e:
        sys.exit(f"error: {e}")
