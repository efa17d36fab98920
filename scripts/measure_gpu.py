"""One run on a GPU that answers what only a GPU can: ten parts in eight minutes, with random weights of real sizes.

    python scripts/measure_gpu.py --out gpu               # all ten
    python scripts/measure_gpu.py --out gpu --parts 4-6   # some; results merge into what gpu/ holds
    python scripts/measure_gpu.py --rehearse              # every part, small, on a CPU: that it runs, and no figures of worth

 1 machine   2 gsplat's build, in the background from the first second   3 parity of the rasterisers   4 the networks alone
 5 whole steps of each recipe, with a profile   6 small cards   7 VSD's gradients in half precision   8 tiny on the GPU
 9 torch.compile   10 the tests that need a GPU

Each part is a process of its own with a time limit; what it found is in gpu.json at once, and a part that fails or outruns its limit
is noted there and the next one begins. gpu.md has the tables, build.log the compiler's words. Nothing is downloaded.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu import PARTS, Part, Where
from gpu.report import tables

NO_GPU = 77


@dataclass(frozen=True)
class Results:
    """Results in gpu.json, written after every part."""

    folder: Path

    @property
    def file(self) -> Path:
        """Return the path of the file."""
        return self.folder / "gpu.json"

    def read(self) -> dict[str, Any]:
        """Return what earlier parts, or earlier runs, found."""
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Add a part's findings, and write all tables anew."""
        whole = self.read() | {name: found}
        self.file.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")
        (self.folder / "gpu.md").write_text(tables(whole), encoding="utf-8")


def chosen(text: str) -> list[int]:
    """Return the numbers of "1-4,8"; ValueError for one that there is none of."""
    found: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        found += range(int(first), int(last or first) + 1)
    if strange := [n for n in found if n not in PARTS]:
        raise ValueError(f"there is no part {strange[0]}; expected 1 to {max(PARTS)}")
    return sorted(set(found))


def alone(part: Part, where: Where) -> dict[str, Any]:
    """Return what a part finds in this process; its error where it fails."""
    began = time.perf_counter()
    try:
        found = part.run(where)
    except Exception as error:  # a part may fail in any way, and the others shall run
        said = str(error).strip().splitlines() or [""]
        found = {"failed": f"{type(error).__name__}: {said[0][:500]}"}
    return found | {"seconds": time.perf_counter() - began}


def apart(number: int, part: Part, where: Where) -> "subprocess.Popen[bytes]":
    """Start a part as a process of its own, which writes its findings to part-N.json."""
    out = where.out / f"part-{number}.json"
    out.unlink(missing_ok=True)
    argv = [sys.executable, __file__, "--out", str(where.out), "--only", str(number), *(["--rehearse"] if where.small else [])]
    return subprocess.Popen(argv)


def finished(number: int, part: Part, where: Where, process: "subprocess.Popen[bytes]", limit: float) -> dict[str, Any]:
    """Wait for a part until its limit; return what it found, or that it was ended."""
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    file = where.out / f"part-{number}.json"
    late = {"failed": f"ended after {limit:.0f} s" if process.returncode and process.returncode < 0 else f"ended with status {process.returncode}"}
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.unlink(missing_ok=True)
    return found if "seconds" in found else found | late


def run(numbers: Sequence[int], where: Where, results: Results) -> list[str]:
    """Run parts: the build beside those that need no rasteriser. Return the names of those that failed."""
    order = [n for n in numbers if not PARTS[n].renders] + [n for n in numbers if PARTS[n].renders]
    build, began, failed = None, time.perf_counter(), []
    for n in order:
        part = PARTS[n]
        if part.background and not where.small:
            build = n, apart(n, part, where)
            continue
        if part.renders and build:
            told(results, build[0], finished(build[0], PARTS[build[0]], where, build[1], PARTS[build[0]].limit - time.perf_counter() + began), failed)
            build = None
        found = alone(part, where) if where.small else finished(n, part, where, apart(n, part, where), part.limit)
        told(results, n, found, failed)
    if build:
        told(results, build[0], finished(build[0], PARTS[build[0]], where, build[1], PARTS[build[0]].limit), failed)
    return failed


def told(results: Results, number: int, found: dict[str, Any], failed: list[str]) -> None:
    """Save the findings of a part and print its outcome."""
    part = PARTS[number]
    results.add(part.name, found)
    how = found.get("failed", "")
    print(f"{number:>2} {part.name:<10} {found.get('seconds', float('nan')):6.1f} s  {how or 'done'}", flush=True)
    if how:
        failed.append(part.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 0 where all went well, 1 where one failed, 77 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of gpu.json, gpu.md and build.log")
    parser.add_argument("--parts", type=chosen, default=list(PARTS), metavar="1-4,8", help="parts to run (default: all)")
    parser.add_argument("--rehearse", action="store_true", help="every part small, on the CPU")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    import torch

    if not (asked.rehearse or torch.cuda.is_available()):
        print("skipped: torch sees no CUDA device. --rehearse runs every part small on the CPU.")
        return NO_GPU
    asked.out.mkdir(parents=True, exist_ok=True)
    where = Where(asked.out.absolute(), asked.rehearse)
    if asked.only is not None:
        found = alone(PARTS[asked.only], where)
        (where.out / f"part-{asked.only}.json").write_text(json.dumps(found, default=str), encoding="utf-8")
        return 0
    results = Results(where.out)
    failed = run(asked.parts, where, results)
    print(f"\n{(where.out / 'gpu.md').read_text(encoding='utf-8')}\nAll numbers: {results.file}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
