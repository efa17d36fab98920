"""Finished splats to look at: what is exported, and folders of several runs."""

from pathlib import Path

from splatdistill.export import saved_splats
from splatdistill.export.saved_splats import SavedSplats
from splatdistill.train.checkpoint import NOTE


def load(path: Path) -> list[SavedSplats]:
    """Return what is at a path: a run, a checkpoint or a file of splats, as `splatdistill export` takes it; or all the runs
    in a folder, such as the variants of one prompt. UserError for whatever is none of these.
    """
    path = Path(path).expanduser()
    alone = (path / NOTE).is_file() or bool(saved_splats.results(path))
    runs = [] if alone else sorted({p.parent for p in path.glob("*/splats.ply")})
    return [each for run in runs for each in saved_splats.load(run)] if runs else saved_splats.load(path)
