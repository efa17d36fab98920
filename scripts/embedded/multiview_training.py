"""Train the multi-view prior of the packed world within some minutes of wall time, on whatever device there is.

    python scripts/train_models.py --minutes 100 --out DIR --pack world.pack --start splatdistill/priors/world/weights.safetensors   # one thread
    python scripts/train_models.py --minutes 9 --out DIR --pack world.pack --batch 512 --workers 15 --lr 1e-3   # a GPU, 16 cores

Pictures are rendered while it trains (sets.py; the pack is written by scripts/pack_world.py; without one only the
procedural toybox is shown). On CUDA, and on CPUs that can, it computes in bfloat16. DIR gets the average of the weights as
average-*.safetensors (float16, pieces of at most 15 MiB), training.json (sizes, steps, losses) and samples.png: at most 8 files, replaced together every few minutes. A full checkpoint, with the optimiser's
state, goes to --state (DIR/state by default; `none` writes none). Run again with the same folders it goes on: from the full
checkpoint, or from the average alone, the rate warmed up again. Killed at any time it loses what came after the last save.

scripts/world_export.py makes a prior of DIR.
"""

import argparse
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedded import average
from embedded.memory import give_back
from embedded.multiview import Shape, WorldModel, loss, sample
from embedded.sets import Maker, Mix, Pool, Supply
from splatdistill.cameras import orbit
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.priors.multiview import camera_numbers, no_camera
from splatdistill.toybox.real_split import SPLIT

CAMERA = "class_embedding."  # in the names of what reads the camera
SHOWN = ("a blue robot", "a horse", "a hamburger", "a teddy bear", "a red fire hydrant")


@dataclass(frozen=True)
class Pace:
    """Settings of a training run."""

    minutes: float
    batch: int
    lr: float
    warm: int = 200  # steps
    ema: float = 0.9995
    settle: float = 0.35  # share of the run, at its end, in which the rate falls to nothing
    clip: float = 1.0
    camera: float = 5.0  # factor on the rate of what reads the camera: it began silent, and sees few sets
    reuse: float = 5.0  # times that each picture is drawn, about
    saved: float = 240.0  # seconds between saves
    sampled: float = 1200.0  # seconds between sheets
    sheet_steps: int = 16  # of a sheet's pictures


@dataclass
class Progress:
    """Record of a run over all its parts."""

    step: int = 0
    pictures: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Model, its optimiser and average, and the folders where they are kept."""

    def __init__(self, out: Path, state: Path | None, device: torch.device, pace: Pace, shape: Shape, start: Path | None = None):
        self.out, self.state, self.device, self.pace, self.progress = out, state, device, pace, Progress()
        out.mkdir(parents=True, exist_ok=True)
        (work := state or out).mkdir(parents=True, exist_ok=True)
        self.model = WorldModel(work, shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if state is None:
            shutil.rmtree(work / "tokenizer")
        named = dict(self.model.named_parameters())
        cameras = {k: p for k, p in named.items() if CAMERA in k}
        self.parameters = {k: p for k, p in named.items() if k not in cameras} | cameras
        groups = [{"params": [p for k, p in named.items() if k not in cameras], "factor": 1.0}, {"params": list(cameras.values()), "factor": pace.camera}]
        self.optimizer = torch.optim.AdamW(groups, lr=pace.lr, weight_decay=0.01, betas=(0.9, 0.99), fused=device.type == "cuda")
        self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.rng = torch.Generator(device).manual_seed(0)
        self.warmed = 0  # steps since the optimiser was new
        if not self._resume() and start is not None:
            self._start(start)
            self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.began = time.monotonic()

    def _resume(self) -> bool:
        """Load the full checkpoint, else the average alone; return False where there is neither."""
        if self.state is not None and (self.state / "full.safetensors").exists():
            tensors = load_file(self.state / "full.safetensors")
            told = json.loads((self.state / "full.json").read_text(encoding="utf-8"))
            self._load(tensors, "model.")
            for k in self.ema:
                self.ema[k].copy_(tensors[f"ema.{k}"])
            state = self.optimizer.state_dict()
            for i, name in enumerate(self.parameters):
                state["state"][i] = {k: tensors[f"adam.{name}.{k}"] for k in ("exp_avg", "exp_avg_sq", "step")}
            self.optimizer.load_state_dict(state)
            self.warmed = told["warmed"]
        elif pieces := sorted(self.out.glob("average-*.safetensors")):
            tensors = {k: v.float() for p in pieces for k, v in load_file(p).items()}
            told = json.loads((self.out / "training.json").read_text(encoding="utf-8"))
            self._load(tensors, "")
            self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        else:
            return False
        self.progress = Progress(**told["progress"])
        self.rng.manual_seed(self.progress.step)  # not the noise of the first steps again
        print(f"goes on from step {self.progress.step}", flush=True)
        return True

    def _start(self, start: Path) -> None:
        """Load the weights of an exported prior, or of a saved average."""
        if start.is_dir():
            self.model.begin_as(start)
            return
        tensors, told = average.read(start)
        self._load(tensors, "")
        self.progress = Progress(**told["progress"])  # type: ignore[arg-type]
        self.rng.manual_seed(self.progress.step)

    def _load(self, tensors: dict[str, Tensor], prefix: str) -> None:
        if missing := [k for k in self.parameters if f"{prefix}{k}" not in tensors]:
            raise SystemExit(f"the weights there are of another network: no {missing[0]}")
        with torch.no_grad():
            for k, p in self.parameters.items():
                p.copy_(tensors[f"{prefix}{k}"])

    @property
    def spent(self) -> float:
        """Return the seconds of this part of the run."""
        return time.monotonic() - self.began

    def rate(self) -> float:
        """Return the learning rate: a warm-up, a constant part, and a fall to zero at the end of the minutes."""
        left = 1 - self.spent / (60 * self.pace.minutes)
        return self.pace.lr * min(1.0, (self.warmed + 1) / self.pace.warm) * min(1.0, max(left, 0.01) / self.pace.settle)

    def take(self, pool: Pool) -> Tensor:
        """Run one step; return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.rate()
        batch = pool.batch(self.pace.batch)
        value = loss(self.model, batch, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), self.pace.clip)
        self.optimizer.step()
        self.progress.step, self.warmed = self.progress.step + 1, self.warmed + 1
        self.progress.pictures += len(batch.picture)
        keep = min(self.pace.ema, self.progress.step / (self.progress.step + 30))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - keep)
        return value.detach()

    def save(self) -> None:
        """Save everything, each file whole or not at all; training.json, which names the files that belong together, comes last."""
        told = {"progress": asdict(self.progress), "shape": asdict(self.model.shape), "pace": asdict(self.pace), "pack": SPLIT.pack}
        if self.state is not None:
            tensors = {f"model.{k}": p.detach().contiguous() for k, p in self.parameters.items()}
            tensors |= {f"ema.{k}": v.contiguous() for k, v in self.ema.items()}
            names = list(self.parameters)
            for i, moments in self.optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{names[i]}.{k}": moments[k].contiguous() for k in ("exp_avg", "exp_avg_sq", "step")}
            replaced(self.state / "full.safetensors", lambda p: save_file(tensors, p))
            replaced(self.state / "full.json", lambda p: p.write_text(json.dumps(told | {"warmed": self.warmed}), encoding="utf-8"))
        pieces = average.in_pieces({k: v.to("cpu", torch.float16).contiguous() for k, v in self.ema.items()})
        for i, piece in enumerate(pieces):
            replaced(self.out / f"average-{i}.safetensors", lambda p, piece=piece: save_file(piece, p))
        replaced(self.out / "training.json", lambda p: p.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8"))

    def averaged(self) -> "Averaged":
        """Return a context in which the model has the average of its weights."""
        return Averaged(self)

    def sheet(self) -> None:
        """Write samples of trained and of held-out prompts: sets of four, and front and back by words."""
        prompts = [*SHOWN, *list(SPLIT.truth)[:5]]
        azimuth = [30.0, 120.0, 210.0, 300.0]
        size = self.model.shape.size
        camera = camera_numbers(orbit(azimuth * len(prompts), 15.0, width=size)).to(self.device)
        rng = torch.Generator(self.device).manual_seed(1)
        with self.averaged() as model:
            sets = sample(model, [p for p in prompts for _ in azimuth], camera, rng, views=4, steps=self.pace.sheet_steps)
            words = [f"{p}, {w} view" for p in prompts for w in ("front", "side", "back", "overhead")]
            single = sample(model, words, no_camera(len(words)).to(self.device), rng, steps=self.pace.sheet_steps)
        rows = torch.cat([sets.unflatten(0, (-1, 4)), single.unflatten(0, (-1, 4))], 1).flatten(0, 1).cpu()
        labels = [label for p in prompts for label in (p, *"   ", "front", "side", "back", "overhead")]
        replaced(self.out / "samples.png", lambda p: write_png(p, contact_sheet(rows, 8, labels)))


class Averaged:
    """Context in which a trainer's model has the average of its weights."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def _swap(self) -> None:
        with torch.no_grad():
            for k, p in self.trainer.parameters.items():
                kept = p.detach().clone()
                p.copy_(self.trainer.ema[k])
                self.trainer.ema[k].copy_(kept)

    def __enter__(self) -> WorldModel:
        self._swap()
        return self.trainer.model.eval()

    def __exit__(self, *_: object) -> None:
        self._swap()
        self.trainer.model.train()


def replaced(path: Path, write: Any) -> None:
    """Write beside the path, then take its place."""
    new = path.with_name(f"new-{path.name}")
    write(new)
    os.replace(new, path)


def run(trainer: Trainer, pool: Pool, supply: Supply) -> None:
    """Run steps until the minutes are over, with saves and sheets on the way."""
    pace, progress = trainer.pace, trainer.progress
    progress.parts.append({"device": str(trainer.device), "from step": progress.step, **asdict(pace)})
    before, saved, sampled, told = progress.seconds, trainer.spent, trainer.spent, trainer.spent
    owed, losses, first, fresh = 0.0, [], progress.step, 0
    while trainer.spent < 60 * pace.minutes:
        losses.append(trainer.take(pool))
        owed += pace.batch / (5 * supply.bunch * pace.reuse)
        fresh += (came := supply.take(int(owed), wait=False))
        owed = min(owed - came, 50.0)
        if trainer.spent - told > min(60.0, 2 * pace.minutes) or len(losses) == 1000:
            mean, told = torch.stack(losses).mean().item(), trainer.spent
            speed = (progress.step - first) / trainer.spent
            progress.log.append({"step": progress.step, "loss": round(mean, 5), "minutes": round((before + trainer.spent) / 60, 2)})
            print(f"step {progress.step} loss {mean:.4f} {speed:.3f} steps/s {trainer.spent / 60:.1f} min, {fresh * supply.bunch} sets", flush=True)
            losses = []
        progress.seconds = before + trainer.spent
        if trainer.spent - sampled > pace.sampled:
            trainer.sheet()
            sampled = trainer.spent
        if trainer.spent - saved > pace.saved:
            trainer.save()
            saved = trainer.spent
    trainer.save()
    trainer.sheet()
    print(f"done: step {progress.step}, {progress.pictures} pictures, {progress.seconds / 60:.1f} minutes in all", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of wall time, from the first step")
    parser.add_argument("--out", type=Path, required=True, help="folder of the average, the log and the sheet")
    parser.add_argument("--pack", type=Path, help="packed world; without it only the procedural toybox")
    parser.add_argument("--start", type=Path, help="average that was kept (the package's, splatdistill/priors/world/weights.safetensors), or exported prior of half as large pictures, to begin as, where there is nothing to go on from")
    parser.add_argument("--state", help="folder of the full checkpoint, or none; OUT/state by default")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--batch", type=int, default=32, help="pictures a step, about")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--settle", type=float, default=Pace.settle, help="share of the minutes in which the rate falls")
    parser.add_argument("--workers", type=int, default=0, help="processes that render; 0 renders between the steps")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--pool", type=int, default=1500, help="sets kept (330 kB each)")
    parser.add_argument("--fill", type=int, default=64, help="sets rendered before the first step")
    parser.add_argument("--saved", type=float, default=Pace.saved, help="seconds between saves")
    parser.add_argument("--sampled", type=float, default=Pace.sampled, help="seconds between sheets")
    parser.add_argument("--sheet-steps", type=int, default=Pace.sheet_steps, help="of the sampler, for the sheets")
    parser.add_argument("--seed", type=int, default=0, help="of what is rendered; the step it goes on from is added")
    parser.add_argument("--shape", default="{}", help="JSON of Shape's fields, for rehearsals")
    args = parser.parse_args(argv)
    give_back()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    shape = replace(Shape(), **{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(args.shape).items()})
    state = None if args.state == "none" else Path(args.state) if args.state else args.out / "state"
    pace = Pace(args.minutes, args.batch, args.lr, settle=args.settle, saved=args.saved, sampled=args.sampled, sheet_steps=args.sheet_steps)
    torch.manual_seed(args.seed)
    trainer = Trainer(args.out, state, device, pace, shape, args.start)
    seed = args.seed + trainer.progress.step
    make = Maker(args.pack, shape.size, seed, Mix(procedural=0.5))
    for _ in range(8 if args.workers else 0):  # compiles the kernels once, before the workers look for them
        make()
    pool = Pool(args.pool, shape.size, device, seed=seed)
    supply = Supply(pool, args.pack, shape.size, args.workers, seed)
    try:
        supply.take(-(-args.fill // supply.bunch), wait=True)
        trainer.began = time.monotonic()
        run(trainer, pool, supply)
    finally:
        supply.close()
    return 0
