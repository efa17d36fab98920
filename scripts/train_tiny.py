"""Train the embedded models on the toybox: the prior `tiny` and the CLIP `tiny-clip`.

    python scripts/train_tiny.py data  --work DIR                 # render the training pictures once
    python scripts/train_tiny.py prior --work DIR --minutes 110   # resumes where it stopped
    python scripts/train_tiny.py clip  --work DIR --minutes 30
    python scripts/train_tiny.py export --work DIR                # float16 safetensors into the package

A step needs about 0.7 s on one CPU core and a few ms on a GPU. Training can be stopped at any time
and goes on from its last checkpoint; the learning rate falls over --steps, so choose that to fit the time.
Evaluation is scripts/evaluate_tiny.py.
"""

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.toybox.captions import Caption, parse
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.split import is_held_out
from splatdistill.toybox.world import SIZE, backgrounds, pictures

PACKAGE = Path(__file__).parent.parent / "splatdistill" / "priors" / "tiny"
LENGTH = 20  # tokens


@dataclass(frozen=True)
class Settings:
    """What a training run is; recorded beside its weights."""

    model: str
    steps: int
    batch: int
    lr: float
    seed: int = 0
    pictures: int = 80_000
    caption_dropout: float = 0.1
    view_dropout: float = 0.1
    gray: float = 1 / 3  # share of pictures without colour, for clip
    ema: float = 0.999
    log: list[dict[str, float]] = field(default_factory=list)


# -- data -----------------------------------------------------------------------------------------


def render_data(work: Path, count: int, chunk: int = 2000) -> None:
    """count RGBA pictures and their captions, none of a held-out pair."""
    work.mkdir(parents=True, exist_ok=True)
    rgba = np.lib.format.open_memmap(work / "rgba.npy", "w+", np.uint8, (count, SIZE, SIZE, 4))
    captions: list[str] = []
    words: list[str] = []
    for start in range(0, count, chunk):
        p = pictures(min(chunk, count - start), seed=1000 + start // chunk)
        rgba[start : start + len(p.captions)] = p.rgba
        captions += map(str, p.captions)
        words += p.words
        print(f"{start + len(p.captions)} of {count} pictures", flush=True)
    (work / "captions.json").write_text(json.dumps({"captions": captions, "words": words}))


class Data:
    """Random batches: pictures over random backgrounds, and their captions."""

    def __init__(self, work: Path, rng: torch.Generator):
        self.rgba = torch.from_numpy(np.load(work / "rgba.npy", mmap_mode="r+"))
        text = json.loads((work / "captions.json").read_text())
        self.captions, self.words, self.rng = text["captions"], text["words"], rng

    def batch(self, size: int) -> tuple[Tensor, list[int]]:
        """(size,3,SIZE,SIZE) in [0,1], and which pictures they are."""
        index = torch.randint(len(self.rgba), (size,), generator=self.rng)
        rgba = self.rgba[index].permute(0, 3, 1, 2).float() / 255
        ground = backgrounds(size, self.rng)[:, :, None, None]
        return rgba[:, :3] + (1 - rgba[:, 3:]) * ground, index.tolist()


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP byte-pair vocabulary in which every word of the toybox is one token."""
    lexicon = [*NAMED, *PRIMITIVES, *COLOURS, *PATTERNS[1:], *"a an and on front side back overhead view ,".split()]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,.!?'-")
    trainer = trainers.BpeTrainer(vocab_size=10_000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
    # unequal counts make the order of merges, and so the vocabulary, unique
    bpe.train_from_iterator([" ".join([w] * (2 + i)) for i, w in enumerate(sorted(lexicon))], trainer)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + [f"{c}</w>" for c in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, indent=0))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(b, LENGTH) ids."""
    return tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


# -- models ---------------------------------------------------------------------------------------


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> dict[str, int]:
    """Fields shared by CLIPTextModel and CLIPModel's text tower."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


class Prior(nn.Module):
    """UNet on 4x4 patches and its text encoder; v-prediction on Stable Diffusion's noise schedule."""

    def __init__(self, tokenizer: CLIPTokenizer):
        super().__init__()
        self.text = CLIPTextModel(CLIPTextConfig(**text_config(tokenizer, 128, 2)))
        self.unet = UNet2DConditionModel(
            sample_size=SIZE // 4,
            in_channels=48,
            out_channels=48,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(96, 128, 192),
            layers_per_block=1,
            cross_attention_dim=128,
            attention_head_dim=4,
            norm_num_groups=16,
        )

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        return self.unet(x_t, t, self.text(input_ids=ids).last_hidden_state).sample


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A small CLIP: 8x8 patches of 64x64 images, 4 layers; 2-layer text tower."""
    vision = {"image_size": SIZE, "patch_size": 8, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}
    return CLIPModel(CLIPConfig(text_config=text_config(tokenizer, 128, 2), vision_config=vision, projection_dim=128, logit_scale_init_value=2.6592))


CLIP_PREPROCESSING = {  # as transformers' CLIPImageProcessor writes it: 64 x 64, pixels in [-1, 1]
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "clip_sample": False}


# -- losses ---------------------------------------------------------------------------------------


class PriorLoss:
    """Mean squared error of v (Salimans & Ho, arXiv:2202.00512), t uniform over 0..999."""

    def __init__(self, tokenizer: CLIPTokenizer, data: Data, settings: Settings):
        self.data, self.settings, self.tokenizer = data, settings, tokenizer
        self.scheduler, self.vae = DDPMScheduler(**SCHEDULER), PatchAutoencoder()

    def texts(self, index: list[int]) -> list[str]:
        """Captions with view words; at times without the word, at times nothing."""
        u = torch.rand(2, len(index), generator=self.data.rng)
        texts = []
        for k, i in enumerate(index):
            caption, word = self.data.captions[i], self.data.words[i]
            full = caption if u[1, k] < self.settings.view_dropout else f"{caption}, {word} view"
            texts.append("" if u[0, k] < self.settings.caption_dropout else full)
        return texts

    def __call__(self, model: nn.Module) -> Tensor:
        image, index = self.data.batch(self.settings.batch)
        x = self.vae.encode(2 * image - 1)
        t = torch.randint(0, 1000, (len(x),), generator=self.data.rng)
        noise = torch.randn(x.shape, generator=self.data.rng)
        ids = tokens(self.tokenizer, self.texts(index))
        with torch.autocast("cpu", torch.bfloat16):
            v = model(self.scheduler.add_noise(x, noise, t), t, ids)
        return F.mse_loss(v.float(), self.scheduler.get_velocity(x, noise, t))


def hard_negative(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption with one attribute changed; never a held-out pair, or CLIP would learn that those are always wrong."""
    while is_held_out(other := one_changed(caption, rng)):
        pass
    return other


def one_changed(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption with one attribute changed, whichever."""
    pick = lambda options, but: [o for o in options if o != but][rng.integers(len(options) - 1)]  # noqa: E731
    change = {"kind": pick(list(NAMED) if caption.kind in NAMED else PRIMITIVES, caption.kind)}
    options = [change, {"colour": pick([*COLOURS], caption.colour)}]
    if caption.below is not None:
        options += [{"below": pick(PRIMITIVES, caption.below)}, {"below_colour": pick([*COLOURS], caption.below_colour)}]
    if caption.pattern != "plain":
        others = [c for c in COLOURS if c not in (caption.colour, caption.colour2)]
        options[1] = {"colour": others[rng.integers(len(others))]}
        options += [{"colour2": others[rng.integers(len(others))]}, {"pattern": pick(PATTERNS[1:], caption.pattern)}]
    return Caption(**{**asdict(caption), **options[rng.integers(len(options))]})


def colourless(caption: Caption) -> str:
    """The caption without its colours."""
    pattern = "" if caption.pattern == "plain" else f"{caption.pattern} "
    below = "" if caption.below is None else f" on a {caption.below}"
    return f"a {pattern}{caption.kind}{below}"


class ClipLoss:
    """Contrastive loss of CLIP (arXiv:2103.00020) with three hard negatives per caption, and true duplicates masked.

    Pictures are augmented as renders of splats and samples of a prior differ from ray tracings: blur,
    noise, brightness, a few pixels of shift and zoom. Captions carry no view word. A third of the pictures are
    gray with captions that name no colour, so that shapes are learnt apart from the colours they came in.
    """

    def __init__(self, tokenizer: CLIPTokenizer, data: Data, settings: Settings):
        self.tokenizer, self.data, self.settings = tokenizer, data, settings
        self.numpy_rng = np.random.default_rng(settings.seed + int(data.rng.initial_seed()))

    def augment(self, image: Tensor) -> Tensor:
        """Small changes that leave object and colour as they are."""
        rng, b = self.data.rng, len(image)
        zoom, shift = 0.85 + 0.35 * torch.rand(b, generator=rng), 0.12 * (2 * torch.rand(b, 2, generator=rng) - 1)
        theta = torch.zeros(b, 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom
        theta[:, :, 2] = shift
        image = F.grid_sample(image, F.affine_grid(theta, list(image.shape), False), padding_mode="border", align_corners=False)
        small = F.interpolate(F.interpolate(image, scale_factor=0.5, mode="area"), scale_factor=2.0, mode="bilinear")
        soft = (torch.rand(b, generator=rng) * (torch.rand(b, generator=rng) < 0.5)).view(-1, 1, 1, 1)
        image = image + soft * (small - image)
        gain = (0.88 + 0.24 * torch.rand(b, generator=rng)).view(-1, 1, 1, 1)
        noise = (0.1 * torch.rand(b, generator=rng) * (torch.rand(b, generator=rng) < 0.5)).view(-1, 1, 1, 1)
        return (image * gain + noise * torch.randn(image.shape, generator=rng)).clamp(0, 1)

    def __call__(self, model: nn.Module) -> Tensor:
        image, index = self.data.batch(self.settings.batch)
        captions = [self.data.captions[i] for i in index]
        gray = torch.rand(len(index), generator=self.data.rng) < self.settings.gray
        image = torch.where(gray.view(-1, 1, 1, 1), image.mean(1, keepdim=True), image)
        say = [colourless if g else str for g in gray.tolist()]
        parsed = [parse(c) for c in captions]
        captions = [s(c) for s, c in zip(say, parsed)]
        negatives = [s(hard_negative(c, self.numpy_rng)) for _ in range(3) for s, c in zip(say, parsed)]
        texts = captions + negatives
        with torch.autocast("cpu", torch.bfloat16):
            out = model(input_ids=tokens(self.tokenizer, texts), pixel_values=2 * self.augment(image) - 1)
        scale = model.logit_scale.exp().clamp(max=100)
        features, words = F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)
        logits = scale * features @ words.T  # (b, 4b)
        same = torch.tensor([[a == c for c in texts] for a in captions])
        same[torch.arange(len(captions)), torch.arange(len(captions))] = False
        logits = logits.masked_fill(same, -1e4)
        target = torch.arange(len(captions))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(captions)].T, target)) / 2


# -- the loop -------------------------------------------------------------------------------------


def averaged(model: nn.Module, ema: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's state with its parameters replaced by their running averages."""
    return {k: ema.get(k, v) for k, v in model.state_dict().items()}


def train(model: nn.Module, loss_of: PriorLoss | ClipLoss, settings: Settings, work: Path, minutes: float) -> None:
    """AdamW with cosine decay and an exponential moving average; resumes from its own checkpoint."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.lr, weight_decay=0.01, betas=(0.9, 0.99))
    ema = {k: p.detach().clone() for k, p in parameters.items()}
    folder, step, log = work / settings.model, 0, list(settings.log)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "state.json").exists():
        step, log = resume(folder, model, optimizer, ema, loss_of)
        print(f"resumed at step {step}", flush=True)
    began = saved = time.time()
    losses: list[float] = []
    while step < settings.steps and time.time() - began < 60 * minutes:
        warm, decay = min(1.0, (step + 1) / 200), 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * warm * (0.01 + 0.99 * decay)
        loss = loss_of(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        step += 1
        k = min(settings.ema, step / (step + 20))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in parameters.values()], 1 - k)
        losses.append(loss.item())
        if step % 100 == 0:
            log.append({"step": step, "loss": round(float(np.mean(losses[-100:])), 5)})
            print(f"{settings.model} step {step}/{settings.steps} loss {log[-1]['loss']:.4f} {(time.time() - began) / 60:.1f} min", flush=True)
        if time.time() - saved > 300:
            checkpoint(folder, model, optimizer, ema, step, log, settings, loss_of)
            saved = time.time()
    checkpoint(folder, model, optimizer, ema, step, log, settings, loss_of)
    print("done" if step >= settings.steps else "out of time; run again to go on", flush=True)


def checkpoint(folder: Path, model, optimizer, ema, step, log, settings: Settings, loss_of) -> None:
    """Everything needed to go on, as safetensors and JSON; each file replaced whole."""
    names = [k for k, _ in model.named_parameters()]
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v.contiguous() for k, v in ema.items()}
    for i, s in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{names[i]}.{key}": s[key].contiguous() for key in ("exp_avg", "exp_avg_sq", "step")}
    tensors["rng"] = loss_of.data.rng.get_state()
    save_file(tensors, folder / "state.new")
    os.replace(folder / "state.new", folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps({"step": step, "log": log, "settings": {**asdict(settings), "log": []}}))


def resume(folder: Path, model, optimizer, ema, loss_of) -> tuple[int, list[dict[str, float]]]:
    """Put a checkpoint back; returns its step and log."""
    tensors, meta = load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text())
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for k in ema:
        ema[k].copy_(tensors[f"ema.{k}"])
    state = optimizer.state_dict()
    for i, (name, _) in enumerate(model.named_parameters()):
        state["state"][i] = {key: tensors[f"adam.{name}.{key}"] for key in ("exp_avg", "exp_avg_sq", "step")}
    optimizer.load_state_dict(state)
    loss_of.data.rng.set_state(tensors["rng"])
    return meta["step"], meta["log"]


def export(work: Path, name: str, target: Path) -> None:
    """The averaged weights in float16, in the folder layout that the package's loaders read."""
    tokenizer = make_tokenizer(target / "tokenizer" if name == "prior" else target)
    tensors = load_file(work / name / "state.safetensors")
    meta = json.loads((work / name / "state.json").read_text())
    model: nn.Module = Prior(tokenizer) if name == "prior" else make_clip(tokenizer)
    state = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
    state |= {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
    model.load_state_dict(state)
    model.half()
    if name == "prior":
        model.unet.save_pretrained(target / "unet")
        model.text.save_pretrained(target / "text_encoder")
        PatchAutoencoder().save_pretrained(target / "vae")
        DDPMScheduler(**SCHEDULER).save_pretrained(target / "scheduler")
        index = {
            "_class_name": "StableDiffusionPipeline",
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],
            "vae": ["splatdistill", "PatchAutoencoder"],
        }
        (target / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    else:
        model.save_pretrained(target)
        (target / "preprocessor_config.json").write_text(json.dumps(CLIP_PREPROCESSING, indent=2) + "\n")
    called = "tiny" if name == "prior" else "tiny-clip"
    record = {"name": called, "model": name, "step": meta["step"], "settings": meta["settings"], "losses": meta["log"][::10] + meta["log"][-1:]}
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {target}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "prior", "clip", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop (resumably) after this long")
    parser.add_argument("--steps", type=int, default=0, help="length of the learning-rate schedule")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=Path, default=PACKAGE)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.what == "data":
        return render_data(args.work, args.pictures)
    if args.what == "export":
        export(args.work, "prior", args.target / "prior")
        return export(args.work, "clip", args.target / "clip")
    torch.manual_seed(0)
    steps, batch, lr = (7_500, 48, 8e-4) if args.what == "prior" else (5_000, 96, 1e-3)
    settings = Settings(args.what, args.steps or steps, args.batch or batch, lr, pictures=args.pictures)
    tokenizer = make_tokenizer(args.work / "tokenizer")
    rng = torch.Generator().manual_seed(settings.seed)
    data = Data(args.work, rng)
    if args.what == "prior":
        train(Prior(tokenizer), PriorLoss(tokenizer, data, settings), settings, args.work, args.minutes)
    else:
        train(make_clip(tokenizer), ClipLoss(tokenizer, data, settings), settings, args.work, args.minutes)


if __name__ == "__main__":
    main()
