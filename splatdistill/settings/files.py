"""Paths as people type them."""

from pathlib import Path

from splatdistill.checks import shown
from splatdistill.errors import UserError


def expanded(path: str | Path) -> Path:
    """Return a path with ~ replaced by the home folder; UserError for the home of a user that there is none of."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{shown(str(path))}: there is no such home folder; write the path out") from None


def is_file(path: Path) -> bool:
    """Return whether a path is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
