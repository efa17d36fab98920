"""Loss of tiny-clip: pictures and captions that belong together, against captions that nearly do."""

from dataclasses import asdict
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from embedded.losses import Data, Settings, autocast, draw
from embedded.networks import tokens
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, is_held_out, parse
from splatdistill.toybox.parts import PATTERNS

FIELDS = ("kind", "colour", "pattern", "colour2", "below", "below_colour")  # of a caption
COLOUR_FIELDS = frozenset({"colour", "colour2", "below_colour"})
SHARES = {"stack": 0.3, "patterned": 0.2, "plain": 0.5}  # the harder captions more often than the grammar draws them
Said = dict[str, str | None]  # the words of a caption by field; None where there is none or it is left out


def form(caption: Caption) -> str:
    """Return which of the grammar's forms a caption has."""
    return "stack" if caption.below else "patterned" if caption.pattern != "plain" else "plain"


def leave_out(caption: Caption, names: frozenset[str] = frozenset()) -> Said:
    """Return the words of a caption without those named; a plain pattern is no word."""
    return {k: None if k in names or v == "plain" else v for k, v in asdict(caption).items()}


def sentence(said: Said, form: str) -> str:
    """Return the words in the order in which captions have them."""
    colours = " and ".join(c for c in (said["colour"], said["colour2"]) if c)
    top = " ".join(w for w in ("a", said["pattern"], colours, said["kind"]) if w)
    return top if form != "stack" else f"{top} on {' '.join(w for w in ('a', said['below_colour'], said['below']) if w)}"


def one_changed(caption: Caption, said: Said, rng: np.random.Generator) -> Said:
    """Return the same words with one of them changed."""
    free = [c for c in COLOURS if c not in (caption.colour, caption.colour2)]
    kinds = [*PRIMITIVES] if caption.below or caption.pattern != "plain" else [*NAMED, *PRIMITIVES]
    if caption.kind in NAMED and rng.random() < 0.7:
        kinds = [*NAMED]
    options = {"kind": kinds, "colour": free, "colour2": free, "pattern": PATTERNS[1:], "below": PRIMITIVES, "below_colour": [*COLOURS]}
    there = [k for k in FIELDS if said[k] is not None]
    name = there[rng.integers(len(there))]
    others = [o for o in options[name] if o != said[name]]
    return {**said, name: others[rng.integers(len(others))]}


def hard_negative(caption: Caption, said: Said, rng: np.random.Generator) -> Said:
    """Return the words with one changed, never to a held-out pair, or CLIP would learn that those are always wrong."""
    while True:
        other = one_changed(caption, said, rng)
        if not is_held_out(Caption(**{**asdict(caption), **{k: v for k, v in other.items() if v is not None}})):
            return other


def numbers(said: Said) -> list[int]:
    """Return the words as numbers, -1 for none."""
    return [-1 if (word := said[k]) is None else crc32(word.encode()) for k in FIELDS]


class ClipLoss:
    """Contrastive loss of CLIP (arXiv:2103.00020) with three hard negatives per caption.

    Pictures are augmented as renders of splats and samples of a prior differ from ray tracings: blur, noise,
    brightness, a few pixels of shift and zoom. Captions carry no view word. So that words are learnt apart from
    those that they came with (red mushrooms are never shown, red things and mushrooms are), some pictures are
    gray with captions that name no colour, and half of the other captions lack some words. A caption that is true of a
    picture besides its own is masked.
    """

    def __init__(self, tokenizer: CLIPTokenizer, data: Data, settings: Settings):
        self.tokenizer, self.data, self.settings = tokenizer, data, settings
        parsed = {c: parse(c) for c in set(data.captions)}
        self.captions = [parsed[c] for c in data.captions]
        forms = [form(c) for c in self.captions]
        each = {f: SHARES[f] / forms.count(f) for f in SHARES}
        self.cumulative = torch.tensor([each[f] for f in forms], dtype=torch.float64).cumsum(0)

    @staticmethod
    def unsaid(gray: bool, rng: np.random.Generator) -> frozenset[str]:
        """Return the names of the words that a caption leaves out; object or colour stays."""
        if gray:
            return COLOUR_FIELDS
        if rng.random() < 0.5:
            return frozenset()
        names = frozenset(k for k in FIELDS if rng.random() < 0.4)
        return names - {"kind"} if {"kind", "colour"} <= names else names

    def augment(self, image: Tensor) -> Tensor:
        """Return an image with small changes that keep object and colour."""
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
        index = draw(self.cumulative, self.settings.batch, self.data.rng)
        image, captions = self.data.pictures(index), [self.captions[i] for i in index.tolist()]
        gray = torch.rand(len(index), generator=self.data.rng) < self.settings.gray
        image = torch.where(gray.view(-1, 1, 1, 1), image.mean(1, keepdim=True), image)
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=self.data.rng)))  # which checkpoints keep
        own = [leave_out(c, self.unsaid(g, rng)) for c, g in zip(captions, gray.tolist())]
        said = own + [hard_negative(c, s, rng) for _ in range(3) for c, s in zip(captions, own)]
        forms = [form(c) for c in captions]
        ids = tokens(self.tokenizer, [sentence(s, f) for s, f in zip(said, forms * 4)])
        with autocast():
            out = model(input_ids=ids, pixel_values=2 * self.augment(image) - 1)
        scale = model.logit_scale.exp().clamp(max=100)
        features, words = F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)
        logits = scale * features @ words.T  # (b, 4b)
        shown = torch.tensor([numbers(leave_out(c, COLOUR_FIELDS if g else frozenset())) for c, g in zip(captions, gray.tolist())])[:, None]
        told = torch.tensor([numbers(s) for s in said])
        alike = torch.tensor([[a == b for b in forms * 4] for a in forms])
        true = alike & ((told == -1) | (shown == -1) | (told == shown)).all(-1)
        target = torch.arange(len(captions))
        true[target, target] = False
        logits = logits.masked_fill(true, -1e4)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(captions)].T, target)) / 2
