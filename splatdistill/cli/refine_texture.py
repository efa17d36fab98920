"""export --refine-texture: the prior and the settings of the run that a mesh comes from, for its texture to be refined by."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from splatdistill.errors import UserError
from splatdistill.export.prepare import Preparation
from splatdistill.export.refine import refined
from splatdistill.gaussians import Gaussians
from splatdistill.guidance import Guidance
from splatdistill.io.mesh import Mesh
from splatdistill.settings.finished import finished
from splatdistill.settings.methods import guidance_of
from splatdistill.settings.phases import named
from splatdistill.settings.resolve import Weights, resolved
from splatdistill.train.begin import begin
from splatdistill.train.config import Train
from splatdistill.train.phase_change import within
from splatdistill.train.progress import Work
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

PHASE = "picture"  # whose settings it has: weak noise, and some moves towards each denoised picture


def sessions(path: Path | None, guidance: str, console: Console) -> Session:
    """Return a session of a finished run's prompt and prior, with the settings of the phase `picture` or with another guidance;
    UserError where the path is no such run.
    """
    found, folder = Weights(), RunDir(Path(path or "").expanduser())
    settings = finished(folder, "--refine-texture needs the run that a mesh comes from:")[1]
    settings = within(settings, named(PHASE, found.family(settings.prior)))
    if guidance:
        chosen = method(guidance, settings, found)
        settings = replace(settings, guidance=chosen, inner=1 if chosen.targetless() else settings.inner)
    at = found.find(settings.prior)
    if at.notice:
        console.print(at.notice, style="bold yellow")
    return begin(resolved(replace(settings, also=()), at), at)


def method(text: str, settings: Train, found: Weights) -> Guidance:
    """Return the guidance of a text such as vsd or "sdi[times.t_max=0.5]", as its recipe for the run's prior has it."""
    kind, wrong_view = guidance_of(text, settings.prior, found)
    if wrong_view:
        raise UserError(f"--refine-guidance {text}: @wrong-view is for `splatdistill variance`; expected NAME or NAME[OPTION=VALUE, ...]")
    return kind


def textured(mesh: Mesh, session: Session, steps: int, console: Console) -> Mesh:
    """Return the mesh with a refined texture; it lies where the run's splats do."""
    with Work(console, "refining the texture", steps) as work:
        return refined(mesh, session, steps, work.done)


def moved(mesh: Mesh, kept: Gaussians, preparation: Preparation) -> Mesh:
    """Return a mesh of splats as they were where it lies once they are prepared."""
    import torch

    points = preparation.points(torch.from_numpy(mesh.vertices).double(), kept)
    return replace(mesh, vertices=points.float().numpy())
