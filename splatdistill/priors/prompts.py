"""A prompt and the texts made from it: with the word for each view, negative, empty."""

from dataclasses import dataclass

from splatdistill.cameras import Cameras, ViewWords, with_view
from splatdistill.errors import UserError
from splatdistill.priors import Conditions, DiffusionPrior
from splatdistill.priors.perpneg import perp_neg


@dataclass(frozen=True)
class Prompts:
    """What to make, and what to keep away from."""

    prompt: str
    """What to make."""
    negative: str = ""
    """What classifier-free guidance moves away from; empty is the null prompt."""
    words: ViewWords | None = ViewWords()
    """Which view word each camera adds to the prompt; None adds none."""
    perp_neg: bool = False
    """Blend the words as the camera turns, and move away from the other views' words (arXiv:2304.04968); not without
    words.
    """

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise UserError('The prompt is empty. Expected a description of one object, such as "a red mushroom".')

    def texts(self, cameras: Cameras) -> list[str]:
        """The prompt as each camera's view reads it."""
        words = self.words.phrases(cameras) if self.words else [None] * len(cameras)
        return [with_view(self.prompt, word) for word in words]

    def conditions(self, prior: DiffusionPrior, cameras: Cameras) -> Conditions:
        """The embeddings for one batch of views. Each distinct text is embedded once in the prior's lifetime."""
        batch, texts = len(cameras), self.texts(cameras)
        positive, perp = prior.embed(texts), None
        if self.perp_neg and self.words:
            positive, perp = perp_neg(prior, self.prompt, self.words, cameras)
        return Conditions(
            positive=positive,
            negative=prior.embed([self.negative] * batch),
            null=prior.embed([""] * batch),
            plain=prior.embed([self.prompt] * batch),
            cameras=cameras,
            texts=tuple(texts),
            perp=perp,
        )
