"""ASD's premise: does the prior at a noisier time say of renders what a network says that has learned them?

    python scripts/measure_asd_premise.py --out runs/premise                       # the prior tiny
    python scripts/measure_asd_premise.py --out runs/premise --prior world --prior-views 4

ASD (arXiv:2407.02040) puts the prior at t + Delta, Delta ~ U[0, eta (t - t_min)], where VSD (arXiv:2305.16213) puts a network that
learns the renders, because both tell the noise in renders better than the prior at t does. Here runs of VSD are stopped at quarters of
their length, and with the same renders and the same noise are measured

error     e(t) = mean |eps_hat - eps|^2 a latent, of the prior under the prompt, and of the run's adapter
shift     the least Delta with e_prior(t + Delta) = e_adapter(t), as a share of t - t_min: what eta would have to be, were Delta fixed;
          0 where the adapter is no better; "none" where no later time is as good
cosine    between what ASD puts in the adapter's place, eps_prior(t + eta (t - t_min)) - eps_prior(t), and what the adapter says
          instead, eps_adapter(t) - eps_prior(t); and, as the control, between the noise itself, eps - eps_prior(t), and the latter

A run that was measured is not made again. Means over prompts of means over seeds with 95 % intervals, as bench's.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import splatdistill
from splatdistill.bench.statistics import resampled
from splatdistill.errors import UserError
from splatdistill.evaluate.plots import COLOURS, chart, line, picture
from splatdistill.guidance import View
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.vsd import VSD
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.priors import Query
from splatdistill.train.run import slug
from splatdistill.train.session import Session
from splatdistill.train.sizes import to_prior_size
from splatdistill.train.step import backgrounds, resolution

PROMPTS = ("a red mushroom", "a blue snowman", "a red duck", "a green mug", "a yellow house", "a purple teapot")
QUARTERS = (0.25, 0.5, 0.75, 1.0)
STEP = 0.05
LEVELS = tuple(round(STEP * k, 2) for k in range(2, 20))
SHOWN = LEVELS[2::3]  # in the tables
ETAS = (0.1, 0.2)


@torch.no_grad()
def renders(session: Session, count: int, rng: torch.Generator) -> View:
    """Return renders of the splats from the run's cameras, as the prior sees them."""
    c, prior, particle = session.config, session.prior, session.state.particles[0]
    progress = min(c.progress(session.state.step, session.state.phase), 1.0)
    size = resolution(c, prior, progress)
    cameras = c.cameras.sample(count, size, size, rng, prior.views).to(prior.device)
    behind = backgrounds(c.background, particle.background.detach(), len(cameras), rng, prior.views)
    out = session.rasterizer(particle.scene.gaussians().detach(), cameras, behind)
    return View(prior.encode(to_prior_size(out.rgb, prior), rng), session.prompts.conditions(prior, cameras, behind), prior, rng, progress, out)


@torch.no_grad()
def measure(session: Session, count: int, rng: torch.Generator) -> dict[str, Any]:
    """Return errors of prior and adapter by level, and the cosines of ASD's shifts and of the noise with what the adapter says."""
    view, guidance, memory = renders(session, count, rng), session.config.guidance, session.state.memory
    assert isinstance(guidance, VSD)
    eps = view.randn()
    least = min(guidance.times.ends(0.0)[0], guidance.times.ends(1.0)[0])
    found: dict[str, Any] = {"least": least, "prior": {}, "adapter": {}, "noise": {}, **{f"eta {eta}": {} for eta in ETAS}}

    def said(t: float) -> Tensor:
        n = diffuse(view, torch.full((len(view.x),), t, dtype=torch.float64).to(view.x), eps)
        return view.prior.answer((Query(n.x_t, n.t, view.text.positive),))[0]

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(cosine_similarity(a.flatten(1), b.flatten(1)).mean())

    for t in LEVELS:
        n = diffuse(view, torch.full((len(view.x),), t, dtype=torch.float64).to(view.x), eps)
        prior = said(t)
        adapter = view.prior.answer([q for q in guidance.ask(view, n, memory) if q.network is not None])[0]
        found["prior"][t] = float((prior - eps).square().mean())
        found["adapter"][t] = float((adapter - eps).square().mean())
        found["noise"][t] = cosine(eps - prior, adapter - prior)
        for eta in ETAS:
            if t in SHOWN and t > least:
                found[f"eta {eta}"][t] = cosine(said(min(t + eta * (t - least), 0.999)) - prior, adapter - prior)
    return found


def fitting(found: dict[str, Any], t: float) -> float | None:
    """Return the least shift, as a share of t - t_min, after which the prior's error is the adapter's; None where there is none."""
    levels = [float(s) for s in found["prior"] if float(s) >= t]
    errors, wanted = [found["prior"][str(s)] for s in levels], found["adapter"][str(t)]
    if wanted >= errors[0]:
        return 0.0
    for (a, before), (b, after) in zip(zip(levels, errors), list(zip(levels, errors))[1:]):
        if after <= wanted <= before:
            return (a + (b - a) * (before - wanted) / (before - after) - t) / (t - found["least"])
    return None


def mean(values: dict[tuple[str, int], float]) -> tuple[float, float, float]:
    """Return the mean over prompts of the mean over seeds, and its 95 % interval."""
    gaps = [np.array([v for (p, _), v in values.items() if p == prompt]) for prompt in dict.fromkeys(p for p, _ in values)]
    if sum(map(len, gaps)) < 2:
        return float(gaps[0].mean()), float("nan"), float("nan")
    ends = resampled(gaps, np.random.default_rng(0)).confidence_interval
    return float(np.mean([g.mean() for g in gaps])), float(ends.low), float(ends.high)


def made(prompt: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Make a run of VSD, or read what was measured of it."""
    file = asked.out / f"{slug(prompt)}-{seed}.json"
    told = {"prior": asked.prior, "prior_views": asked.prior_views} | ({} if asked.steps is None else {"steps": asked.steps})
    if not file.is_file():
        session = splatdistill.session(prompt, "vsd", seed=seed, **told)
        steps, rng, quarters = session.config.steps, torch.Generator().manual_seed(seed), {}
        for quarter in QUARTERS:
            while session.state.step < round(quarter * steps):
                session.step()
            quarters[quarter] = measure(session, asked.pictures // session.prior.views, rng)
        print(f"{prompt}, seed {seed}: {steps} steps", flush=True)
        write_text(file, json.dumps({"told": told, "pictures": asked.pictures, "quarters": quarters}) + "\n")
    read = json.loads(file.read_text(encoding="utf-8"))
    if read["told"] != told or read["pictures"] != asked.pictures:
        raise UserError(f"{file} was measured with {read['told']} and {read['pictures']} pictures; expected {told} and {asked.pictures}. Give another --out")
    return read["quarters"]


def tables(found: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Return the tables: by level at each quarter."""

    def cell(key: str, quarter: float, t: float) -> str:
        values = {run: q[str(quarter)][key].get(str(t)) for run, q in found.items()}
        known = {run: v for run, v in values.items() if v is not None}
        written = "{:.2g} [{:.2g}, {:.2g}]" if key in ("prior", "adapter") else "{:.2f} [{:.2f}, {:.2f}]"
        return "" if not known else written.format(*mean(known))

    def shift(quarter: float, t: float) -> str:
        least = next(iter(found.values()))[str(quarter)]["least"]
        if t <= least + STEP / 2:
            return ""
        values = {run: fitting(q[str(quarter)], t) for run, q in found.items()}
        known = {run: v for run, v in values.items() if v is not None}
        none = f", none in {len(values) - len(known)} of {len(values)}" if len(known) < len(values) else ""
        return ("{:.2f} [{:.2f}, {:.2f}]".format(*mean(known)) if known else "") + none

    names = ["prior", "adapter", "noise", *(f"eta {eta}" for eta in ETAS)]
    head = ["run", "t", "e of the prior", "e of the adapter", "shift that fits / (t - t_min)", "cosine of the noise", *(f"of ASD, {n}" for n in names[3:])]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for quarter in QUARTERS:
        for t in SHOWN:
            cells = [cell(names[0], quarter, t), cell(names[1], quarter, t), shift(quarter, t), *(cell(n, quarter, t) for n in names[2:])]
            lines.append("| " + " | ".join([f"{quarter:.0%}", f"{t:g}", *cells]) + " |")
    return "\n".join(lines)


def drawn(found: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    """Draw the errors by level at the runs' end."""
    axes = chart("noise error of renders at the runs' end", "t", log_y=True)
    for name, colour in zip(("prior", "adapter"), COLOURS):
        rows = [mean({run: q["1.0"][name][str(t)] for run, q in found.items()}) for t in LEVELS]
        line(axes, LEVELS, [r[0] for r in rows], colour, name, [(r[1], r[2]) for r in rows])
    write_png(path, picture(axes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run this script's command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where what is measured goes, a file for each run")
    parser.add_argument("--prior", default="tiny")
    parser.add_argument("--prior-views", type=int, default=1)
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pictures", type=int, default=8, help="renders that are measured at each quarter, whole sets of the prior's views")
    parser.add_argument("--steps", type=int, help="of a run; by default its recipe's")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    found = {(prompt, seed): made(prompt, seed, asked) for prompt in asked.prompts for seed in asked.seeds}
    print(f"\n{len(asked.prompts)} prompts, seeds {' '.join(map(str, asked.seeds))}\n{tables(found)}")
    drawn(found, asked.out / "errors.png")
    print(asked.out / "errors.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as e:
        sys.exit(f"error: {e}")
