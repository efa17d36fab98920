"""The .ply container: a text header that describes rows of numbers, and the rows.

Reads the `vertex` element of binary (either byte order) and ascii files. Nothing is believed before it is
checked: memory is bounded by a small multiple of the file's true size, whatever the header claims.
"""

import io
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splatdistill.errors import UserError
from splatdistill.io.atomic import replacing
from splatdistill.io.rows import opened

HEADER_LIMIT = 1 << 16  # bytes
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
RGB = ("red", "green", "blue")
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass(frozen=True)
class Table:
    """The vertices of a .ply file."""

    path: Path
    rows: np.ndarray  # structured, one field per property
    comments: tuple[str, ...]  # as they stand in the header

    def column(self, name: str) -> np.ndarray:
        """One property as float32."""
        return self.rows[name].astype(np.float32)

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Several properties as float32, (n, len(names))."""
        out = np.empty((len(self.rows), len(names)), np.float32)
        for i, name in enumerate(names):
            out[:, i] = self.rows[name]
        return out

    def demand(self, names: Sequence[str], what: str) -> None:
        """UserError unless these properties are there and are of floating point."""
        dtype = self.rows.dtype
        if missing := [n for n in names if n not in (dtype.names or ())]:
            raise UserError(f"{self.path} does not hold {what}: it has no {', '.join(missing)}")
        if wrong := [n for n in names if dtype[n].kind != "f"]:
            raise UserError(f"{self.path}: {wrong[0]} should be float or double, not {dtype[wrong[0]].name}")


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    fields: dict[str, str]  # property -> numpy type without byte order
    lists: bool  # rows of varying length


@dataclass(frozen=True)
class _Header:
    order: str
    elements: tuple[_Element, ...]
    comments: tuple[str, ...]
    size: int  # bytes before the first row


def read_table(path: Path) -> Table:
    """The vertices of a .ply file; UserError for whatever is not one."""
    with opened(path) as file:
        header = _header(path, file)
        return Table(path, _rows(path, file, header), header.comments)


def read_properties(path: Path) -> tuple[str, ...]:
    """Names of the vertices' properties, from the header alone; UserError as `read_table`."""
    with opened(path) as file:
        return tuple(next(e for e in _header(path, file).elements if e.name == "vertex").fields)


def read_comments(path: Path) -> tuple[str, ...]:
    """The header's comments as they stand there; UserError as `read_table`."""
    with opened(path) as file:
        return _header(path, file).comments


def colours(table: Table) -> np.ndarray:
    """red green blue in [0, 1] as float32, (n, 3), whether they are stored as integers or as such."""
    whole = [np.iinfo(t).max if (t := table.rows.dtype[n]).kind in "iu" else 1 for n in RGB]
    return table.columns(RGB) / np.array(whole, np.float32)


def write_table(path: Path, rows: np.ndarray, comments: Sequence[str]) -> None:
    """A binary little-endian .ply with one element `vertex`; all at once or not at all."""
    names = {np.dtype(t): n for n, t in TYPES.items()}  # the last name of each type: float32, uint8, ...
    names |= {np.dtype("f4"): "float", np.dtype("u1"): "uchar"}  # what old readers know
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {escape(c)}" for c in comments)]
    lines += [f"element vertex {len(rows)}"]
    for field in rows.dtype.names or ():
        lines.append(f"property {names[rows.dtype[field].newbyteorder('=')]} {field}")
    head = ("\n".join([*lines, "end_header"]) + "\n").encode("ascii")
    if len(head) > HEADER_LIMIT:
        raise ValueError(f"a header of {len(head)} bytes; fewer comments please")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(head)
        file.write(np.ascontiguousarray(rows).view(np.uint8).data)


def escape(text: str) -> str:
    """One line of ASCII: backslash escapes for the rest, and for words that naive parsers search headers for."""
    line = text.encode("unicode_escape").decode("ascii")
    return re.sub(r"end_header", r"end\\x5fheader", re.sub(r"element vertex", r"element\\x20vertex", line))


def unescape(line: str) -> str:
    """What `escape` was given; a line that is not its work is returned as it is."""
    try:
        return line.encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return line


def _header(path: Path, file: io.BufferedReader) -> _Header:
    def bad(what: str) -> UserError:
        return UserError(f"{path} is not a .ply that can be read: {what}")

    if file.readline(8).rstrip(b"\r\n") != b"ply":
        raise bad('it does not begin with a line "ply"; expected a .ply of Gaussian splats or points')
    order, comments, elements = None, [], []
    while True:
        raw = file.readline(HEADER_LIMIT)
        if not raw.endswith(b"\n") or file.tell() > HEADER_LIMIT:
            raise bad(f'no line "end_header" within the first {min(file.tell(), HEADER_LIMIT)} bytes; is it truncated?')
        line = raw.decode("latin-1").rstrip("\r\n")
        match line.split():
            case ["end_header"]:
                break
            case ["format", name, _] if name in ORDERS:
                order = ORDERS[name]
            case ["comment", *_]:
                comments.append(line[8:])
            case ["obj_info", *_] | []:
                pass
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                elements.append(_Element(name, int(count), {}, lists=False))
            case ["property", "list", _, _, _] if elements:
                last = elements.pop()
                elements.append(_Element(last.name, last.count, last.fields, lists=True))
            case ["property", kind, name] if elements and kind in TYPES:
                if name in elements[-1].fields:
                    raise bad(f"property {name} appears twice")
                elements[-1].fields[name] = TYPES[kind]
            case _:
                raise bad(f"header line {line[:80]!r} is not understood")
    if order is None:
        raise bad('no line "format ..." in its header')
    if "vertex" not in (e.name for e in elements):
        raise bad(f"no element vertex among {', '.join(e.name for e in elements) or 'no elements'}")
    if any("packed_position" in e.fields for e in elements):
        raise bad("it is a compressed .ply; convert it first, for example with `splat-transform in.ply out.ply`")
    return _Header(order, tuple(elements), tuple(comments), file.tell())


def _rows(path: Path, file: io.BufferedReader, header: _Header) -> np.ndarray:
    left = os.fstat(file.fileno()).st_size - header.size
    for element in header.elements:
        order = header.order or "="
        dtype = np.dtype([(name, order + kind) for name, kind in element.fields.items()])
        if element.lists or not element.fields:
            if element.name == "vertex" or not header.order:
                raise UserError(f"{path}: element {element.name} has properties that are not plain numbers")
            raise UserError(f"{path}: element {element.name} cannot be skipped; put the vertices before it")
        # In ascii a value takes a digit and a separator at least.
        need = element.count * (dtype.itemsize if header.order else 2 * len(element.fields)) - (not header.order)
        if need > left:
            raise UserError(
                f"{path} is truncated or its header wrong: {element.count} rows of {element.name} need "
                f"{need} bytes{'' if header.order else ' at least'}, there are {left}"
            )
        if element.name == "vertex":
            return np.fromfile(file, dtype, element.count) if header.order else _ascii(path, file, element.count, dtype)
        if header.order:
            file.seek(need, os.SEEK_CUR)
            left -= need
        else:
            next(itertools.islice(file, element.count, element.count), None)
    raise AssertionError("the header has a vertex element")


def _ascii(path: Path, file: io.BufferedReader, count: int, dtype: np.dtype) -> np.ndarray:
    try:
        lines = (line.decode("latin-1") for line in itertools.islice(file, count))
        rows = np.loadtxt(lines, dtype=dtype, ndmin=1, comments=None)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: a row is not {len(dtype)} numbers of the announced types ({error})") from error
    if len(rows) != count:
        raise UserError(f"{path} is truncated: its header announces {count} vertices, there are {len(rows)}")
    return rows
