"""Reading and writing .ply here and by plyfile: python scripts/benchmark_files.py --rows 100000 1000000 --ascii 100000

Time and memory of rows of 62 floats, in memory at the end, each in a process of its own; then hostile files of a few
kilobytes to some megabytes, under a limit of memory: the answer, how long it took and what it took. `io/table.py` says
what follows from it.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from splatdistill.errors import UserError
from splatdistill.io.table import read_table, write_table

FLOATS = [f"c{i}" for i in range(59)]
LITTLE, ASCII = "format binary_little_endian 1.0", "format ascii 1.0"
ROOM = 2 << 30  # bytes of address space that a hostile file may take


def rows(count: int) -> np.ndarray:
    """Return rows of 62 floats."""
    values = np.random.default_rng(0).normal(size=(count, 62)).astype("<f4")
    return values.view([(n, "<f4") for n in ("x", "y", "z", *FLOATS)])[:, 0]


def theirs(path: Path) -> np.ndarray:
    """Return the vertices by plyfile alone, in memory as ours are: it maps the file."""
    return np.array(PlyData.read(str(path))["vertex"].data)


def ours(path: Path) -> np.ndarray:
    """Return the vertices by our reader."""
    return read_table(path).rows


def theirs_out(path: Path, data: np.ndarray, text: bool = False, order: str = "<") -> None:
    """Write by plyfile."""
    PlyData([PlyElement.describe(data, "vertex")], text=text, byte_order=order).write(str(path))


def apart(task: Callable[[], object], room: int | None = None) -> dict[str, object]:
    """Run something in a process of its own (a fork; not on Windows): how it ended, seconds of the processor, MiB on top of what was there."""
    import resource

    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if room is not None:
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
            most = pages * resource.getpagesize() + room
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        began, wall = time.process_time(), time.monotonic()
        try:
            got = task()
            end = f"{len(got)} rows" if isinstance(got, np.ndarray) else "done"
        except (UserError, PlyParseError) as error:
            end = f"refused ({type(error).__name__})"
        except BaseException as error:  # whatever it is, it is the answer
            end = f"{type(error).__name__}"
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told = {"end": end, "seconds": time.process_time() - began, "wall": time.monotonic() - wall, "mib": used / 1024}
        os.write(send, json.dumps(told).encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(told) if told else {"end": f"killed by signal {status & 127}", "seconds": 0.0, "wall": 0.0, "mib": 0.0}


def both(what: str, mine: Callable[[], object], other: Callable[[], object], times: int = 1) -> None:
    """Print the least time of some and its memory, ours and plyfile's."""
    told = []
    for task in (mine, other):
        found = [apart(task) for _ in range(times)]
        least = min(found, key=lambda each: float(str(each["wall"])))
        told.append(f"{least['wall']:8.3f} s {least['mib']:7.0f} MiB")
    print(f"{what:52}ours {told[0]}   plyfile {told[1]}", flush=True)


def speed(path: Path, counts: list[int], ascii_counts: list[int]) -> None:
    """Print a line for each kind of file and number of rows."""
    for count in counts:
        data, times = rows(count), 3 if count <= 200_000 else 2
        both(f"write little endian {count:8} rows", partial(write_table, path, data, ["made"]), partial(theirs_out, path, data), times)
        for kind, order in (("little", "<"), ("big   ", ">")):
            theirs_out(path, data, order=order)
            both(f"read  {kind} endian {count:8} rows", partial(ours, path), partial(theirs, path), times)
    for count in ascii_counts:
        data = rows(count)
        np.savetxt(path, data.view("<f4").reshape(count, -1), "%.7g", comments="", header=header(data, ASCII, count))
        both(f"read  ascii         {count:8} rows", partial(ours, path), partial(theirs, path))
    faces = np.array([(3, (0, 1, 2))] * 100_000, [("n", "u1"), ("i", "<i4", 3)])
    lines = ["ply", LITTLE, "element face 100000", "property list uchar int vertex_indices", "element vertex 100000", "property float x"]
    path.write_bytes("\n".join([*lines, "end_header\n"]).encode() + faces.tobytes() + bytes(400_000))
    both("read  little endian   100000 faces, then vertices", partial(ours, path), partial(theirs, path))


def header(data: np.ndarray, kind: str, count: int) -> str:
    """Return a header for rows."""
    return "\n".join(["ply", kind, f"element vertex {count}", *(f"property float {n}" for n in data.dtype.names or ()), "end_header"])


def hostile() -> dict[str, bytes]:
    """Return files that claim more than they hold, or what no reader should believe."""
    one = rows(1)

    def ply(*lines: str, body: bytes = b"") -> bytes:
        return "\n".join(["ply", *lines, "end_header\n"]).encode("latin-1") + body

    lists = "property list uint double x"
    return {
        "10^17 binary rows": header(one, LITTLE, 10**17).encode() + b"\n" + one.tobytes(),
        "10^11 ascii rows": header(one, ASCII, 10**11).encode() + b"\n" + b"0 " * 62,
        "10^7 ascii rows": header(one, ASCII, 10**7).encode() + b"\n" + b"0 " * 62,
        "-3 rows": header(one, LITTLE, -3).encode() + b"\n" + one.tobytes(),
        "10^9 lists before": ply(LITTLE, "element face 1000000000", lists, "element vertex 1", "property float x", body=bytes(99)),
        "10^7 lists before": ply(LITTLE, "element face 10000000", lists, "element vertex 1", "property float x", body=bytes(99)),
        "a list of 2^32 - 1": ply(LITTLE, "element face 1", lists, "element vertex 1", "property float x", body=b"\xff" * 4 + bytes(99)),
        "40 MB of header, no line": b"ply\n" + b"x" * 40_000_000,
        "40 MB of comments": b"ply\n" + LITTLE.encode() + b"\n" + b"comment y\n" * 4_000_000,
        "a comment in Latin 1": ply(LITTLE, "comment caf\xe9", "element vertex 1", "property float x", body=bytes(4)),
        "1,500 elements": ply(LITTLE, *(f"element e{i} 0\nproperty float x" for i in range(1500)), "element vertex 1", "property float x", body=bytes(4)),
        "cut in its last row": header(one, LITTLE, 2).encode() + b"\n" + one.tobytes() + one.tobytes()[:-1],
        "endless number": header(one[["x"]], ASCII, 1).encode() + b"\n" + b"9" * 5_000_000,
        "no vertices": ply(LITTLE, "element face 0", lists),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000], help="of binary files")
    parser.add_argument("--ascii", type=int, nargs="*", default=[10_000, 100_000], help="of files of text")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed(folder / "a.ply", asked.rows, asked.ascii)
        for what, data in hostile().items():
            path = folder / "hostile.ply"
            path.write_bytes(data)
            for who, read in (("ours", ours), ("plyfile", theirs)):
                got = apart(partial(read, path), ROOM)
                print(f"{what:26} {who:8} {got['end']:34} {got['seconds']:7.2f} s {got['mib']:7.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
