"""Train a generator on pictures instead of a prior: the controls of `splatdistill amortise` on the toybox.

    python scripts/regress_generator.py runs/upper                      # on pictures of the true objects
    python scripts/regress_generator.py runs/regressed --runs teachers  # on the splats of finished runs, one for each prompt

The first is an upper bound: what the network can do if nothing is wrong with its pictures. The second is HyperFields' way
(arXiv:2310.17075): finished runs of single prompts (`splatdistill train`, or a bench's folder of jobs) are put into one network. Both
render a prompt's splats from two cameras of the prior's recipe on a random colour, and take steps of Adam on the mean absolute error of
colours and of alpha. The folder that is written is one that `splatdistill generate` and `scripts/evaluate_generator.py` read.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.evaluate.run_summary import holding, summarise
from splatdistill.io import read_splats
from splatdistill.priors import weights
from splatdistill.render import rasterizer
from splatdistill.scene.generator import Text
from splatdistill.scene.generator.saved import read
from splatdistill.settings.commands import AMORTISE
from splatdistill.settings.layers import parse as parse_options
from splatdistill.settings.resolve import Weights
from splatdistill.toybox import parse
from splatdistill.toybox.things import draw
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.amortised.corpus import read_corpus
from splatdistill.train.amortised.folder import write_corpus, write_generator
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.run import RunDir

Teacher = Callable[[str, Cameras, Float[Tensor, "b 3"]], tuple[Tensor, Tensor]]
"""Colours and alpha of a prompt's object, (b, 3, h, w) and (b, 1, h, w), from some cameras on some backgrounds."""
VIEWS = 2  # cameras a step and prompt


def truth(prompt: str, cameras: Cameras, behind: Float[Tensor, "b 3"]) -> tuple[Tensor, Tensor]:
    """Return pictures of the true object."""
    seen = draw(parse(prompt), cameras, behind, samples=2)
    return seen.rgb, seen.alpha


def finished(folder: Path) -> tuple[dict[str, Path], Teacher]:
    """Return the splats of the finished runs below a folder by their prompts, and the teacher that they are; UserError for none."""
    runs = [summarise(path) for path in holding(folder, "config.yaml", "log.jsonl")]
    files = {run.prompt: run.splats[0] for run in runs if run.how == "done" and run.splats}
    if not files:
        raise UserError(f"{folder} holds no finished runs; expected folders that `splatdistill train` has written")
    splats, render = {prompt: read_splats(path, drop_invalid=True) for prompt, path in files.items()}, rasterizer("cpu")

    def seen(prompt: str, cameras: Cameras, behind: Float[Tensor, "b 3"]) -> tuple[Tensor, Tensor]:
        out = render(splats[prompt], cameras, behind)
        return out.rgb.clamp(0, 1), out.alpha

    return files, seen


def step(session: AmortisedSession, teacher: Teacher) -> float:
    """Take one step towards the teacher's pictures; return the error."""
    c, rng = session.config, torch.Generator().manual_seed(session.steps)
    prompts = [session.corpus[k] for k in session.order.at(session.steps, c.prompts)]
    for group in session.optimizer.param_groups:
        group["lr"] = session.rate
    raw = session.network(Text.of(torch.cat([read(session.prior, [p]).tokens for p in prompts])))
    total = raw.new_zeros(())
    for k, prompt in enumerate(prompts):
        cameras = c.cameras.sample(VIEWS, session.prior.image_size, session.prior.image_size, rng)
        behind = torch.rand(VIEWS, 3, generator=rng)
        with torch.no_grad():
            rgb, alpha = teacher(prompt, cameras, behind)
        out = session.rasterizer(session.network.gaussians(raw[k]), cameras, behind)
        total = total + ((out.rgb - rgb).abs().mean() + (out.alpha - alpha).abs().mean()) / len(prompts)
    session.optimizer.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(session.network.parameters(), c.clip)
    session.optimizer.step()
    session.steps += 1
    keep = min(c.ema, session.steps / (session.steps + 10))
    with torch.no_grad():
        for mean, value in zip(session.average.parameters(), session.network.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)
    return float(total.detach())


def train(out: Path, corpus: Sequence[str], teacher: Teacher, generator: str, steps: int, prior: str) -> Path:
    """Train a generator and write its folder."""
    argv = ["--prior", prior, "--device", "cpu", "--generator", generator, "--steps", str(steps), "--rate", "2e-3"]
    config: Amortise = parse_options(argv, Weights().family, AMORTISE).config
    session, began = AmortisedSession(config, weights.load(prior), corpus), time.process_time()
    for k in range(steps):
        error = step(session, teacher)
        if (k + 1) % 250 == 0 or k + 1 == steps:
            print(f"step {k + 1} of {steps}: error {error:.4f}, {time.process_time() - began:.0f} s of one core", flush=True)
    folder = RunDir.create("regressed", out)
    write_corpus(folder, corpus)
    return write_generator(session, folder)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--runs", type=Path, default=None, help="folder of finished runs, which take the place of the true objects")
    parser.add_argument("--corpus", default="toybox", help="prompts, as `amortise` has them; of runs, all theirs")
    parser.add_argument("--generator", default="hyper", help="hyper, conv or triplane")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--prior", default="tiny", help="embedded prior whose text encoder it reads with: tiny or world")
    args = parser.parse_args(argv)
    try:
        corpus, teacher = read_corpus(args.corpus), truth
        if args.runs is not None:
            files, teacher = finished(args.runs)
            corpus = tuple(files)
        print(f"wrote {train(args.out, corpus, teacher, args.generator, args.steps, args.prior)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
