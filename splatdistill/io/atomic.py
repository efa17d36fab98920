"""Writing a file as a whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from splatdistill.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` (same suffix) to write to; it takes `path`'s place when the block ends well.

    Otherwise it is removed and what was at `path` stays. Missing folders are made. UserError where the system
    refuses: a full disk, a folder in the way, no permission.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.is_dir():
        raise UserError(f"cannot write {path}: a folder of that name is there; give another name or remove it")
    temporary = target.with_name(f".{os.getpid()}-{threading.get_ident()}-{target.name[-100:]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())  # or a crash could leave the new name on an empty file
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        kept = f"; {path} is as it was before" if target.exists() else ""
        raise UserError(
            f"cannot write {path}: {error.strerror or error}{kept}. Make room or choose another place, and try again"
        ) from error
