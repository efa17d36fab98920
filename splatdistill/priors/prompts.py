"""A prompt and the texts made from it: with the word for each view, negative, empty."""

from dataclasses import dataclass, replace
from typing import Literal

from splatdistill.cameras import Cameras, ViewWords, with_view
from splatdistill.errors import UserError
from splatdistill.priors import Condition, Conditions, DiffusionPrior
from splatdistill.priors.perpneg import perp_neg


@dataclass(frozen=True)
class Prompts:
    """Prompt, negative prompt, and the words for the views."""

    prompt: str
    """Description of the object."""
    negative: str = ""
    """Negative prompt, from which classifier-free guidance moves away; empty is the null prompt."""
    words: ViewWords | None = ViewWords()
    """View words, of which each camera adds one to the prompt; None adds none."""
    perp_neg: bool = False
    """Blend the words as the camera turns, and move away from the other views' words (arXiv:2304.04968); not without
    words.
    """

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UserError('The prompt is empty. Expected a description of one object, such as --prompt "a red mushroom".')

    def texts(self, cameras: Cameras) -> list[str]:
        """Return the prompt with the view word of each camera."""
        words = self.words.phrases(cameras) if self.words else [None] * len(cameras)
        return [with_view(self.prompt, word) for word in words]

    def conditions(self, prior: DiffusionPrior, cameras: Cameras) -> Conditions:
        """Return the conditions for one batch of views. Each distinct text is embedded once in the prior's lifetime.

        Raises UserError where the prior wants a picture, which a prompt cannot give.
        """
        batch, texts = len(cameras), self.texts(cameras)
        positive, perp = prior.embed(texts), None
        if self.words and (self.perp_neg or self.words.blend):
            positive, perp = perp_neg(prior, self.prompt, self.words, cameras)
        if perp is not None and not self.perp_neg:
            perp = None  # blended, and moved away from nothing
        if perp is not None:
            perp = replace(perp, first=complete(perp.first, prior, cameras), second=complete(perp.second, prior, cameras))
        return Conditions(
            positive=complete(positive, prior, cameras),
            negative=complete(prior.embed([negative_of(self.negative, text) for text in texts]), prior, cameras),
            null=complete(prior.embed([""] * batch), prior, cameras),
            plain=complete(prior.embed([self.prompt] * batch), prior, cameras),
            cameras=cameras,
            texts=tuple(texts),
            perp=perp,
        )


def negative_of(negative: str, prompt: str) -> str:
    """Return a negative prompt with {prompt} replaced by the view's own prompt."""
    return negative.replace("{prompt}", prompt)


def perp_neg_of(asked: Literal["auto", "on", "off"], prior: DiffusionPrior) -> bool:
    """Return whether Perp-Neg is on; "auto" takes the prior's default."""
    return prior.perp_neg if asked == "auto" else asked == "on"


def complete(condition: Condition, prior: DiffusionPrior, cameras: Cameras) -> Condition:
    """Return a condition made of text with the cameras added, for a prior that wants them; UserError where it wants still more."""
    if "camera" in prior.wants:
        condition = replace(condition, camera=cameras.camera_to_world.to(prior.device, prior.dtype))
    if lacking := sorted(prior.wants - condition.parts):
        raise UserError(f"The prior {prior.name} also wants {', '.join(lacking)}, which a prompt alone does not give. Take another --prior.")
    return condition
