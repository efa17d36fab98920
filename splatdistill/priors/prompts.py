"""A prompt and the texts made from it: with the word for each view, negative, empty."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras, ViewWords, with_view
from splatdistill.errors import UserError
from splatdistill.priors import Condition, Conditions, DiffusionPrior
from splatdistill.priors.perpneg import perp_neg
from splatdistill.priors.random import sent

Switch = Literal["auto", "on", "off"]


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
    camera_guidance: bool = False
    """Leave the cameras unknown in the branches that guidance moves away from, so that it amplifies them as it does the words."""
    picture: Float[Tensor, "4 h w"] | None = None
    """Picture of the object, premultiplied, and its opacity, in [0, 1]; a prior that takes one is shown it."""
    picture_camera: Cameras | None = None
    """The picture's camera, for priors that are told where a view is from there."""
    picture_kept: bool = False
    """Show the picture in the negative branch of classifier-free guidance too, so that only the words are amplified."""

    def __post_init__(self) -> None:
        if not self.prompt.strip() and self.picture is None:
            raise UserError('The prompt is empty. Expected a description of one object, such as --prompt "a red mushroom".')

    def texts(self, cameras: Cameras) -> list[str]:
        """Return the prompt with the view word of each camera."""
        words = self.words.phrases(cameras) if self.words and self.prompt.strip() else [None] * len(cameras)
        return [with_view(self.prompt, word) for word in words]

    def conditions(self, prior: DiffusionPrior, cameras: Cameras, behind: Float[Tensor, "b 3"] | None = None) -> Conditions:
        """Return the conditions for one batch of views. Each distinct text is embedded once in the prior's lifetime.

        behind: colours behind the views, put behind the picture too; white where not given. The empty prompt is without picture.
        Raises UserError where the prior wants a picture, which a prompt cannot give.
        """
        batch, texts = len(cameras), self.texts(cameras)
        positive, perp = prior.embed(texts), None
        if self.words and self.prompt.strip() and (self.perp_neg or self.words.blend):
            positive, perp = perp_neg(prior, self.prompt, self.words, cameras)
        if perp is not None and not self.perp_neg:
            perp = None  # blended, and moved away from nothing
        if perp is not None:
            perp = replace(perp, first=complete(perp.first, prior, cameras), second=complete(perp.second, prior, cameras))
        known = not self.camera_guidance
        told = Conditions(
            positive=complete(positive, prior, cameras),
            negative=complete(prior.embed([negative_of(self.negative, text) for text in texts]), prior, cameras, known),
            null=complete(prior.embed([""] * batch), prior, cameras, known),
            plain=complete(prior.embed([self.prompt] * batch), prior, cameras, known),
            cameras=cameras,
            texts=tuple(texts),
            perp=perp,
        )
        if self.picture is None and prior.needs_picture:
            raise UserError(f"the prior {prior.name} makes views of a picture; expected one: give --from-image FILE")
        return told if self.picture is None or not prior.takes_picture else self._shown(told, prior, behind)

    def _shown(self, told: Conditions, prior: DiffusionPrior, behind: Float[Tensor, "b 3"] | None) -> Conditions:
        """Return conditions with the picture, over the colours behind the views, in all but the empty prompt and (unless it is
        kept there) the negative one.
        """
        assert self.picture is not None
        size = (prior.image_size, prior.image_size)
        rgba = F.interpolate(self.picture[None].to(prior.device, prior.dtype), size=size, mode="bilinear", antialias=True, align_corners=False)
        behind = rgba.new_ones(len(told), 3) if behind is None or prior.needs_picture else behind.to(rgba)
        image = rgba[:, :3] + (1 - rgba[:, 3:]) * behind[:, :, None, None]

        place = None if self.picture_camera is None else self.picture_camera.camera_to_world.to(prior.device, prior.dtype).expand(len(told), 4, 4)

        def seen(condition: Condition) -> Condition:
            return replace(condition, image=image, image_camera=place)

        perp = told.perp and replace(told.perp, first=seen(told.perp.first), second=seen(told.perp.second))
        negative = seen(told.negative) if self.picture_kept else told.negative
        return replace(told, positive=seen(told.positive), negative=negative, plain=seen(told.plain), perp=perp)


def negative_of(negative: str, prompt: str) -> str:
    """Return a negative prompt with {prompt} replaced by the view's own prompt."""
    return negative.replace("{prompt}", prompt)


def switches(prior: DiffusionPrior, perp_neg: Switch, camera_guidance: Switch) -> tuple[bool, bool]:
    """Return whether each is on; "auto" takes the prior's own default."""
    own = (perp_neg, prior.perp_neg), (camera_guidance, prior.camera_guidance)
    first, second = (default if asked == "auto" else asked == "on" for asked, default in own)
    return first, second


def complete(condition: Condition, prior: DiffusionPrior, cameras: Cameras, known: bool = True) -> Condition:
    """Return a condition made of text with the cameras added, as zeros where they are not to be known, for a prior that wants
    them; UserError where it wants still more.
    """
    if "camera" in prior.wants:
        camera = sent(cameras.camera_to_world, prior.device, prior.dtype)
        condition = replace(condition, camera=camera if known else torch.zeros_like(camera))
    if lacking := sorted(prior.wants - condition.parts):
        raise UserError(f"The prior {prior.name} also wants {', '.join(lacking)}, which a prompt alone does not give. Take another --prior.")
    return condition
