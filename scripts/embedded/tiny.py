"""Train the embedded models on the toybox: the prior `tiny` and the CLIP `tiny-clip`.

    python scripts/train_tiny.py data  --work DIR                 # render the training pictures once
    python scripts/train_tiny.py prior --work DIR --minutes 110   # resumes where it stopped
    python scripts/train_tiny.py clip  --work DIR --minutes 30
    python scripts/train_tiny.py export --work DIR                # all in one float16 safetensors file into the package

The networks are in networks.py, data and losses in losses.py and contrast.py. Training runs on the CPU and can be stopped at any time
and goes on from its last checkpoint; the learning rate falls over --steps, so choose that to fit the time. --start goes
on from the package's own weights. `tiny-geometry` is trained by scripts/train_geometry.py with --work DIR/geometry.
Evaluation is scripts/evaluate_tiny.py.
"""

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ModelMixin
from safetensors.torch import load_file, save_file
from torch import nn

from embedded.contrast import ClipLoss
from embedded.losses import Data, PriorLoss, Settings
from embedded.networks import CLIP_PREPROCESSING, Prior, exported, make_clip, make_tokenizer, write_pipeline
from embedded.training import Pace, Training, averaged, read_state
from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.toybox.world import SIZE, pictures
from splatdistill.weight_files import SharedWeights
from splatdistill.weight_files.eight_bits import packed

PACKAGE = Path(__file__).parents[2] / "splatdistill" / "priors" / "tiny"


def render_data(work: Path, count: int, chunk: int = 2000) -> None:
    """Write `count` RGBA pictures and their captions, none of a held-out pair."""
    work.mkdir(parents=True, exist_ok=True)
    rgba = np.lib.format.open_memmap(work / "rgba.npy", "w+", np.uint8, (count, SIZE, SIZE, 4))
    captions: list[str] = []
    words: list[str] = []
    phrases: list[str] = []
    for start in range(0, count, chunk):
        p = pictures(min(chunk, count - start), seed=1000 + start // chunk)
        rgba[start : start + len(p.captions)] = p.rgba
        captions += map(str, p.captions)
        words += p.words
        phrases += p.phrases
        print(f"{start + len(p.captions)} of {count} pictures", flush=True)
    (work / "captions.json").write_text(json.dumps({"captions": captions, "words": words, "phrases": phrases}), encoding="utf-8")


def train(model: nn.Module, loss_of: PriorLoss | ClipLoss, settings: Settings, work: Path, minutes: float) -> None:
    """Train a model, see Training; resumes from its own checkpoint."""
    pace = Pace(settings.steps, settings.lr, settings.ema, warm=200, told=100, saved=300)
    record = {**asdict(settings), "log": []}
    Training(work / settings.model, model, pace, loss_of.data.rng, record, list(settings.log)).run(loss_of, minutes)


def export(work: Path, target: Path) -> None:
    """Write the averaged weights of every model in one file, the U-Net's in eight bits and the others in float16; beside it the
    folders that the package's loaders read.
    """
    bundle: dict[str, torch.Tensor] = {}
    for name in ("prior", "clip"):
        folder = target / name
        tokenizer = make_tokenizer(folder / "tokenizer", directions=True) if name == "prior" else make_tokenizer(folder)
        tensors, meta = read_state(work / name)
        model: nn.Module = Prior(tokenizer) if name == "prior" else make_clip(tokenizer)
        model.load_state_dict(averaged(tensors))
        parts = {folder / "unet": model.unet, folder / "text_encoder": model.text} if name == "prior" else {folder: model}
        for place, part in parts.items():
            part.half()
            part.save_config(place) if isinstance(part, ModelMixin) else part.config.save_pretrained(place)
            prefix = f"{place.name}."
            own = {prefix + k: v.contiguous() for k, v in part.state_dict().items()}
            bundle |= packed(own) if place.name == "unet" else own
            SharedWeights.write(place, target / "weights.safetensors", prefix)
        called = "tiny" if name == "prior" else "tiny-clip"
        record = {"name": called, "model": name, "step": meta["step"], "settings": meta["settings"], "losses": meta["log"][::10] + meta["log"][-1:]}
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    exported_geometry = work / "geometry" / "export"  # of scripts/train_geometry.py, if it has been run
    if exported_geometry.exists():
        (target / "geometry").mkdir(exist_ok=True)
        for name in ("config.json", "training.json"):
            shutil.copy(exported_geometry / name, target / "geometry" / name)
        bundle |= {f"geometry.{k}": v for k, v in load_file(exported_geometry / "model.safetensors").items()}
        SharedWeights.write(target / "geometry", target / "weights.safetensors", "geometry.")
    save_file(bundle, target / "weights.safetensors")
    write_pipeline(target / "prior", PatchAutoencoder())
    (target / "clip" / "preprocessor_config.json").write_text(json.dumps(CLIP_PREPROCESSING, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {target}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "prior", "clip", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop (resumably) after this long")
    parser.add_argument("--steps", type=int, default=0, help="length of the learning-rate schedule")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0.0)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", action="store_true", help="start from the package's weights, not from random ones")
    parser.add_argument("--target", type=Path, default=PACKAGE)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.what == "data":
        return render_data(args.work, args.pictures)
    if args.what == "export":
        return export(args.work, args.target)
    torch.manual_seed(0)
    steps, batch, lr = (7_500, 48, 8e-4) if args.what == "prior" else (5_000, 96, 1e-3)
    settings = Settings(args.what, args.steps or steps, args.batch or batch, args.lr or lr, pictures=args.pictures)
    tokenizer = make_tokenizer(args.work / f"tokenizer-{args.what}", directions=args.what == "prior")
    model = Prior(tokenizer) if args.what == "prior" else make_clip(tokenizer)
    if args.start:
        step = json.loads((args.target / args.what / "training.json").read_text(encoding="utf-8"))["step"]
        settings = replace(settings, start=f"the exported weights of step {step}")
        model.load_exported(args.target / args.what) if args.what == "prior" else model.load_state_dict(exported(args.target / "clip"))
    model.to(memory_format=torch.channels_last)  # convolutions are a tenth faster so
    data = Data(args.work, torch.Generator().manual_seed(settings.seed + args.start))
    loss = (PriorLoss if args.what == "prior" else ClipLoss)(tokenizer, data, settings)
    train(model, loss, settings, args.work, args.minutes)
