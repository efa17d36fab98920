"""Make a folder for --prior of MVDream's weights, without any code of theirs.

    python scripts/convert_mvdream.py sd-v2.1-base-4view.safetensors --base DIR --out mvdream

`--prior mvdream --prior-views 4 --config configs/extra/mvdream.yaml` then has what it was published with.

The file holds the UNet's tensors by their original names, as the published .pt does (a pickle, which is not opened here), or as the
copies in a "diffusers layout" do. --base is a folder of the Stable
Diffusion that MVDream was trained from: 2.1-base, or 1.5.
"""

import argparse
import sys
from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.priors.mvdream import write_folder


def main(argv: list[str] | None = None) -> int:
    """Run this script's command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="MVDream's file, safetensors")
    parser.add_argument("--base", type=Path, required=True, help="folder of the Stable Diffusion that it was trained from, in the diffusers layout")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--azimuth", type=float, default=0.0, help="degrees added to each camera's azimuth; try 90 steps until the front view shows the front")
    args = parser.parse_args(argv)
    try:
        out = write_folder(args.weights, args.base, args.out, args.azimuth)
    except UserError as e:
        print(e, file=sys.stderr)
        return 2
    print(f"{out}: take it with --prior {out} --prior-views 4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
