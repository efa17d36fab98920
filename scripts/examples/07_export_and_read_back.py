"""Splats out into files of several formats, and back in.

    python scripts/examples/07_export_and_read_back.py

Shows that `export` reads back what it writes, what each format keeps and how large it is, and how to prepare splats for
another program: here one that wants them 30 cm high and standing on the origin.
"""

from pathlib import Path

import splatdistill
from splatdistill.export.prepare import Preparation
from splatdistill.export.write import Asked, export
from splatdistill.io import read_splats


def main(out: Path = Path("runs/example-export"), steps: int = 120) -> dict[str, int]:
    """Make splats, write them in four formats, and print the size and the greatest errors of each."""
    session = splatdistill.session("a red mushroom", prior="tiny", steps=steps)
    for _ in range(steps):
        session.step()
    splats = Preparation(pivot="ground", height=0.3).of(session.gaussians())
    sizes = {}
    for kind in ("ply", "splat", "spz", "html"):
        done = export(out / f"mushroom.{kind}", kind, splats, Asked(comments=("prompt a red mushroom",)))
        sizes[kind] = done.bytes
        print(f"{kind:6} {done.bytes:>9,} bytes, {done.count} splats: positions within {done.place:.1g}, shapes {done.shape:.1%}, colours {done.colour:.1%}")
    back = read_splats(out / "mushroom.ply")
    print(f"read again: {len(back)} splats, from {float(back.means[:, 2].min()):.2f} to {float(back.means[:, 2].max()):.2f} along z")
    return sizes


if __name__ == "__main__":
    main()
