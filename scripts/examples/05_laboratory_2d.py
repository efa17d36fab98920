"""Methods in the plane, where every answer is known.

    python scripts/examples/05_laboratory_2d.py

Shows the difference between SDS and VSD on a density of eight modes. SDS draws its points towards the middle first, and they reach
the modes late; VSD learns where the points are, and covers the modes sooner. The figures compare the points with draws from
the density itself: 1 is as the truth.
"""

from pathlib import Path

import torch

from splatdistill.evaluate.particles import Coverage, coverage
from splatdistill.evaluate.plots import over_density
from splatdistill.guidance import SDS, VSD, Guidance, Times
from splatdistill.io.images import write_png
from splatdistill.priors.plane import plane
from splatdistill.train.image2d import Image2D, Image2DSession


def main(out: Path = Path("runs/example-plane"), steps: int = 600, points: int = 256) -> dict[str, Coverage]:
    """Distil points with both methods, print how they cover the density, and draw them over it."""
    times = Times(t_max_end=0.1)
    methods: dict[str, Guidance] = {
        "sds": SDS(scale=1.0, weight="one", times=times),
        "vsd": VSD(scale=1.0, weight="one", times=times, adapter_rate=0.02),
    }
    found = {}
    for name, guidance in methods.items():
        prior = plane()
        pictures = Image2DSession(Image2D(prompt="ring", guidance=guidance, steps=steps, particles=points, init=1.0), prior)
        while pictures.step():
            pass
        c = found[name] = coverage(pictures.latents(), prior, "ring", torch.Generator().manual_seed(0))
        write_png(out / f"{name}.png", over_density(pictures.latents(), prior, "ring"))
        print(f"{name}: spread {c.spread:.2f}, inside the modes {c.within:.2f}, likelihood {c.likelihood:.2f}, mass missed {c.missed:.2f}  {out / name}.png")
    return found


if __name__ == "__main__":
    main()
