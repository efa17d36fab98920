"""Whole steps of the recipes for Stable Diffusion, small cards, the embedded prior, and the tests that need a GPU."""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu.networks import ENCODE_TFLOP, UNET_TFLOP, prior
from gpu.part import Where
from splatdistill.priors import DiffusionPrior
from splatdistill.settings.commands import CHOICES, parse_train
from splatdistill.train.config import Train
from splatdistill.train.session import Session

PROMPT = "a red mushroom"
CARDS = (24, 16, 12, 8)  # GB
TRACE = 10 * 2**20  # bytes of the largest trace that is kept
TESTS = ("tests/render/test_cuda.py", "tests/train/test_session.py", "tests/priors/test_stable.py")


def recipe(where: Where, name: str, *options: str) -> Train:
    """Return a method's recipe for Stable Diffusion; with few splats and views in a rehearsal."""
    small = ("--batch", "1", "--init.count", "40", "--densify", "fixed") if where.small else ()
    config = parse_train(["--guidance", name, "--prompt", PROMPT, *small, *options], lambda source: "sd").config
    return replace(config, device=where.device)


class Stages:
    """Milliseconds of the stages of a step, the device idle before and after each, which makes the step slower."""

    def __init__(self, session: Session, where: Where):
        self.where, self.ms = where, dict.fromkeys(("render", "encode", "networks"), 0.0)
        session.rasterizer = self.around("render", session.rasterizer)
        for name, stage in (("encode", "encode"), ("answer", "networks")):
            setattr(session.prior, name, self.around(stage, getattr(session.prior, name)))

    def around(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            self.where.wait()
            began = time.perf_counter()
            done = work(*args, **options)
            self.where.wait()
            self.ms[stage] += 1e3 * (time.perf_counter() - began)
            return done

        return timed


def steps(where: Where) -> dict[str, Any]:
    """Return for every recipe milliseconds of a step and of its stages, images asked, peak memory; SDS with more splats, SDI
    early and late.
    """
    asked_of, found, failed = prior(where), {"rows": {}}, []
    names = ("sds", "sdi") if where.small else CHOICES[0].names
    rows = [(name, name, (), 0.0) for name in names]
    if not where.small:
        rows += [(f"sds, {n:,} splats", "sds", ("--init.count", str(n), "--max-gaussians", str(n)), 0.0) for n in (20_000, 100_000)]
        rows += [(f"sdi, {share:.0%} of the run", "sdi", (), share) for share in (0.5, 0.9)]
    for label, name, options, share in rows:
        try:
            found["rows"][label] = row(where, asked_of, recipe(where, name, *options), share)
        except Exception as error:  # SSD wants a depth network that is not here; the others shall run
            failed.append(label)
            found["rows"][label] = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
    for name in ("sdi",) if where.small else ("sds", "sdi"):
        found[f"profile of {name}"], found[f"kernels of {name}, ms a step"] = profile(where, asked_of, recipe(where, name), name)
    return found | ({"failed": f"no steps of {', '.join(failed)}"} if len(failed) > 1 else {})


def row(where: Where, asked_of: DiffusionPrior, config: Train, share: float) -> dict[str, Any]:
    """Return the measurements of one recipe at a share of its run."""
    session, count = begun(config, asked_of, share), 1 if where.small else 6
    for _ in range(1 if where.small else 2):
        session.step()
    asked_of.calls = 0
    ms = where.timed(session.step, count, 0)
    images = asked_of.calls / count
    peak = where.peak(session.step)
    stages = Stages(session, where)
    try:
        session.step()
    finally:
        del asked_of.encode, asked_of.answer  # the methods below come back
    views = config.batch * config.accumulate
    floor = images * UNET_TFLOP + views * ENCODE_TFLOP
    return {"ms": ms, "images": images, "peak GiB": peak, **{f"{k} ms": v for k, v in stages.ms.items()}, "TFLOP": float("nan") if where.small else floor, "minutes": ms * config.steps / 6e4}


def begun(config: Train, asked_of: DiffusionPrior, share: float = 0.0) -> Session:
    """Return a session at a share of its run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = Session(config, asked_of)
    session.state.step = int(share * config.steps)
    return session


def profile(where: Where, asked_of: DiffusionPrior, config: Train, name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return a profile of three steps by torch's profiler: the device's busy time, its longest kernels, waits and copies."""
    from torch.profiler import ProfilerActivity

    session = begun(config, asked_of)
    session.step()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if where.device == "cuda" else [])
    count = 1 if where.small else 3
    began = time.perf_counter()
    with torch.profiler.profile(activities=activities) as seen:
        for _ in range(count):
            session.step()
        where.wait()
    wall = 1e3 * (time.perf_counter() - began)
    events = seen.key_averages()
    own = (lambda e: e.self_device_time_total) if where.device == "cuda" else (lambda e: e.self_cpu_time_total)
    longest = sorted(events, key=own, reverse=True)[:10]
    number = lambda part: sum(e.count for e in events if part in e.key) / count  # noqa: E731
    busy = sum(own(e) for e in events) / 1e3
    if where.device == "cuda":
        trace = where.out / f"{name}.trace.json.gz"
        seen.export_chrome_trace(str(trace))
        if trace.stat().st_size > TRACE:
            trace.unlink()
    shares = {"busy": busy / wall, "waits a step": number("StreamSynchronize"), "copies a step": number("Memcpy"), "reads of numbers a step": number("_local_scalar_dense")}
    return shares, {e.key[:80]: own(e) / 1e3 / count for e in longest}


def small_cards(where: Where) -> dict[str, Any]:
    """Try which recipes make two steps on a card with so many GB, the rest of this one being taken by a tensor: what is free is then what the
    prior sees, and --low-memory may set in by itself. What the run says where it does not fit.
    """
    kinds: dict[str, tuple[str, tuple[str, ...]]] = {
        "sds 4": ("sds", ()), "sds 1 x 4": ("sds", ("--batch", "1", "--accumulate", "4")),
        "sdi 1": ("sdi", ("--batch", "1")), "sdi 4": ("sdi", ("--batch", "4")), "vsd 1": ("vsd", ("--batch", "1")), "sds 8, as --refine": ("sds", ("--batch", "8")),
    }  # fmt: skip
    found: dict[str, Any] = {"rows": {}}
    for card in CARDS[-1:] if where.small else CARDS:
        for label, (name, options) in list(kinds.items())[1 : 2 if where.small else None]:
            for low in (False, True):
                if low and found["rows"].get(f"{label}, {card} GB") == "fits":
                    continue
                found["rows"][f"{label}, {card} GB" + (", --low-memory" if low else "")] = fits(where, card, recipe(where, name, *options), low)
    if not where.small:
        found["rows"]["sds 1 of 768 pixels, 24 GB"] = fits(where, 24, recipe(where, "sds", "--batch", "1"), False, sample=96)
    return found


def fits(where: Where, card: float, config: Train, low: bool, sample: int | None = None) -> str:
    """Return "fits", or what is said where it does not."""
    ballast = None
    try:
        if where.device == "cuda":
            torch.cuda.empty_cache()
            free, total = torch.cuda.mem_get_info()
            ballast = torch.empty(max(0, int(free - card * 1e9 + (total - free))), dtype=torch.uint8, device="cuda")
        session = begun(replace(config, low_memory=low), prior(where, sample, low))
        for _ in range(2):
            session.step()
        where.wait()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    finally:
        del ballast
        if where.device == "cuda":
            torch.cuda.empty_cache()
    return "fits"


def tiny(where: Where) -> dict[str, Any]:
    """Return measurements of the embedded prior: steps a second here and on the CPU, a whole run, and whether a seed repeats exactly."""
    from splatdistill.api import settle
    from splatdistill.estimators import load_judge
    from splatdistill.evaluate.acceptance import judge, look
    from splatdistill.priors.weights import TINY, load
    from splatdistill.render import rasterizer
    from splatdistill.toybox import parse

    found: dict[str, Any] = {}
    count = 1 if where.small else 40
    for device in dict.fromkeys((where.device, "cpu")):
        network = load("tiny", device)
        for name in ("sds", "sdi"):
            session = begun(replace(settle(PROMPT, name, {"prior": "tiny"})[0].config, device=device), network)
            session.step()
            began = time.perf_counter()
            for _ in range(count):
                session.step()
            found[f"{name}, steps/s on {device}"] = count / (time.perf_counter() - began)
    config = replace(settle(PROMPT, "sdi", {"prior": "tiny"})[0].config, device=where.device)
    network, ends = load("tiny", where.device), []
    for _ in range(2):
        session = begun(config, network)
        for _ in range(2 if where.small else 20):
            session.step()
        ends.append(session.gaussians().means.clone())
    found["the same seed, the same splats"] = torch.equal(*ends)
    if where.small:
        return found
    session = begun(config, network)
    while session.state.step < config.steps:
        session.step()
    sight = look(session.gaussians().to("cpu"), rasterizer("cpu"))
    record = judge(sight, parse(PROMPT), load_judge(TINY.parent / "clip"), None, torch.Generator().manual_seed(0)).record()
    return found | {"views right of 8": record.views_right, "IoU": record.iou, "PSNR": record.psnr}


def own_tests(where: Where) -> dict[str, Any]:
    """Return what pytest says of the tests that run on a device."""
    root = Path(__file__).resolve().parents[2]
    files: Sequence[str] = ("tests/render/test_copies.py",) if where.small else TESTS
    argv = [sys.executable, "-m", "pytest", "-q", "--device", where.device, *files]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = done.stdout.strip().splitlines() or [""]
    return {"said": lines[-1]} | ({"failed": "tests fail", "log": lines[-40:]} if done.returncode else {})
