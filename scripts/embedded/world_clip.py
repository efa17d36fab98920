"""Train `world-clip`: tiny-clip with the words and pictures of the real objects.

    python scripts/train_world_clip.py data   --work DIR --pack world.pack    # render the training pictures once
    python scripts/train_world_clip.py clip   --work DIR --minutes 60         # resumes where it stopped
    python scripts/train_world_clip.py export --work DIR                      # in float16 into the package

It begins with the weights of tiny-clip; every word that both have keeps its meaning. The loss is that of tiny-clip (contrast.py). Pictures show
no held-out pair of colour and object and no held-out object. Training runs on the CPU and can be stopped at any time; the learning
rate falls over --steps, so choose that to fit the time. Evaluation is scripts/evaluate_tiny.py --clip world-clip --pack world.pack.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizer

from embedded.contrast import ClipLoss
from embedded.losses import Data, Settings
from embedded.multiview import lexicon
from embedded.networks import CLIP_PREPROCESSING, LENGTH, exported, make_clip, rows_by_word, word_tokenizer
from embedded.training import Pace, Training, averaged, read_state
from splatdistill.estimators.weights import FOLDERS, TINY_CLIP, WORLD_CLIP
from splatdistill.toybox.pack import PackedWorld, RealObject
from splatdistill.toybox.real import sample_object, shown_kinds
from splatdistill.toybox.triangles import rasterise
from splatdistill.toybox.world import SIZE, VIEWS, pictures

ASKED, TOYS, VIEWS_OF_ONE, CHUNK = 0.3, 0.4, 4, 2000
"""Shares of real objects that are those of the acceptance prompts, and of pictures that show toys; views of one real object; pictures at once."""


def render_real(kinds: dict[str, list[RealObject]], asked: dict[str, list[RealObject]], count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return `count` RGBA pictures of real objects, foreground premultiplied, and their captions."""
    rng, views = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    rgba, captions = [], []
    for _ in range(-(-count // VIEWS_OF_ONE)):
        caption, mesh = sample_object(asked if rng.random() < ASKED else kinds, rng)
        truth = rasterise([mesh], VIEWS.sample(VIEWS_OF_ONE, SIZE, SIZE, views), torch.zeros(VIEWS_OF_ONE, 3), samples=2, threads=1)
        rgba.append(torch.cat([truth.rgb, truth.alpha], 1).clamp(0, 1).permute(0, 2, 3, 1))
        captions += [str(caption)] * VIEWS_OF_ONE
    return (torch.cat(rgba)[:count] * 255 + 0.5).byte().numpy(), captions[:count]


def render_data(work: Path, pack: Path, count: int) -> None:
    """Write `count` RGBA pictures and their captions, none of a held-out pair or object."""
    kinds, asked = shown_kinds(PackedWorld.load(pack))
    work.mkdir(parents=True, exist_ok=True)
    rgba = np.lib.format.open_memmap(work / "rgba.npy", "w+", np.uint8, (count, SIZE, SIZE, 4))
    captions: list[str] = []
    for seed, start in enumerate(range(0, count, CHUNK), 5000):
        size = min(CHUNK, count - start)
        toys = pictures(int(TOYS * size), seed, threads=1)
        real, told = render_real(kinds, asked, size - len(toys.captions), seed)
        rgba[start : start + size] = np.concatenate([toys.rgba, real])
        captions += [*map(str, toys.captions), *told]
        print(f"{len(captions)} of {count} pictures", flush=True)
    told_of = {"captions": captions, "words": [""] * count, "phrases": [""] * count}
    (work / "captions.json").write_text(json.dumps(told_of), encoding="utf-8")


def started(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return a network with the weights of tiny-clip; words that it lacks begin at random."""
    folder, model = FOLDERS[TINY_CLIP], make_clip(tokenizer)
    weights = {k: v.float() for k, v in exported(folder).items()}
    key = next(k for k in weights if k.endswith("token_embedding.weight"))
    vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    model.load_state_dict(weights | {key: rows_by_word(tokenizer, model.state_dict()[key], vocabulary, weights[key])})
    return model


def export(work: Path, target: Path) -> None:
    """Write the averaged weights in float16, and the files beside them that the package's loader reads."""
    tokenizer = word_tokenizer(target, lexicon(), LENGTH)
    tensors, meta = read_state(work / "clip")
    model = make_clip(tokenizer)
    model.load_state_dict(averaged(tensors))
    model.half()
    model.config.save_pretrained(target)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, target / "model.safetensors")
    (target / "preprocessor_config.json").write_text(json.dumps(CLIP_PREPROCESSING, indent=2) + "\n", encoding="utf-8")
    record = {"name": WORLD_CLIP, "step": meta["step"], "settings": meta["settings"], "losses": meta["log"][::10] + meta["log"][-1:]}
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "clip", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints")
    parser.add_argument("--pack", type=Path, default=Path("world.pack"), help="what scripts/pack_world.py wrote")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop (resumably) after this long")
    parser.add_argument("--steps", type=int, default=4000, help="length of the learning-rate schedule")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=FOLDERS[WORLD_CLIP])
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.what == "data":
        return render_data(args.work, args.pack, args.pictures)
    if args.what == "export":
        return export(args.work, args.target)
    torch.manual_seed(0)
    tokenizer = word_tokenizer(args.work / "tokenizer", lexicon(), LENGTH)
    data = Data(args.work, torch.Generator().manual_seed(0))
    settings = replace(Settings("clip", args.steps, args.batch, args.lr, pictures=len(data.captions)), start="the weights of tiny-clip")
    loss = ClipLoss(tokenizer, data, settings)
    pace = Pace(settings.steps, settings.lr, settings.ema, warm=200, told=100, saved=300)
    record = {**asdict(settings), "log": []}
    Training(args.work / "clip", started(tokenizer), pace, loss.data.rng, record, list(settings.log)).run(loss, args.minutes)
