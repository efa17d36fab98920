"""Paths on which a prior makes pictures of noise, kept for each text."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.kept import NamedTensors
from splatdistill.guidance.noising import ddim
from splatdistill.guidance.types import Noised, View
from splatdistill.priors import Conditions


def sampled(view: View, moves: Float[Tensor, " k"], end: Float[Tensor, " b"], cfg: CFG, paths: NamedTensors) -> Float[Tensor, "b *d"]:
    """Return where DDIM (arXiv:2010.02502) has come at `end` from view.x, which is noise at moves[0].

    view: one set of views, which share their words' path and `end`; moves: falling noise levels, of which those above `end`
    are visited. Where a move begins, and what the prior predicts there, is taken from `paths` where it is kept.
    """
    above = [*moves[moves > float(end[0]) + 1e-6].to(end).unbind(), end[0]]
    n, name = Noised(view.x, above[0].expand_as(end), view.x), digest(view.text, cfg)
    for k, t in enumerate(above[1:]):

        def point(n: Noised = n) -> Tensor:
            return torch.stack([n.x_t, cfg.combine(view, view.prior.answer(cfg.queries(view, n.x_t, n.t)))])

        x_t, eps_hat = paths.get(f"{name}_{k}", (2, *view.x.shape), view.x, point)
        n = ddim(view, Noised(x_t, n.t, n.eps), t.expand_as(end), eps_hat)
    return n.x_t


def same_for_all(text: Conditions) -> bool:
    """Return True where views with the same words have the same conditions."""
    return text.perp is None and text.positive.camera is None


def digest(text: Conditions, cfg: CFG) -> str:
    """Return a name for what a guided prediction is asked under, and how it is guided."""
    parts = [text.positive, text.negative, *([text.plain] if cfg.view_weight else [])]
    tensors = [getattr(p, name) for p in parts for name in sorted(p.parts)]
    numbers = b"".join(t.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() for t in tensors)
    return hashlib.sha256(repr(cfg).encode() + numbers).hexdigest()[:16]
