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
from splatdistill.io.opening import Name, opened

HEADER_LIMIT = 1 << 16  # bytes
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))  # MeshLab's, others'
BRIGHTEST = 2.0  # of colours as floats of 0 to 1, which may shine a little
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass(frozen=True)
class Table:
    """The vertices of a .ply file."""

    path: Path
    rows: np.ndarray  # structured, one field per property
    comments: tuple[str, ...]  # as they stand in the header

    def column(self, name: str) -> np.ndarray:
        """Return one property as float32."""
        return self.rows[name].astype(np.float32)

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Return several properties as float32, (n, len(names))."""
        out = np.empty((len(self.rows), len(names)), np.float32)
        with np.errstate(over="ignore"):  # doubles that are too large become infinite, and are refused with their rows
            for i, name in enumerate(names):
                out[:, i] = self.rows[name]
        return out

    def positions(self, names: Sequence[str]) -> np.ndarray:
        """Return several properties, (n, len(names)): float64 if one of them is, so that places far from the origin stay
        apart, else float32.
        """
        if all(self.rows.dtype[name].itemsize <= 4 for name in names):
            return self.columns(names)
        return np.stack([self.rows[name].astype(np.float64) for name in names], 1)

    def share(self, name: str) -> np.ndarray:
        """Return a property in [0, 1] as float32: integers are shares of the greatest that they can be."""
        kind = self.rows.dtype[name]
        return self.column(name) / np.float32(np.iinfo(kind).max if kind.kind in "iu" else 1)

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


def read_table(path: Name) -> Table:
    """The vertices of a .ply file; UserError for whatever is not one."""
    path = Path(path)
    with opened(path) as file:
        header = _header(path, file)
        return Table(path, _rows(path, file, header), header.comments)


def read_properties(path: Name) -> tuple[str, ...]:
    """Names of the vertices' properties, from the header alone; UserError as `read_table`."""
    with opened(path) as file:
        return tuple(next(e for e in _header(Path(path), file).elements if e.name == "vertex").fields)


def read_comments(path: Name) -> tuple[str, ...]:
    """The header's comments as they stand there; UserError as `read_table`."""
    with opened(path) as file:
        return _header(Path(path), file).comments


def colour_names(table: Table) -> tuple[str, ...] | None:
    """Return the names of the properties that are colours, None where there are none."""
    there = {*(table.rows.dtype.names or ())}
    return next((names for names in COLOURS if there.issuperset(names)), None)


def colours(table: Table) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return red green blue in [0, 1] as float32, (n, 3), and a note where that took a guess: floats above 1 are taken for
    those of 0 to 255, or of 0 to 65535, as whoever wrote them must have meant.
    """
    names = colour_names(table)
    assert names is not None
    out = np.stack([table.share(name) for name in names], 1)
    floats = out[:, [table.rows.dtype[name].kind == "f" for name in names]]
    most = np.max(floats, initial=0.0, where=np.isfinite(floats))
    if most <= BRIGHTEST:
        return out, ()
    full = 255 if most <= 256 else 65535
    return out / np.float32(full), (f"colours are floats of up to {most:.6g}: taken as 0 to {full}",)


def write_table(path: Name, rows: np.ndarray, comments: Sequence[str]) -> None:
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
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
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
        raise UserError(f"{path}: a row is not {len(dtype.names or ())} numbers of the announced types ({error})") from error
    if len(rows) != count:
        raise UserError(f"{path} is truncated: its header announces {count} vertices, there are {len(rows)}")
    return rows
