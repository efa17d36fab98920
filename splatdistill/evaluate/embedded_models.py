"""Measure what the embedded models can do: tiny-clip on true pictures, the prior by its samples and its words for views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import VIEW_WORDS, ViewWords, orbit, with_view
from splatdistill.estimators import ImageTextScorer
from splatdistill.evaluate.janus import words_by_prior, words_by_truth
from splatdistill.evaluate.retrieval import Recognition, recognised
from splatdistill.priors import Condition, DiffusionPrior
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.random import normal
from splatdistill.priors.sampling import ddim, sample
from splatdistill.toybox import COLOURS, NAMED, Caption, is_held_out, render, sample_caption
from splatdistill.toybox.captions import plain_captions
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import RealCaption, real_captions, sample_words, truth_pack
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import Thing, symmetric
from splatdistill.toybox.triangles import rasterise
from splatdistill.toybox.world import DIRECTED, SIZE, VIEWS, WORDS, backgrounds, pictures


@dataclass(frozen=True)
class Retrieval:
    """Shares of pictures that are retrieved right among 50 captions, half of them hard negatives."""

    count: int
    caption: float  # the caption itself is nearest
    both: float  # the nearest caption names the right object and colours (the pattern may be wrong)
    object: float  # ... the right object
    colour: float  # ... the right colours

    @classmethod
    def of(cls, found: Sequence[Recognition]) -> "Retrieval":
        """Count over all pictures."""
        each = [(r.right, r.object_right & r.colour_right, r.object_right, r.colour_right) for r in found]
        shares = [torch.cat(v).float() for v in zip(*each, strict=True)]
        return cls(len(shares[0]), *(s.mean().item() for s in shares))


@dataclass(frozen=True)
class Obeyed:
    """Shares of pictures whose view is the one that was asked for, per word and in all."""

    count: int
    all: float
    words: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, asked: Sequence[str], seen: Sequence[str]) -> "Obeyed":
        """Count over pairs of what was asked and what is seen."""
        right = np.array([a == s for a, s in zip(asked, seen, strict=True)])
        words = tuple((w, float(right[[a == w for a in asked]].mean())) for w in dict.fromkeys((*VIEW_WORDS, *asked)) if w in asked)
        return cls(len(right), float(right.mean()), words)


Family = Literal["named", "primitive", "patterned", "stack", "real"]


def family(caption: Thing) -> Family:
    """Return which of the grammar's forms a caption has, or that it is of a real object."""
    if isinstance(caption, RealCaption):
        return "real"
    if caption.below is not None:
        return "stack"
    return "patterned" if caption.pattern != "plain" else "named" if caption.kind in NAMED else "primitive"


def true_pictures(
    count: int, seed: int, held_out: bool
) -> tuple[Float[Tensor, "count 3 h w"], list[Caption], list[str]]:
    """Make pictures as the models are shown them: random captions, views and backgrounds; and their view words."""
    shown = pictures(count, seed, held_out)
    rgba = torch.from_numpy(shown.rgba).permute(0, 3, 1, 2).float() / 255
    ground = backgrounds(count, torch.Generator().manual_seed(seed))[:, :, None, None]
    return rgba[:, :3] + (1 - rgba[:, 3:]) * ground, shown.captions, shown.words


RealSide = Literal["trained", "held out", "unseen objects"]


def true_real_pictures(world: PackedWorld, count: int, seed: int, side: RealSide) -> tuple[Float[Tensor, "count 3 h w"], list[RealCaption]]:
    """Make pictures of real objects out of a pack, as the models are shown them: in colours that were shown or were held out, of
    objects that were shown; or of objects that no training picture showed, in their own colours and in shown ones.
    """
    rng, views = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    unseen = side == "unseen objects"
    things = [o for o in world.objects if (o.name in SPLIT.instances_not_seen) == unseen and (side != "held out" or o.tinted)]
    kinds = sorted({o.kind for o in things})
    made, captions = [], []
    while len(captions) < count:
        kind = kinds[rng.integers(len(kinds))]
        own = [o for o in things if o.kind == kind]
        thing = own[rng.integers(len(own))]
        colours = [c for c in COLOURS if (c in SPLIT.colours_not_seen.get(kind, ())) == (side == "held out")] if thing.tinted else []
        coloured = colours and (side == "held out" or rng.random() >= 0.3)
        captions.append(RealCaption(kind, colours[rng.integers(len(colours))] if coloured else None))
        truth = rasterise([thing.mesh(captions[-1].colour)], VIEWS.sample(1, SIZE, SIZE, views), backgrounds(1, views), samples=2)
        made.append(truth.rgb)
    return torch.cat(made).clamp(0, 1), captions


def retrieval(
    scorer: ImageTextScorer, images: Float[Tensor, "b 3 h w"], captions: Sequence[Thing]
) -> dict[Family | Literal["all"], Retrieval]:
    """Retrieve every picture's caption; counted over all and by family."""
    found = [recognised(scorer, images[i : i + 1], c) for i, c in enumerate(captions)]
    families = {f: [r for r in found if family(r.caption) == f] for f in get_args(Family)}
    return {"all": Retrieval.of(found), **{f: Retrieval.of(own) for f, own in families.items() if own}}


def draw_captions(count: int, held_out: bool, seed: int) -> list[Caption]:
    """Return random captions from one side of the split, as the grammar draws them."""
    rng, drawn = np.random.default_rng(seed), []
    while len(drawn) < count:
        caption = sample_caption(rng)
        if is_held_out(caption) == held_out:
            drawn.append(caption)
    return drawn


def draw_real_captions(count: int, held_out: bool, seed: int) -> list[RealCaption]:
    """Return random captions of real objects from one side of the split; the shown side names no colour in three of ten."""
    rng, drawn = np.random.default_rng(seed), []
    while len(drawn) < count:
        caption = sample_words(rng)
        if caption.held_out == held_out:
            drawn.append(caption)
    return drawn


def fronted_real_captions(held_out: bool, seed: int, each: int = 1) -> list[RealCaption]:
    """Return, of every real object with a front that the package can draw, captions in `each` random colours from one side of the split."""
    rng, found = np.random.default_rng(seed), []
    for kind in dict.fromkeys(o.kind for o in truth_pack().objects):
        own = [c for c in real_captions() if c.kind == kind and c.colour and c.held_out == held_out]
        found += [own[i] for i in rng.permutation(len(own))[:each] if not symmetric(own[i])]
    return found


def fronted_captions(held_out: bool, seed: int, each: int = 1) -> list[Caption]:
    """Return, of every kind that has a front, captions in `each` random colours (or all there are) from one side of the split."""
    rng = np.random.default_rng(seed)
    pool = [c for c in plain_captions() if not c.symmetric and is_held_out(c) == held_out]
    kinds = {c.kind: [d for d in pool if d.kind == c.kind] for c in pool}
    return [options[i] for options in kinds.values() for i in rng.permutation(len(options))[:each]]


@dataclass(frozen=True)
class Samples:
    """Pictures that a prior made, and what was asked for: every caption from all views in turn."""

    images: Float[Tensor, "b 3 h w"]
    captions: tuple[Thing, ...]
    words: tuple[str, ...]


def draw_samples(
    prior: DiffusionPrior,
    captions: Sequence[Thing],
    rng: torch.Generator,
    scale: float = 5.0,
    steps: int = 50,
    batch: int = 32,
    words: Sequence[str] = VIEW_WORDS,
) -> Samples:
    """Return one sample per caption and word for a view, by DDIM."""
    asked = [(c, w) for c in captions for w in words]
    prompts = [with_view(str(c), w) for c, w in asked]
    made = [
        sample(prior, prompts[i : i + batch], scale, steps, rng=rng).float().cpu() for i in range(0, len(asked), batch)
    ]
    return Samples(torch.cat(made), tuple(c for c, _ in asked), tuple(w for _, w in asked))


def obeyed(samples: Samples, words: ViewWords = WORDS) -> Obeyed:
    """Count if samples of objects with a front show the view that was asked for, by the nearest true view."""
    asked, seen = [], []
    for caption in dict.fromkeys(c for c in samples.captions if not symmetric(c)):
        mine = [i for i, c in enumerate(samples.captions) if c == caption]
        asked += [samples.words[i] for i in mine]
        seen += words_by_truth(samples.images[mine], caption, words).best
    return Obeyed.of(asked, seen)


QUARTERS = ("front", "left side", "back", "right side")
"""Directions from which the cameras of a set look, at azimuths of 0, 90, 180 and 270 degrees."""


def quarters_seen(images: Float[Tensor, "b 3 h w"], caption: Thing) -> list[str]:
    """Return from which of the four directions the true object looks most like each picture."""
    found = words_by_truth(images, caption, DIRECTED)
    columns = [found.words.index(q) for q in QUARTERS]
    return [QUARTERS[k] for k in found.score.mean(1)[:, columns].argmax(1).tolist()]


def four_views(prior: DiffusionPrior, prompts: Sequence[str], rng: torch.Generator, scale: float = 5.0, steps: int = 50, batch: int = 8) -> Float[Tensor, "b 3 h w"]:
    """Return a set of four views, a quarter of a turn apart, of each prompt, by DDIM of a prior that sees four: told by cameras and by
    words of the view, both amplified where the prior was taught to do without.
    """
    made = []
    for some in (prompts[i : i + batch] for i in range(0, len(prompts), batch)):
        around = orbit([0.0, 90.0, 180.0, 270.0], 15.0, *VIEWS.middle, prior.image_size)
        texts = [Prompts(text, words=WORDS, camera_guidance=prior.camera_guidance).conditions(prior, around) for text in some]
        positive, negative = Condition.cat([t.positive for t in texts]), Condition.cat([t.negative for t in texts])
        with torch.no_grad():
            blank = prior.encode(torch.full((1, 3, prior.image_size, prior.image_size), 0.5))
            x = normal((4 * len(some), *blank.shape[1:]), rng, blank)
            made.append(prior.decode(ddim(prior, x, positive, negative, scale, steps)).clamp(0, 1).float().cpu())
    return torch.cat(made)


def draw_sets(prior: DiffusionPrior, captions: Sequence[Thing], rng: torch.Generator, scale: float = 5.0, steps: int = 50) -> Samples:
    """Return the `four_views` of each caption, with what was asked for."""
    return Samples(four_views(prior, [str(c) for c in captions], rng, scale, steps), tuple(c for c in captions for _ in QUARTERS), QUARTERS * len(captions))


def cameras_obeyed(samples: Samples) -> Obeyed:
    """Count if the pictures of sets show the side that their camera sees, of four a quarter of a turn apart."""
    seen: list[str] = []
    for i in range(0, len(samples.captions), len(QUARTERS)):
        seen += quarters_seen(samples.images[i : i + len(QUARTERS)], samples.captions[i])
    return Obeyed.of(samples.words, seen)


@dataclass(frozen=True)
class JudgeAccuracy:
    """Shares in which the judges of views name a true picture's view right."""

    by_truth: Obeyed  # of all four words
    by_prior: Obeyed  # of front and back


def judge_judges(prior: DiffusionPrior, captions: Sequence[Caption], rng: torch.Generator, views: int = 4) -> JudgeAccuracy:
    """Try both judges on true pictures of objects with a front."""
    asked, by_truth, sides, by_prior = [], [], [], []
    for caption in captions:
        cameras = VIEWS.sample(views, SIZE, SIZE, rng)
        asked += WORDS.words(cameras)
        shown = render([caption.parts()], cameras, backgrounds(views, rng)).rgb
        by_truth += words_by_truth(shown, caption).best
        ends = orbit([-30.0, 30.0, 150.0, 210.0], 15.0, *VIEWS.middle, SIZE)
        sides += WORDS.words(ends)
        by_prior += words_by_prior(prior, render([caption.parts()], ends).rgb, str(caption), rng).best
    return JudgeAccuracy(Obeyed.of(asked, by_truth), Obeyed.of(sides, by_prior))
