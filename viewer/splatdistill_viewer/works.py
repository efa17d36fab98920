"""Finished work to look at: what is exported, and folders of several runs."""

from pathlib import Path

from splatdistill.export import works
from splatdistill.export.works import Work


def load(path: Path) -> list[Work]:
    """What is at a path: a run, a checkpoint or a file of splats, as `splatdistill export` takes it; or all the runs in a
    folder, such as the variants of one prompt. UserError for whatever is none of these.
    """
    path = path.expanduser()
    alone = (path / "state.json").is_file() or any(path.glob("splats*.ply"))
    runs = [] if alone else sorted({p.parent for p in path.glob("*/splats.ply")})
    return [work for run in runs for work in works.load(run)] if runs else works.load(path)
