"""Make all pictures of the README files anew, for instance after the embedded prior has changed.

    python scripts/readme_pictures.py                      # hours on a CPU: all of them
    python scripts/readme_pictures.py --only mushroom      # a minute

mushroom: the sheet of the README's first command. objects: all acceptance prompts by the same, a picture each, and beside their
truth (acceptance.py). acceptance: the twelve toys on the prior tiny, beside their truth. gallery: ten
methods on six prompts (gallery.py). viewer: the film of the live page (viewer_pictures.py, which needs a browser).
Runs are kept in --work, and finished ones are not made again; take an empty folder for a new prior.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"


def called(*words: str | Path) -> None:
    """Run a Python program, and stop where it cannot go on. Status 1 of a judge says that something was judged to fail."""
    status = subprocess.run([sys.executable, *map(str, words)], check=False).returncode
    if status > 1:
        sys.exit(f"error: {' '.join(map(str, words))} ended with status {status}")


def kept(made: Path, name: str) -> None:
    """Copy a picture to its place."""
    shutil.copyfile(made, PICTURES / name)
    print(f"{PICTURES / name}: {made.stat().st_size:,} bytes")


def mushroom(work: Path) -> None:
    """Train the README's first command, unless that was done; keep its sheet."""
    run = work / "a-red-mushroom"
    if not (run / "sheet.png").is_file():
        called("-m", "splatdistill", "train", "--guidance", "sdi", "--prompt", "a red mushroom", "--out", run, "--no-viewer")
    kept(run / "sheet.png", "red-mushroom-sdi.png")


def objects(work: Path) -> None:
    """Train and judge the twelve toys and the 24 real objects as the first command does; keep a picture of each, and their sheet."""
    import torch

    from splatdistill.cameras import orbit
    from splatdistill.evaluate.acceptance_runs import splats_of
    from splatdistill.io.images import contact_sheet, write_png
    from splatdistill.render import rasterizer
    from splatdistill.toybox import ACCEPTANCE
    from splatdistill.toybox.real_split import SPLIT
    from splatdistill.train.run import slug

    called(HERE / "acceptance.py", "--train", "--prompts", "all", "--guidance", "sdi", "--out", work / "objects")
    prompts, camera = (*ACCEPTANCE, *SPLIT.truth), orbit([25.0], 20.0, 2.8, 42.0, 256)
    shown = [rasterizer("cpu")(splats_of(work / "objects" / slug(p) / "splats.ply"), camera, torch.ones(1, 3)).rgb.clamp(0, 1) for p in prompts]
    small = torch.nn.functional.interpolate(torch.cat(shown), 128, mode="area")
    write_png(work / "objects.png", contact_sheet(small, 9, list(prompts)))
    kept(work / "objects.png", "objects.png")
    kept(work / "objects" / "acceptance.png", "acceptance-world.png")


def acceptance(work: Path) -> None:
    """Train and judge the twelve toys on the prior tiny; keep their sheet."""
    called(HERE / "acceptance.py", "--train", "--guidance", "sdi", "--prior", "tiny", "--out", work / "acceptance")
    kept(work / "acceptance" / "acceptance.png", "acceptance-sdi.png")


def gallery(work: Path) -> None:
    """Train and judge ten methods; keep their sheet."""
    called(HERE / "gallery.py", "--out", work / "gallery")
    kept(work / "gallery" / "gallery.png", "gallery.png")


def viewer(work: Path) -> None:
    """Show a run in a browser; its film is saved automatically."""
    called(HERE / "viewer_pictures.py")


ALL = {f.__name__: f for f in (mushroom, objects, acceptance, gallery, viewer)}


def main() -> None:
    """Run this script's command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(ALL), default=list(ALL), help="which to make; by default all")
    parser.add_argument("--work", type=Path, default=Path("runs/readme-pictures"), help="folder of the runs")
    args = parser.parse_args()
    for name in args.only:
        ALL[name](args.work)


if __name__ == "__main__":
    main()
