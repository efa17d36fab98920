"""Hostile files for every reader of splats: python scripts/fuzz_readers.py [--seconds N] [--memory MIB]

hypothesis damages good files of every format, outside and inside their compression: bytes overwritten, cut, repeated,
numbers of the header replaced by huge ones, NaN in the rows. A reader gives Gaussians that are all finite, or a
UserError that names the file, within a second and a bounded part of memory for a file of a few kilobytes. Anything else
is printed with the smallest file that does it, which is kept, and the exit status is 1.
"""

import argparse
import gzip
import io
import json
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.html import load_html, write_html
from splatdistill.io.ply import write_ply
from splatdistill.io.points import read_points
from splatdistill.io.sog import write_sog
from splatdistill.io.splat import write_splat
from splatdistill.io.spz import write_spz

WRITERS = {"ply": write_ply, "splat": write_splat, "spz": write_spz, "sog": write_sog, "html": write_html}
SLOW = 1.0  # seconds of the processor for one file
WORDS = [
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\x00\x00\xc0\x7f",
    b"\x00\x00\x80\x7f",
    b"\x00" * 8,
    b"999999999999",
    b"-1",
    b"ply\n",
]


def splats(n: int = 9) -> Gaussians:
    """A few that every format can hold."""
    rng = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=torch.rand(n, 3, generator=rng) + 0.01,
        opacities=torch.rand(n, generator=rng),
        sh=0.1 * torch.randn(n, 4, 3, generator=rng),
    )


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with one to four faults."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["overwrite", "word", "cut", "repeat", "insert", "all"])):
            case "overwrite":
                noise = draw(st.binary(min_size=1, max_size=16))
                data = data[:at] + noise + data[at + len(noise) :]
            case "word":
                word = draw(st.sampled_from(WORDS))
                data = data[:at] + word + data[at + len(word) :]
            case "cut":
                data = data[:at]
            case "repeat":
                data = data[:at] + data[at : at + 64] * draw(st.integers(2, 40)) + data[at:]
            case "insert":
                data = data[:at] + draw(st.binary(max_size=64)) + data[at:]
            case _:
                data = draw(st.binary(max_size=200))
    return data


@st.composite
def hostile(draw: st.DrawFn, good: dict[str, bytes]) -> tuple[str, bytes]:
    """A format and a damaged file of it; for packed formats sometimes damaged inside and packed again."""
    kind = draw(st.sampled_from(sorted(good)))
    data, inside = good[kind], draw(st.booleans())
    if kind == "spz" and inside:
        return kind, gzip.compress(draw(damage(gzip.decompress(data))), 1)
    if kind == "sog" and inside:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            which = draw(st.sampled_from(old.namelist()))
            for name in old.namelist():
                new.writestr(name, draw(damage(old.read(name))) if name == which else old.read(name))
        return kind, out.getvalue()
    if kind == "sog" and draw(st.booleans()):
        return kind, meddled(draw, data)
    return kind, draw(damage(data))


def meddled(draw: st.DrawFn, data: bytes) -> bytes:
    """A .sog whose meta.json is valid JSON with other values."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "meta.json":
                meta = json.loads(text)
                part = draw(st.sampled_from(sorted(meta)))
                odd = st.one_of(
                    st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=4)
                )
                if isinstance(meta[part], dict) and draw(st.booleans()):
                    meta[part][draw(st.sampled_from(sorted(meta[part])))] = draw(odd)
                else:
                    meta[part] = draw(odd)
                text = json.dumps(meta)
            new.writestr(name, text)
    return out.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument(
        "--memory", type=int, default=1024, help="MiB of address space that reading may add (default 1024)"
    )
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    good = {}
    for kind, write in WRITERS.items():
        write(folder / f"good.{kind}", splats())
        good[kind] = (folder / f"good.{kind}").read_bytes()
        (load_html if kind == "html" else read_splats)(folder / f"good.{kind}")  # loads what readers load
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + asked.memory * 2**20,) * 2)
    until, found = time.monotonic() + asked.seconds, Counter()

    @settings(
        max_examples=500,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(hostile(good))
    def check(case: tuple[str, bytes]) -> None:
        kind, data = case
        path = folder / f"bad.{kind}"
        path.write_bytes(data)
        for read in (load_html,) if kind == "html" else (read_splats, read_points) if kind == "ply" else (read_splats,):
            began = time.process_time()
            try:
                got = read(path)
                got = got.gaussians if read is load_html else got
                values = got.xyz if read is read_points else got.means
                assert values.isfinite().all() and (read is read_points or got.finite().all()), (
                    "values that are not finite"
                )
                found[f"{kind} read"] += 1
            except UserError as error:
                assert str(path) in str(error), f"the message does not name the file: {error}"
                found[f"{kind} refused"] += 1
            assert time.process_time() - began < SLOW, f"{read.__name__} took {time.process_time() - began:.1f} s"

    try:
        while time.monotonic() < until:
            check()
    except BaseException:
        print(f"the file that does it: {folder}", file=sys.stderr)
        raise
    print(", ".join(f"{what} {count}" for what, count in sorted(found.items())), "- nothing else happened")
    return 0


if __name__ == "__main__":
    sys.exit(main())
