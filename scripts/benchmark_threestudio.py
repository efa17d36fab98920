"""Our guidances beside threestudio's own code: the same random networks of Stable Diffusion's shape, pictures, cameras and draws.

    git clone https://github.com/threestudio-project/threestudio
    python scripts/benchmark_threestudio.py --threestudio threestudio                  # small networks
    python scripts/benchmark_threestudio.py --threestudio threestudio --size 320 --vae 128 --repeats 3   # Stable Diffusion 2.1's sizes
    python scripts/benchmark_threestudio.py --threestudio threestudio --parts memory   # counted at these sizes, nothing is computed

gradient   of one step with respect to the pictures, 512 x 512 as threestudio has them: |ours - theirs| / |theirs|, in float64, as their
           schedule is (a table in float32), and with that table in float64, as ours is
time       of a step: encoding, guidance, and its gradient to the pictures; interleaved repeats, medians and quartiles; ours also over
           that of its own calls alone, the same questions to the UNet and the encoding with its gradient. On a CPU the time that this
           process computed, whatever else the machine did
memory     most bytes of tensors at any time of a step of SDS, weights included, at Stable Diffusion 2.1's sizes: counted on torch's
           meta device, attention without its matrix; threestudio's in half precision as it is by default, ours with a UNet in half
           precision and an autoencoder in float32 (all of it in bfloat16 by --vae-precision bfloat16; on a card its convolutions are)

threestudio's guidances are those of its snapshot, unchanged (threestudio_snapshot.py). Its VSD needs a class that diffusers has
removed since (LoRAAttnProcessor), and is not compared. Its SDI is one view's: with more, it moves on after the inversion's end; its
Perp-Neg asks each negative at another view's latents where a batch has several: both are compared with one view.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from benchmark_guidance import quartiles, timed
from live_bytes import Live
from threestudio_sides import METHODS, PLAIN, Networks, Ours, Theirs, networks
from threestudio_snapshot import Snapshot
from torch import Tensor

SKIPPED = 77
GOALS = {"gradient": 1e-5, "time": 1.0, "overhead": 1.05, "memory": 0.7}


@contextmanager
def same_draws(seed: int, uniform: float = 0.4) -> Iterator[None]:
    """Make all normal draws come from one generator in their order, and all uniform ones be one number, whoever asks for them."""
    rng = torch.Generator().manual_seed(seed)
    normal = torch.randn  # before it is replaced

    def randn(*shape: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
        size = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return normal(tuple(size), generator=rng, dtype=torch.float64).to(device=device, dtype=dtype or torch.get_default_dtype())

    def like(x: Tensor, **_: Any) -> Tensor:
        return randn(tuple(x.shape), dtype=x.dtype, device=x.device)

    def rand(*shape: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
        return torch.full((shape[0],) if isinstance(shape[0], int) else shape[0], uniform, dtype=dtype, device=device)

    with mock.patch.object(torch, "randn", randn), mock.patch.object(torch, "randn_like", like), mock.patch.object(torch, "rand", rand), \
            mock.patch.object(random, "random", lambda: uniform):  # fmt: skip
        yield


def pictures(batch: int, device: str, dtype: torch.dtype) -> Tensor:
    """Return random pictures."""
    return torch.rand(batch, 3, 512, 512, generator=torch.Generator().manual_seed(1)).to(device, dtype).requires_grad_()


def gradient_of(side: Ours | Theirs, dtype: torch.dtype, device: str, seed: int) -> Tensor:
    """Return the pictures' gradient of one step."""
    picture = pictures(side.batch, device, dtype)
    with same_draws(seed):
        side.step(picture)
    assert picture.grad is not None
    return picture.grad


def gradient(name: str, made: Networks, snapshot: Snapshot, batch: int, device: str) -> dict[str, Any]:
    """Return the relative difference of both gradients."""
    method, exact = METHODS[name], made.to(torch.float64, torch.float64)
    batch = batch if method.module == PLAIN and not method.perp_neg else 1
    ours = gradient_of(Ours(method, exact, batch), torch.float64, device, 5)
    rounded = gradient_of(Theirs(method, exact, batch, snapshot), torch.float64, device, 5)
    theirs = gradient_of(Theirs(method, exact, batch, snapshot).with_exact_table(), torch.float64, device, 5)
    difference, as_it_is = (((ours - g).norm() / g.norm()).item() for g in (theirs, rounded))
    print(f"  {name:14s} gradient, batch {batch}: differs by {difference:.1e}{over(difference, 'gradient')}, {as_it_is:.1e} with its schedule in float32", flush=True)
    return {"method": name, "batch": batch, "gradient": difference, "with its table": as_it_is, "size": theirs.norm().item()}


def times(name: str, made: Networks, snapshot: Snapshot, batch: int, device: str, repeats: int) -> dict[str, Any]:
    """Return medians and quartiles of both steps, of their ratio, and of ours over its own calls."""
    method = METHODS[name]
    batch = batch if method.module == PLAIN and not method.perp_neg else 1
    half = device == "cuda"
    low = made.to(torch.float16, torch.float16) if half else made
    ours, theirs = Ours(method, made.to(torch.float16, torch.float32) if half else made, batch), Theirs(method, low, batch, snapshot)
    picture = pictures(batch, device, torch.float32)
    asked = ours.asked(picture)  # which also fills caches
    theirs.step(picture)
    works = [lambda: ours.step(picture), lambda: theirs.step(picture), lambda: ours.calls(picture, asked)]
    seconds: list[list[float]] = [[], [], []]
    for k in range(repeats):
        for j in range(3):
            which = (j + k) % 3  # each is first as often as the others
            seconds[which].append(taken(works[which], picture.device))
    ratio, overhead = (quartiles([a / b for a, b in zip(seconds[0], other)]) for other in seconds[1:])
    images = sum(len(q.x_t) for queries in asked for q in queries)
    print(
        f"  {name:14s} time, batch {batch}, {images} images of the UNet: ours {1e3 * quartiles(seconds[0])[1]:.0f} ms, theirs {1e3 * quartiles(seconds[1])[1]:.0f} ms; "
        f"ratio {ratio[1]:.3f} [{ratio[0]:.3f}, {ratio[2]:.3f}]{over(ratio[1], 'time')}, of its own calls {overhead[1]:.3f} "
        f"[{overhead[0]:.3f}, {overhead[2]:.3f}]{over(overhead[1], 'overhead')}", flush=True,
    )  # fmt: skip
    return {"method": name, "batch": batch, "images": images, "ours": seconds[0], "theirs": seconds[1], "calls": seconds[2], "ratio": ratio, "overhead": overhead}


def taken(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of some work: of the device until it has finished, on a CPU those that this process computed."""
    began = time.process_time()
    elapsed = timed(work, device)
    return time.process_time() - began if device.type == "cpu" else elapsed


def unmixed(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    """Return attention's result in shape alone: a fused kernel keeps nothing else."""
    return q + v.mean(-2, keepdim=True)


def peak(side: Ours | Theirs) -> int:
    """Return the most bytes of a step on the meta device, weights included."""
    picture = torch.rand(side.batch, 3, 512, 512, device="meta", requires_grad=True)
    if isinstance(side, Ours):
        side.prior._vae_precision = nullcontext  # type: ignore[method-assign]  # there is no autocast on meta
    weights = sum(p.numel() * p.element_size() for n in (side.networks.unet, side.networks.vae) for p in n.parameters())
    with mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", unmixed), Live() as live:
        side.step(picture)
    return weights + live.peak


def memory(folder: Path, batch: int, size: int = 320, vae: int = 128) -> dict[str, Any]:
    """Return the peaks of both steps of SDS; theirs too without the decoding of each step's estimate, which nothing uses by default."""
    made, snapshot = networks(size, vae, "meta"), Snapshot(folder, torch.device("meta"))
    half, mixed = made.to(torch.float16, torch.float16), made.to(torch.float16, torch.float32)
    theirs = Theirs(METHODS["sds"], half, batch, snapshot)
    found = {"theirs": peak(theirs)}
    theirs.guidance.decode_latents = lambda latents: latents
    found |= {"theirs, not decoding": peak(theirs), "ours": peak(Ours(METHODS["sds"], mixed, batch))}
    found |= {"ours, bfloat16": peak(Ours(METHODS["sds"], made.to(torch.float16, torch.bfloat16), batch)), "ours, --low-memory": peak(Ours(METHODS["sds"], mixed, batch, low_memory=True))}
    for name, value in found.items():
        ratio = value / found["theirs"]
        print(f"  sds            memory, batch {batch}: {name:20s} {value / 2**30:6.2f} GiB, {ratio:.2f} of theirs{over(ratio, 'memory') if 'low' in name and batch == 4 else ''}", flush=True)
    return {"batch": batch, **found}


def over(value: float, goal: str) -> str:
    """Return a remark where a figure is above its goal."""
    return "" if value <= GOALS[goal] else f"  ABOVE {GOALS[goal]:g}"


def quiet() -> None:
    """Keep back the libraries' remarks on networks that were made and moved by hand."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run this script's command line; 77 without a snapshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threestudio", type=Path, metavar="DIR", help="copy of threestudio's repository; without it everything is skipped")
    parser.add_argument("--parts", nargs="+", default=["gradient", "time", "memory"], choices=["gradient", "time", "memory"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--size", type=int, default=32, help="channels of the UNet's first block; Stable Diffusion has 320")
    parser.add_argument("--vae", type=int, default=16, help="channels of the autoencoder's first block; Stable Diffusion has 128")
    parser.add_argument("--batch", type=int, default=1, help="views of a step of SDS and SJC (gradient, time)")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    asked = parser.parse_args(arguments)
    if asked.threestudio is None:
        print("skipped: needs a copy of https://github.com/threestudio-project/threestudio; give --threestudio DIR")
        return SKIPPED
    try:
        snapshot = Snapshot(asked.threestudio, torch.device(asked.device))
    except FileNotFoundError as error:
        parser.error(str(error))
    found: dict[str, list[dict[str, Any]]] = {}
    quiet()
    if {"gradient", "time"} & set(asked.parts):
        made = networks(asked.size, asked.vae, asked.device)
        millions = sum(p.numel() for p in made.unet.parameters()) / 1e6
        print(f"UNet of {millions:.0f} M, {asked.size} channels; autoencoder of {asked.vae}; {asked.device}, {torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        if "gradient" in asked.parts:
            found["gradient"] = [gradient(name, made, snapshot, asked.batch, asked.device) for name in asked.methods]
        if "time" in asked.parts:
            found["time"] = [times(name, made, snapshot, asked.batch, asked.device, asked.repeats) for name in asked.methods]
    if "memory" in asked.parts:
        found["memory"] = [memory(asked.threestudio, batch) for batch in (1, 4)]
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
