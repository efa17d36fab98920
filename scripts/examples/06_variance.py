"""Noise of two methods' gradients on the same scene, and where it comes from.

    python scripts/examples/06_variance.py

Shows the experiment behind `splatdistill variance`: a short run makes a scene, gradients are drawn on it, and their variance
is split into the shares of noise, noise level, encoder and camera.
"""

from contextlib import contextmanager
from pathlib import Path

from splatdistill.evaluate.variance.experiment import conduct, prepare
from splatdistill.evaluate.variance.options import Variance
from splatdistill.evaluate.variance.report import Report
from splatdistill.train.run import RunDir


@contextmanager
def quietly(what: str, total: int):
    """Yield a progress callback that prints nothing."""
    yield lambda done: None


def main(out: Path = Path("runs/example-variance"), steps: int = 60, draws: int = 96) -> Report:
    """Measure SDS and CSD at the end of a short run of SDS; print ratios and shares with 95 % intervals."""
    options = Variance(guidances=("sds", "csd"), prompt="a red mushroom", prior="tiny", steps=steps, scenes=1, draws=draws, reference=1)
    report = conduct(prepare(options), RunDir.create("a red mushroom", out), quietly)
    for row in report.rows:
        f = row.latents
        shares = ", ".join(f"{name} {'?' if share.value is None else format(share.value, '.0%')}" for name, share in f.shares.items())
        print(f"{row.name}: variance over squared mean {f.ratio}, against SDS {f.against_first}; from {shares}")
    return report


if __name__ == "__main__":
    main()
