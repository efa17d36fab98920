"""Writing a file as a whole or not at all."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from splatdistill.errors import UserError, reason
from splatdistill.system import BINARY

TEMPORARY = re.compile(r"\.\d+-\d+-.+")  # names that `replacing` writes to
_MASK = os.umask(0)  # it can only be read by setting it
os.umask(_MASK)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Names that this process could not decode, which Python holds as lone
    surrogates (PEP 383), are written as the bytes that they are where those are UTF-8, and spelled out where they are not.
    """
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that are no bytes
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` (same suffix) to write to; it takes `path`'s place when the block ends well.

    Otherwise it is removed and what was at `path` stays. Missing folders are made. The file is as readable for others as
    the process's umask allows, whatever library wrote it. UserError where the system refuses: a full disk, a folder in the
    way, no permission.
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
            with suppress(OSError):  # file systems without modes
                os.chmod(temporary, 0o666 & ~_MASK)  # safetensors makes its files private
            os.replace(temporary, target)
        finally:
            with suppress(OSError):  # what went wrong before is what is told
                temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        kept = f"; {path} is as it was before" if target.exists() else ""
        raise UserError(f"cannot write {path}: {reason(error)}{kept}. Make room or choose another place, and try again") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def append(path: Path, line: str) -> None:
    """Add one line of text to a file, whole or not at all; UserError where the system refuses."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o666)
        try:
            size, data = os.fstat(file).st_size, (line + "\n").encode()
            try:
                if os.write(file, data) < len(data):
                    raise OSError("only a part of it could be written")
            except OSError:
                os.ftruncate(file, size)
                raise
        finally:
            os.close(file)
    except OSError as error:
        gone = "" if path.parent.is_dir() else f"; the folder {path.parent} has gone"
        raise UserError(f"cannot write {path}: {reason(error)}{gone}. Make room or choose another place, and try again") from error


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk; do nothing where the system has no such call."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_temporaries(folder: Path) -> None:
    """Remove what processes that were killed left of files they were writing. No other process may be writing there."""
    with suppress(OSError):
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)
