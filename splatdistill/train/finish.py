"""Results of a run: the splats, a turntable, a contact sheet."""

from dataclasses import dataclass
from pathlib import Path

import torch

from splatdistill.cameras import orbit
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import centred, fitting
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.io.ply import write_ply
from splatdistill.io.video import write_mp4
from splatdistill.render import Rasterizer
from splatdistill.train.run import RunDir

FOV = 42.0  # degrees, of the cameras of films and sheets


@dataclass(frozen=True)
class Artefacts:
    """Files that a run wrote."""

    splats: Path
    turntable: Path
    sheet: Path
    dropped: int  # splats with non-finite values, left out of the file
    others: tuple["Artefacts", ...] = ()  # of the second particle, the third, ...


@torch.no_grad()
def finish(
    run: RunDir, gaussians: Gaussians, rasterizer: Rasterizer, comments: list[str], size: int = 256, frames: int = 72, particle: int = 0
) -> Artefacts:
    """Write splats.ply, turntable.mp4 (once around, 15 degrees up, 24 frames a second) and sheet.png (eight sides
    at 15 degrees and eight at 50) on white, from where the object fills the picture whatever its size; for a particle but the
    first splats-2.ply and so on. UserError where no splat has only finite values.
    """
    device = gaussians.means.device
    splats, turntable, sheet = (run.artefact(name, particle) for name in ("splats.ply", "turntable.mp4", "sheet.png"))
    written = write_ply(splats, gaussians, comments)
    finite = gaussians.finite()
    shown, radius = centred(gaussians if bool(finite.all()) else gaussians[finite])  # as in the file

    def views(azimuth: torch.Tensor, elevation: float, size: int) -> torch.Tensor:
        shots = []
        for part in azimuth.split(8):
            cameras = orbit(part, elevation, fitting(radius, FOV), FOV, size).to(device)
            shots.append(rasterizer(shown, cameras, torch.ones(len(part), 3, device=device)).rgb.clamp(0, 1).cpu())
        return torch.cat(shots)

    write_mp4(turntable, views(torch.arange(frames) * (360 / frames), 15.0, size), fps=24)
    around = [views(torch.arange(8) * 45.0, 15.0, size // 2), views(torch.arange(8) * 45.0, 50.0, size // 2)]
    write_png(sheet, contact_sheet(torch.cat(around), columns=8))
    return Artefacts(splats, turntable, sheet, written.dropped)
