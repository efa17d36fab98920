"""Baseline functions of Stein score distillation: one number per view, phi(t, theta, x_t, c) = -strength * loss.

Each loss compares what a network sees in x_t, or in decode(x_t), with what was rendered, which is a constant here, or with
the prompt. Differentiable in x_t; how far they depend on it is what makes them useful.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.guidance.discriminator import Discriminator
from splatdistill.guidance.types import View
from splatdistill.priors import DiffusionPrior

if TYPE_CHECKING:
    from splatdistill.estimators import ClipScorer, Geometry, GeometryEstimator
    from splatdistill.priors.zero123 import Zero123Prior

BaselineName = Literal["depth", "normal", "segment", "clip", "zero123", "discriminator"]
SHAPES: tuple[BaselineName, ...] = ("depth", "normal", "segment")


@dataclass(frozen=True)
class Seen:
    """Noisy latents as baselines see them."""

    view: View
    x_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]

    @cached_property
    def picture(self) -> Float[Tensor, "b *d"]:
        """Return the decoded x_t, differentiable in it."""
        return self.view.prior.decode(self.x_t)


Losses = Callable[[Seen], tuple[Tensor, ...]]
"""Function of noisy latents that returns one loss per baseline, (b,) each."""


@dataclass(frozen=True)
class RenderMaps:
    """Maps of a render, in the resolution of the decoded picture, without gradient history."""

    alpha: Float[Tensor, "b 1 h w"]
    inverse_depth: Float[Tensor, "b 1 h w"]
    normal: Float[Tensor, "b 3 h w"]  # camera axes

    @classmethod
    def of(cls, view: View, size: tuple[int, int], rendered_normals: bool = False) -> "RenderMaps":
        """Return the maps of a view's render, with its depth's normals or its splats'; UserError where there is no render."""
        out = view.render
        if out is None:
            raise UserError(
                "The baselines depth, normal and segment compare with a rendered scene, and there is none in two "
                "dimensions. Take --guidance.baselines clip, or none."
            )
        with torch.no_grad():
            world = out.normal if rendered_normals and out.normal is not None else out.normal_from_depth()
            normal = torch.einsum("bij,bjhw->bihw", out.cameras.world_to_camera[:, :3, :3].to(world), world)
            maps = torch.cat([torch.ones_like(out.alpha), 1 / out.depth.clamp(min=0.01), normal], 1) * out.alpha
            if maps.shape[-2:] != size:  # premultiplied, so that what is not covered does not bleed in
                maps = F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)
            alpha = maps[:, :1]
            return cls(alpha, maps[:, 1:2] / alpha.clamp(min=1e-6), maps[:, 2:])


def geometry_loss(name: BaselineName, seen: RenderMaps, told: "Geometry") -> Float[Tensor, " b"]:
    """Return one of SteinDreamer's losses, over pixels weighted by the rendered alpha: depth, 1 - Pearson's correlation of inverse
    depths; normal, 1 - mean cosine, where a network that tells only depth gives normals by the derivatives of inverse
    depth, of the render's too. segment, ours: 1 - Dice's overlap of rendered alpha and foreground.
    """
    from splatdistill.estimators.geometry import correlation, cosine, normal_of_inverse_depth

    match name:
        case "depth":
            assert told.inverse_depth is not None
            return 1 - correlation(seen.inverse_depth, told.inverse_depth, seen.alpha)
        case "normal":
            if told.normal is not None:
                return 1 - cosine(seen.normal, told.normal, seen.alpha)
            assert told.inverse_depth is not None
            mine, theirs = (normal_of_inverse_depth(d, seen.alpha) for d in (seen.inverse_depth, told.inverse_depth))
            return 1 - cosine(mine, theirs, seen.alpha)
        case _:
            assert told.foreground is not None
            a, f = seen.alpha, told.foreground
            return 1 - 2 * (a * f).sum((1, 2, 3)) / (a * a + f * f).sum((1, 2, 3)).clamp(min=1e-8)


@dataclass(frozen=True)
class Baselines:
    """Baselines of SSD and the networks that they ask."""

    names: tuple[BaselineName, ...]
    network: "GeometryEstimator | None" = None
    scorer: "ClipScorer | None" = None
    zero123: "Zero123Prior | None" = None
    discriminator: Discriminator | None = None
    rendered_normals: bool = False

    def __call__(self, noisy: Seen) -> tuple[Float[Tensor, " b"], ...]:
        """Return one loss per name."""
        shape = self._shape(noisy)
        return tuple(shape(name) if name in SHAPES else self._loss(name, noisy) for name in self.names)

    def _shape(self, noisy: Seen) -> Callable[[BaselineName], Tensor]:
        """Return the losses of the shape by name; the network looks once for all of them."""
        if self.network is None:
            return lambda name: noisy.x_t.new_zeros(len(noisy.x_t))
        picture = noisy.picture
        seen, told = RenderMaps.of(noisy.view, (picture.shape[-2], picture.shape[-1]), self.rendered_normals), self.network(picture)
        return lambda name: geometry_loss(name, seen, told)

    def _loss(self, name: BaselineName, noisy: Seen) -> Float[Tensor, " b"]:
        """Return the loss of a baseline that is not about shape: clip, 1 - the cosine to the prompt; zero123, see view_baseline.py; discriminator,
        how far x_t is from being taken for the prior's own, -log sigmoid(logit).
        """
        match name:
            case "clip":
                assert self.scorer is not None
                return 1 - (self.scorer.image_features(noisy.picture) * self.scorer.text_features(noisy.view.text.texts)).sum(1)
            case "zero123":
                from splatdistill.guidance.view_baseline import view_loss

                assert self.zero123 is not None
                return view_loss(self.zero123, noisy.view, noisy.picture, noisy.t)
            case _:
                assert self.discriminator is not None
                return F.softplus(-self.discriminator(noisy.x_t, noisy.t))


def load(names: tuple[BaselineName, ...], geometry: str, clip: str, zero123: str, prior: DiffusionPrior, rendered_normals: bool = False) -> Baselines:
    """Load baselines, with networks on the prior's device; a discriminator is made anew.

    geometry, clip: what splatdistill.estimators loads; "auto" is the embedded one for the embedded priors, and DPT-hybrid
    and CLIP ViT-L/14 for others. zero123: what priors.weights finds. Raises WeightsError when a network is not here, UserError
    when it does not tell what a baseline needs.
    """
    if not names:
        return Baselines(())
    from splatdistill.estimators import load_clip
    from splatdistill.estimators.weights import clip_for
    from splatdistill.guidance import view_baseline

    shapes = [n for n in names if n in SHAPES]
    network = shape_network(shapes, geometry, prior) if shapes else None
    if rendered_normals and network is not None and "normal" not in network.tells:
        raise UserError(f"--guidance.normals rendered needs a network that tells normals, and {network.name} tells {', '.join(sorted(network.tells))}. Take --guidance.normals depth or another --guidance.geometry.")
    return Baselines(
        names,
        network,
        load_clip(clip_for(prior.name) if clip == "auto" else clip, prior.device) if "clip" in names else None,
        view_baseline.load(zero123, prior) if "zero123" in names else None,
        Discriminator(prior, torch.Generator().manual_seed(0)) if "discriminator" in names else None,
        rendered_normals,
    )


def shape_network(shapes: Sequence[str], geometry: str, prior: DiffusionPrior) -> "GeometryEstimator":
    """Load the network behind the baselines of shape; UserError where it does not tell one of them."""
    from splatdistill.estimators import load_geometry
    from splatdistill.estimators.weights import geometry_for

    network = load_geometry(geometry_for(prior.name) if geometry == "auto" else geometry, prior.device)
    can = network.tells | ({"normal"} if "depth" in network.tells else set())
    if lacking := [n for n in shapes if n not in can]:
        raise UserError(
            f"The baseline {lacking[0]} needs a network that tells it, and {network.name} tells {', '.join(sorted(network.tells))}. "
            "Take other --guidance.baselines or another --guidance.geometry."
        )
    return network
