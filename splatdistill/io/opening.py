"""Opening files that somebody names: a path as text or as a Path, and a plain word for what cannot be read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from splatdistill.errors import UserError

Name = str | os.PathLike[str]  # of a file, wherever one is taken


@contextmanager
def opened(path: Name) -> Iterator[BufferedReader]:
    """Open a file's bytes; UserError for what is not there, is no file, or cannot be read."""
    path = Path(path)
    try:
        if not path.exists():
            raise UserError(f"no file {path}; check the name (it is looked for in {Path.cwd()})")
        if not path.is_file():  # a pipe would wait for ever
            raise UserError(f"{path} is not a file; give a file of splats" + (" inside it" if path.is_dir() else ""))
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a zero byte in it
        if "null" in str(error):
            raise UserError(f"cannot read {str(path)!r}: {error}") from error
        raise
