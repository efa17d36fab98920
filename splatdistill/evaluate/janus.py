"""View words of single pictures, and second fronts (Janus faces) of whole objects.

Two judges. The truth: the toybox's object is rendered from all around, and the picture belongs to the view that
it is nearest to. The prior: the word under which its denoising error is lowest, a diffusion classifier (Li et
al., "Your diffusion model is secretly a zero-shot classifier", arXiv:2303.16203). For samples of the prior only the
first is independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import DIRECTIONS, VIEW_WORDS, ViewWords, orbit, with_view
from splatdistill.priors import DiffusionPrior, Query
from splatdistill.toybox.things import Thing, draw, symmetric
from splatdistill.toybox.world import SIZE, VIEWS, WORDS

AZIMUTHS, ELEVATIONS = range(0, 360, 10), range(-15, 76, 10)  # no grid point on a boundary between words
BEHIND = orbit([150.0, 180.0, 210.0] * 2, [5.0] * 3 + [25.0] * 3, *VIEWS.middle, SIZE)


@dataclass(frozen=True)
class WordScores:
    """Fit of each view word to each picture, as n estimates; higher is better."""

    words: tuple[str, ...]
    score: Float[Tensor, "b n w"]

    @property
    def best(self) -> list[str]:
        """Return the word that fits each picture best."""
        return [self.words[i] for i in self.score.mean(1).argmax(1).tolist()]

    def margin(self, word: str, over: str) -> Float[Tensor, "b n"]:
        """Return by how much one word fits better than another."""
        return self.score[..., self.words.index(word)] - self.score[..., self.words.index(over)]


def backdrop(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3"]:
    """Return the colour behind the object: the median of the pixels at the picture's border."""
    edge = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], -1)
    return edge.median(-1).values


def words_by_truth(images: Float[Tensor, "b 3 h w"], caption: Thing, words: ViewWords = WORDS) -> WordScores:
    """Return the highest PSNR (dB, at half the models' resolution, the picture's own background behind both) between a
    picture and the true object seen from the directions that a word names: every 10 degrees, from three
    distances within the models' range. `words` may tell left from right.
    """
    size = SIZE // 2
    small = F.interpolate(images, (size, size), mode="area")
    distances = torch.linspace(*VIEWS.distance, 3).tolist()
    views = [(float(a), float(e), d) for a, e, d in product(AZIMUTHS, ELEVATIONS, distances)]
    azimuth, elevation, distance = (list(v) for v in zip(*views, strict=True))
    truth = draw(caption, orbit(azimuth, elevation, distance, VIEWS.middle[1], size), torch.zeros(len(views), 3), samples=1)
    named = [words.phrase(a, e) for a, e, _ in views]
    options = DIRECTIONS if words.left_right else VIEW_WORDS
    options += tuple(f"overhead {d}" for d in DIRECTIONS) if words.left_right else ()
    score = torch.empty(len(images), 1, len(options))
    for i, ground in enumerate(backdrop(images)):
        shown = truth.rgb + (1 - truth.alpha) * ground[:, None, None]
        error = (shown - small[i]).square().mean((1, 2, 3)).clamp(min=1e-10)
        for k, word in enumerate(options):
            score[i, 0, k] = -10 * error[torch.tensor([n == word for n in named])].min().log10()
    return WordScores(options, score)


def words_by_prior(
    prior: DiffusionPrior,
    images: Float[Tensor, "b 3 h w"],
    prompt: str,
    rng: torch.Generator,
    words: Sequence[str] = ("front", "back"),
    times: Sequence[float] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    draws: int = 2,
) -> WordScores:
    """Return minus the mean squared error of the noise predicted under "prompt, word view", for `draws` noises at each
    of `times`. All words get the same noises, so that they differ by their texts alone.
    """
    with torch.no_grad():
        size = (prior.image_size,) * 2
        shown = images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)
        x = prior.encode(shown.to(prior.device, prior.dtype)).repeat_interleave(len(times) * draws, 0)
    t = torch.tensor(times, device=prior.device, dtype=prior.dtype).repeat(len(images) * draws)
    noise = torch.randn(x.shape, generator=rng, device=rng.device).to(x)
    alpha, sigma = prior.schedule(t)
    texts = [prior.embed([with_view(prompt, word)] * len(x)) for word in words]
    answers = prior.answer([Query(alpha * x + sigma * noise, t, text) for text in texts])
    error = torch.stack([(eps - noise).square().flatten(1).mean(1).float() for eps in answers], 1)
    return WordScores(tuple(words), -error.view(len(images), -1, len(words)).cpu())


@dataclass(frozen=True)
class Janus:
    """Judgement whether an object looks like its front from behind."""

    by_truth: float  # dB by which the true object's back is nearer to it than its front
    by_prior: float | None  # standard errors by which "back view" fits better than "front view"

    @property
    def there(self) -> bool:
        """Return True if the front is nearer than the back, or the prior prefers the word for the front beyond doubt: a
        weak prior is undecided about small details, and says so by less than two standard errors.
        """
        return self.by_truth <= 0 or (self.by_prior is not None and self.by_prior < -2)


def detect_janus(
    behind: Float[Tensor, "b 3 h w"], caption: Thing, prior: DiffusionPrior | None, rng: torch.Generator
) -> Janus | None:
    """Judge views from behind (the cameras `BEHIND`, on a plain background), all of one object together; None for
    objects whose front and back are the same. Without a prior the truth judges alone.
    """
    if symmetric(caption):
        return None
    by_truth = words_by_truth(behind, caption).margin("back", "front").mean().item()
    if prior is None:
        return Janus(by_truth, None)
    margin = words_by_prior(prior, behind, str(caption), rng).margin("back", "front").flatten()
    return Janus(by_truth, (margin.mean() / margin.std() * len(margin) ** 0.5).item())
