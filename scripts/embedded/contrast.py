"""Loss of tiny-clip and world-clip: pictures and captions that belong together, against captions that nearly do."""

from dataclasses import asdict, replace
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from embedded.losses import Data, Settings, autocast, draw
from embedded.networks import LENGTH
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, is_held_out
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.real import RealCaption, names_of
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import Thing, understood

FIELDS = ("kind", "colour", "pattern", "colour2", "below", "below_colour")  # of a caption
COLOUR_FIELDS = frozenset({"colour", "colour2", "below_colour"})
SHARES = {"stack": 0.3, "patterned": 0.2, "plain": 0.5, "real": 1.2}  # the harder captions more often than the grammar draws them
Said = dict[str, str | None]  # the words of a caption by field; None where there is none or it is left out


def form(caption: Thing) -> str:
    """Return which of the forms a caption has: one of the grammar's three, or a real object's."""
    if isinstance(caption, RealCaption):
        return "real"
    return "stack" if caption.below else "patterned" if caption.pattern != "plain" else "plain"


def leave_out(caption: Thing, names: frozenset[str] = frozenset()) -> Said:
    """Return the words of a caption without those named; a plain pattern is no word."""
    known = asdict(caption)
    return {k: None if k in names or known.get(k) == "plain" else known.get(k) for k in FIELDS}


def some_left(caption: Thing, names: frozenset[str]) -> Said:
    """Return the words of a caption without those named; with its object where nothing else is left."""
    said = leave_out(caption, names)
    return said if any(said.values()) else leave_out(caption, names - {"kind"})


def sentence(said: Said, form: str) -> str:
    """Return the words in the order in which captions have them."""
    if form == "real" and said["kind"]:
        return str(RealCaption(said["kind"], said["colour"]))
    colours = " and ".join(c for c in (said["colour"], said["colour2"]) if c)
    top = with_article(said["pattern"], colours, said["kind"])
    return top if form != "stack" else f"{top} on {with_article(said['below_colour'], said['below'])}"


def with_article(*words: str | None) -> str:
    """Return the words that there are, after "a" or "an"; an article alone where there are none."""
    told = " ".join(w for w in words if w)
    return f"{'an' if told[:1] in tuple('aeiou') else 'a'} {told}".strip()


def one_changed(caption: Thing, said: Said, rng: np.random.Generator) -> Said:
    """Return the same words with one of them changed."""
    options = alternatives(caption, said, rng)
    there = [k for k in FIELDS if said[k] is not None]
    name = there[rng.integers(len(there))]
    true = names_of(caption.kind) if name == "kind" else ()
    others = [o for o in options[name] if o != said[name] and o not in true]
    return {**said, name: others[rng.integers(len(others))]}


def alternatives(caption: Thing, said: Said, rng: np.random.Generator) -> dict[str, list[str]]:
    """Return what each word of a caption could be instead: of a coloured real object the kinds that take colours."""
    if isinstance(caption, RealCaption):
        kinds = [k for k, tinted in SPLIT.kinds.items() if tinted or not said["colour"]]
        return {"kind": kinds, "colour": [c for c in COLOURS if c != caption.colour]}
    free = [c for c in COLOURS if c not in (caption.colour, caption.colour2)]
    kinds = [*PRIMITIVES] if caption.below or caption.pattern != "plain" else [*NAMED, *PRIMITIVES]
    if caption.kind in NAMED and rng.random() < 0.7:
        kinds = [*NAMED]
    return {"kind": kinds, "colour": free, "colour2": free, "pattern": [*PATTERNS[1:]], "below": [*PRIMITIVES], "below_colour": [*COLOURS]}


def hard_negative(caption: Thing, said: Said, rng: np.random.Generator) -> Said:
    """Return the words with one changed, never to a held-out pair, or CLIP would learn that those are always wrong."""
    while True:
        other = one_changed(caption, said, rng)
        changed = replace(caption, **{k: v for k, v in other.items() if v is not None})
        if not (changed.held_out if isinstance(changed, RealCaption) else is_held_out(changed)):
            return other


def numbers(said: Said) -> list[int]:
    """Return the words beside the object's as numbers, -1 for none."""
    return [-1 if (word := said[k]) is None else crc32(word.encode()) for k in FIELDS[1:]]


def may_be(shown: list[Thing], told: list[Said]) -> Tensor:
    """Return (shown, told), True where the name that is told, or none, is one of the object that is shown."""
    known = [names_of(c.kind) for c in shown]
    return torch.tensor([[t["kind"] is None or t["kind"] in names for t in told] for names in known])


class ClipLoss:
    """Contrastive loss of CLIP (arXiv:2103.00020) with three hard negatives per caption.

    Pictures are augmented as renders of splats and samples of a prior differ from ray tracings: blur, noise,
    brightness, a few pixels of shift and zoom. Captions carry no view word. So that words are learnt apart from
    those that they came with (red mushrooms are never shown, red things and mushrooms are), some pictures are
    gray with captions that name no colour, and half of the other captions lack some words. A caption that is true of a
    picture besides its own is masked; a real object in its own colours may be of any colour.
    """

    def __init__(self, tokenizer: CLIPTokenizer, data: Data, settings: Settings):
        self.tokenizer, self.data, self.settings = tokenizer, data, settings
        parsed = {c: understood(c) for c in set(data.captions)}
        self.captions = [parsed[c] for c in data.captions]
        forms = [form(c) for c in self.captions]
        each = {f: SHARES[f] / forms.count(f) for f in {*forms}}
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
        own = [some_left(c, self.unsaid(g, rng)) for c, g in zip(captions, gray.tolist())]
        said = own + [hard_negative(c, s, rng) for _ in range(3) for c, s in zip(captions, own)]
        forms = [form(c) for c in captions]
        told_as = [sentence(s, f) for s, f in zip(said, forms * 4)]
        ids = self.tokenizer(told_as, padding=True, max_length=LENGTH, truncation=True, return_tensors="pt").input_ids  # what follows the end is not read
        with autocast():
            out = model(input_ids=ids, pixel_values=2 * self.augment(image) - 1)
        scale = model.logit_scale.exp().clamp(max=100)
        features, words = F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)
        logits = scale * features @ words.T  # (b, 4b)
        shown = torch.tensor([numbers(leave_out(c, COLOUR_FIELDS if g else frozenset())) for c, g in zip(captions, gray.tolist())])[:, None]
        told = torch.tensor([numbers(s) for s in said])
        single = [f.replace("real", "plain") for f in forms]  # a real couch and a plain sofa may be told of each other
        alike = torch.tensor([[a == b for b in single * 4] for a in single])
        true = alike & may_be(captions, said) & ((told == -1) | (shown == -1) | (told == shown)).all(-1)
        target = torch.arange(len(captions))
        true[target, target] = False
        logits = logits.masked_fill(true, -1e4)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(captions)].T, target)) / 2
