"""What scripts/train_tiny.py trains on and towards: random batches of the toybox, and the two losses."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from tiny_models import SCHEDULER, tokens
from torch import Tensor, nn
from transformers import CLIPTokenizer

from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, is_held_out, parse
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.world import backgrounds


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
