"""The .ply container: a text header that describes rows of numbers, and the rows.

Reads elements, mostly `vertex`, of binary (either byte order) and ascii files, through plyfile where it is as fast and as safe:
it understands headers, reads elements with lists (meshes whose faces come first, vertices with lists) and writes files.
Two things are done here, as scripts/benchmark_files.py measures them:

- Headers are cut out first, within HEADER_LIMIT and without their comments: plyfile reads them byte by byte to whatever
  end (40 MB without one take it 10 s and 300 MiB) and refuses comments that are not ASCII. Counts are compared with the
  file's true size: plyfile makes room for all the rows that a header of text or with lists claims.
- Rows of plain numbers are decoded by NumPy: for a million rows of 62 floats plyfile takes 0.7 s and twice their memory
  (0.07 s and once), and for text it takes 12 times as long.

Nothing is believed before it is checked: memory is bounded by a small multiple of the file's true size.
"""

import io
import itertools
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from plyfile import PlyData, PlyElement, PlyListProperty, PlyParseError

from splatdistill.errors import UserError
from splatdistill.io.atomic import replacing
from splatdistill.io.opening import Name, opened

HEADER_LIMIT = 1 << 16  # bytes
COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))  # MeshLab's, others'
BRIGHTEST = 2.0  # of colours as floats of 0 to 1, which may shine a little
BEGIN = re.compile(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)")
COUNT = re.compile(r"(\s*element\s+\S+\s+)(\S+)\s*")


@dataclass(frozen=True)
class ElementTable:
    """Rows of one element of a .ply file."""

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

    def demand(self, names: Sequence[str], what: str, kind: Literal["f", "u"] = "f") -> None:
        """Raise a UserError unless these properties are there and are of floating point, or unsigned whole numbers."""
        dtype = self.rows.dtype
        if missing := [n for n in names if n not in (dtype.names or ())]:
            raise UserError(f"{self.path} does not hold {what}: it has no {', '.join(missing)}")
        if wrong := [n for n in names if dtype[n].kind != kind]:
            right = "float or double" if kind == "f" else "an unsigned whole number"
            raise UserError(f"{self.path}: {wrong[0]} should be {right}, not {dtype[wrong[0]].name}")


@dataclass(frozen=True)
class _Header:
    text: bool
    order: str  # of bytes, as NumPy has it
    elements: tuple[tuple[PlyElement, int], ...]  # described by plyfile, with the counts that the header claims
    comments: tuple[str, ...]
    size: int  # bytes before the first row


def read_table(path: Name) -> ElementTable:
    """Read the vertices of a .ply file; UserError for whatever is not one."""
    return read_tables(path, ["vertex"])["vertex"]


def read_tables(path: Name, names: Sequence[str]) -> dict[str, ElementTable]:
    """Read the vertices and those of the other elements that are there; UserError as `read_table`."""
    path = Path(path)
    with opened(path) as file:
        header = _header(path, file)
        return {name: ElementTable(path, rows, header.comments) for name, rows in _rows(path, file, header, {"vertex", *names}).items()}


def read_properties(path: Name) -> tuple[str, ...]:
    """Return the names of the vertices' properties, from the header alone; UserError as `read_table`."""
    with opened(path) as file:
        vertex = next(element for element, _ in _header(Path(path), file).elements if element.name == "vertex")
        return tuple(p.name for p in vertex.properties)


def read_comments(path: Name) -> tuple[str, ...]:
    """Return the header's comments as they stand there; UserError as `read_table`."""
    with opened(path) as file:
        return _header(Path(path), file).comments


def colour_names(table: ElementTable) -> tuple[str, ...] | None:
    """Return the names of the properties that are colours, None where there are none."""
    there = {*(table.rows.dtype.names or ())}
    return next((names for names in COLOURS if there.issuperset(names)), None)


def colours(table: ElementTable) -> tuple[np.ndarray, tuple[str, ...]]:
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
    """Write a binary little-endian .ply with one element `vertex`; all at once or not at all."""
    data = PlyData([PlyElement.describe(rows, "vertex")], byte_order="<", comments=[escape(c) for c in comments])
    if len(data.header) >= HEADER_LIMIT:
        raise ValueError(f"a header of {len(data.header)} bytes; fewer comments please")
    with replacing(Path(path)) as temporary:
        data.write(str(temporary))


def escape(text: str) -> str:
    """Return one line of ASCII: backslash escapes for the rest, and for words that naive parsers search headers for."""
    line = text.encode("unicode_escape").decode("ascii")
    return re.sub(r"end_header", r"end\\x5fheader", re.sub(r"element vertex", r"element\\x20vertex", line))


def unescape(line: str) -> str:
    """Undo `escape`; a line that is not its work is returned as it is."""
    try:
        return line.encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return line


def _header(path: Path, file: io.BufferedReader) -> _Header:
    """Cut the header out, have plyfile understand it, and check it."""

    def bad(what: str) -> UserError:
        return UserError(f"{path} is not a .ply that can be read: {what}")

    head = file.read(HEADER_LIMIT)
    begin = BEGIN.match(head)
    if begin is None:
        raise bad('it does not begin with a line "ply"; expected a .ply of Gaussian splats or points')
    line = begin[1]  # how its lines end: behind the header that is the first byte that is data
    end = re.compile(line + rb"end_header[ \t\r]*" + line).search(head, begin.end() - len(line))
    if end is None:
        raise bad(f'no line "end_header" within the first {len(head)} bytes; is it truncated?')
    lines = head[begin.end() : max(end.start(), begin.end())].decode("latin-1").split(line.decode("ascii"))
    lines = [each.strip("\r") for each in lines]
    counts, plain = [], []
    for each in lines:
        if found := COUNT.fullmatch(each):
            if not re.fullmatch(r"[0-9]{1,18}", found[2]):
                raise bad(f"header line {each[:80]!r} is not understood: expected a number of rows")
            counts.append(int(found[2]))
            plain.append(f"{found[1].strip()} 0")
        elif not each.lstrip().startswith(("comment", "obj_info")) and each.strip():
            plain.append(each.strip())
    try:
        data = PlyData.read(io.BytesIO("\n".join(["ply", *plain, "end_header\n"]).encode("ascii")))
    except (PlyParseError, ValueError) as error:  # ValueError: a name that appears twice, bytes that are no ASCII
        raise bad(str(error)[:200]) from error
    comments = tuple(each.lstrip()[8:] for each in lines if re.match(r"\s*comment(\s|$)", each))
    header = _Header(data.text, data.byte_order, tuple(zip(data.elements, counts, strict=True)), comments, end.end())
    if "vertex" not in data:
        raise bad(f"no element vertex among {', '.join(e.name for e in data) or 'no elements'}")
    return header


def _rows(path: Path, file: io.BufferedReader, header: _Header, names: set[str]) -> dict[str, np.ndarray]:
    """Read the elements of these names: plain numbers by NumPy; lists in them or before them by plyfile. Nothing behind the
    last of them is looked at.
    """
    found: dict[str, np.ndarray] = {}
    left_over = {element.name for element, _ in header.elements} & names
    file.seek(header.size)
    end = os.fstat(file.fileno()).st_size
    for element, count in header.elements:
        lists = [p for p in element.properties if isinstance(p, PlyListProperty)]
        dtype = np.dtype([(p.name, p.dtype(header.order)) for p in element.properties if p not in lists])
        # in text a value takes a digit and a separator at least, a list its length at least
        least = dtype.itemsize + sum(np.dtype(p.list_dtype()[0]).itemsize for p in lists)
        need = count * (2 * len(element.properties) if header.text else least) - header.text
        left = end - file.tell()
        if need > left:
            raise UserError(
                f"{path} is truncated or its header wrong: {count} rows of {element.name} need "
                f"{need} bytes{' at least' if header.text or lists else ''}, there are {left}"
            )
        wanted = element.name in names
        if not element.properties and (element.name == "vertex" or (count and not wanted)):
            raise UserError(f"{path}: its header announces {count} rows of {element.name} with nothing in them")
        if not element.properties:  # gsplat's compressed .ply without higher bands has such an element sh
            left_over -= {element.name}
            continue
        if wanted and not lists:
            found[element.name] = _ascii(path, file, count, dtype) if header.text else np.fromfile(file, dtype, count)
        elif wanted:
            found[element.name] = _listed(path, file, header, element, count)[[*(dtype.names or ())]]
        elif header.text:
            next(itertools.islice(file, count, count), None)
        elif lists:
            _listed(path, file, header, element, count)
        else:
            file.seek(need, os.SEEK_CUR)
        left_over -= {element.name}
        if not left_over:
            break
    return found


def _listed(path: Path, file: io.BufferedReader, header: _Header, element: PlyElement, count: int) -> np.ndarray:
    """Read the rows of an element with lists, which begin here, by plyfile; the file stands behind them then, if it is
    binary.
    """
    name = "ascii" if header.text else "binary_little_endian" if header.order == "<" else "binary_big_endian"
    head = "\n".join(["ply", f"format {name} 1.0", f"element {element.name} {count}", *map(str, element.properties), "end_header\n"])
    start = file.tell()
    stream = io.BytesIO(head.encode("ascii") + file.read())
    try:
        with _quiet():
            data = PlyData.read(stream)
    except (PlyParseError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is truncated or its header wrong: {str(error)[:200]}") from error
    if not header.text:
        file.seek(start + stream.tell() - len(head))
    return data[element.name].data


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress NumPy's warnings of lines without numbers: they are counted and reported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input contained no data")
        yield


def _ascii(path: Path, file: io.BufferedReader, count: int, dtype: np.dtype) -> np.ndarray:
    """Read lines of numbers."""
    try:
        lines = (line.decode("latin-1") for line in itertools.islice(file, count))
        with _quiet():
            rows = np.loadtxt(lines, dtype=dtype, ndmin=1, comments=None)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: a row is not {len(dtype.names or ())} numbers of the announced types ({error})") from error
    if len(rows) != count:
        raise UserError(f"{path} is truncated: its header announces {count} vertices, there are {len(rows)}")
    return rows
