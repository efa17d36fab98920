"""JSON of unknown origin: regular files of a bounded size, whatever is in them."""

import json
import stat
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20
"""Bytes of the largest JSON that is read; tokenizers with a vocabulary of a million words have 30 MB."""
CONFIGURATION = 2**20
"""Bytes of the largest configuration; real ones have 2 KB."""


class Unreadable(Exception):
    """Error for a file in another format than expected; the message is the reason, as text that follows the file's name."""


def regular_size(path: Path) -> int:
    """Return the bytes in a file; Unreadable unless it is a regular file, or a link to one, that may be read."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Unreadable(f"is a link to {shown(str(path.readlink()))}, which is missing" if path.is_symlink() else "is missing") from error
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("is no regular file")
    return found.st_size


def read_object(path: Path, largest: int = CONFIGURATION) -> dict[str, Any]:
    """Return the object in a JSON file of at most `largest` bytes. Raises Unreadable."""
    size = regular_size(path)
    if size > largest:
        raise Unreadable(f"has {size:,} bytes; expected at most {largest:,}")
    try:
        return parsed(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from error


def parsed(data: bytes) -> dict[str, Any]:
    """Return the object in JSON text. Raises Unreadable."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("begins with a byte order mark; save it as UTF-8 without one")
    try:
        value = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise Unreadable("is not a JSON object")
    return value


def first_line(error: BaseException, longest: int = 160) -> str:
    """Return the kind of an error and the first line of its text, made printable; it may quote the file."""
    said = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {shown(said[0], longest)}"


def shown(value: object, longest: int = 60) -> str:
    """Return a value from a file, made printable: in one line, without control characters, not long."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
