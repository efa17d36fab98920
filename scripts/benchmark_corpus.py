"""Memory and time of `splatdistill amortise` on a corpus of many prompts, up to its first steps.

    python scripts/benchmark_corpus.py                      # 1,000, 10,000 and 100,000 prompts
    python scripts/benchmark_corpus.py --prompts 500000 --prior ~/weights

Every prompt is another text, so nothing that was read for one serves another. The embedded prior `tiny` is given as a folder, as weights of
one's own are: the words need not be ones that it knows. Time is the whole command's, Python and torch included; memory its peak.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice, product
from pathlib import Path

from splatdistill.toybox import COLOURS, NAMED

TINY = Path(__file__).parents[1] / "splatdistill" / "priors" / "tiny" / "prior"


def write_prompts(path: Path, count: int) -> None:
    """Write so many different prompts, one a line."""
    pairs = islice(cycle(product(COLOURS, NAMED)), count)
    path.write_text("".join(f"a {colour} {kind}, number {k}\n" for k, (colour, kind) in enumerate(pairs)), encoding="utf-8")


def measure(count: int, prior: str, steps: int) -> tuple[float, float]:
    """Return seconds and peak GiB of a training of so many prompts and steps."""
    with tempfile.TemporaryDirectory() as folder:
        write_prompts(corpus := Path(folder) / "corpus.txt", count)
        command = [sys.executable, "-m", "splatdistill", "amortise", "--corpus", str(corpus), "--prior", prior]
        command += ["--steps", str(steps), "--preview-every", "0", "--out", str(Path(folder) / "run")]
        began = time.perf_counter()
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}")
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes of the corpora")
    parser.add_argument("--prior", default=str(TINY), help="folder of weights, or hub id")
    parser.add_argument("--steps", type=int, default=1)
    args = parser.parse_args(argv)
    for count in sorted(args.prompts):  # the peak is that of all so far
        took, peak = measure(count, args.prior, args.steps)
        print(f"{count:9,} prompts: {took:5.1f} s to the end of step {args.steps}, at most {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
