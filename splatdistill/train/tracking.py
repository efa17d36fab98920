"""Scalars and pictures of a run for TensorBoard, beside its log: tensorboard --logdir runs

Needs the extra `tensorboard`. A resumed run goes on in the same folder; what an earlier process wrote after the checkpoint
is hidden there.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.io.images import contact_sheet
from splatdistill.train.events import Callback, Ended, Event, Preview, Saved, StepDone
from splatdistill.train.run import RunDir

Tracker = Literal["tensorboard"]
NEEDS = '--track tensorboard needs TensorBoard, which is not here: pip install "tensorboard>=2.18,<3"'
FOLDER = "tensorboard"  # inside a run's


def available(wanted: str | None) -> None:
    """Raise a UserError unless what is to track runs is known and installed; None asks for nothing."""
    if wanted is None:
        return
    if wanted not in get_args(Tracker):
        raise UserError(f"--track is one of {', '.join(get_args(Tracker))}; got {wanted!r}")
    _writer()


def trackers(wanted: str | None, folder: RunDir, step: int = 0) -> list[Callback]:
    """Return the callbacks that track a run that begins, or goes on, at a step; UserError as `available`."""
    available(wanted)
    return [] if wanted is None else [TensorBoard(folder.path / FOLDER, step, folder.config)]


def _writer() -> Any:
    """Return torch's writer of event files, which needs the package; UserError where that is not here."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(NEEDS) from error
    return SummaryWriter


class Writer:
    """Writer of a run's scalars and pictures for TensorBoard."""

    def __init__(self, path: Path, step: int = 0, config: Path | None = None) -> None:
        """Start, or continue at `step`. config: a file whose text is shown with the run."""
        try:
            self.writer = _writer()(str(path), purge_step=step + 1 if step else None)
            if config is not None and config.is_file() and not step:
                self.writer.add_text("config", "    " + config.read_text(encoding="utf-8").replace("\n", "\n    "), 0)
        except OSError as error:
            raise UserError(f"could not write to {path}: {error.strerror or error}") from error

    def scalars(self, values: Mapping[str, float], step: int, apart: str = "") -> None:
        """Write the values of a step; what is not finite is left out, as no curve shows it."""
        for name, value in values.items():
            if math.isfinite(value):
                self.writer.add_scalar(f"{name}{apart}", value, step)

    def picture(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Write a picture with values in [0, 1]."""
        self.writer.add_image(name, image, step)

    def close(self) -> None:
        """Write what is left, and end."""
        self.writer.close()


class TensorBoard(Writer):
    """Callback for events that writes them for TensorBoard, at the steps of the log.

    Scalars: loss (of the regularisers), gradient, noise level, coverage, splats, refused steps, seconds of a step; several
    particles have theirs apart. Images: the previews, and the prior's estimate beside them.
    """

    def __call__(self, event: Event) -> None:
        """Write a step or a preview; when something was saved, all of it is on disk."""
        match event:
            case StepDone():
                self.step(event)
            case Preview():
                self.picture("previews", contact_sheet(event.views.cpu(), columns=4), event.step)
                if event.x0 is not None:
                    self.picture("estimate", contact_sheet(event.x0.cpu(), columns=4), event.step)
            case Saved():
                self.writer.flush()
            case Ended():
                self.close()
            case _:
                pass

    def step(self, done: StepDone) -> None:
        """Write the scalars of a step."""
        values = {
            "loss": done.loss, "gradient": done.grad_norm, "noise level": done.t, "coverage": done.coverage,
            "splats": done.gaussians, "refused steps": done.refused, "seconds a step": done.timing.total,
        }  # fmt: skip
        self.scalars(values, done.step, "" if done.particle is None else f"/particle {done.particle + 1}")
