"""Stein's identity as a source of control variates, and the best weights of several.

For x_t ~ N(alpha x, sigma^2 I) and any differentiable phi(x_t), E[grad log q phi + grad phi] = 0 (Stein's identity);
with grad log q = -eps / sigma and times -sigma,

    h = eps phi(x_t) - sigma grad_{x_t} phi(x_t),    E[h] = 0 in every element.

phi = 1 gives h = eps. The gradient is taken with respect to x_t, not to x, and through all that depends on x_t.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.guidance.types import Noised

Share = Literal["none", "channels", "all"]


def stein_terms(
    n: Noised, sigma: Float[Tensor, "b *one"], phis: Callable[[Float[Tensor, "b *d"]], tuple[Float[Tensor, " b"], ...]]
) -> Float[Tensor, "k b *d"]:
    """Return h_0 = eps and h_k of every phi. A view's phi must depend on no other view's x_t."""
    with torch.enable_grad():
        x_t = n.x_t.detach().requires_grad_()
        values = phis(x_t)
        slopes = [
            torch.autograd.grad(v.sum(), x_t, retain_graph=i + 1 < len(values), materialize_grads=True)[0]
            for i, v in enumerate(values)
        ]
    shape = (-1, *[1] * (x_t.ndim - 1))
    return torch.stack([n.eps, *(n.eps * v.detach().to(n.eps).view(shape) - sigma * s for v, s in zip(values, slopes))])


class ControlWeights(nn.Module):
    """Weights mu of sum_k mu_k h_k, by least squares on moving averages; begins at ones, as the paper's.

    mu = argmin E|eps_cfg - sum_k mu_k h_k|^2 solves gram mu = cross, gram_kl = E[w^2 h_k h_l], cross_k =
    E[w^2 eps_hat h_k]. They are averaged over past steps only, so that mu never depends on the noise that it is applied
    to. The solution is drawn towards ones by 1/N^2 of gram's mean diagonal after N views, which keeps it finite
    from the first. Everything is float64, because scalar phi make h_k nearly parallel to eps. The buffers take their
    shapes from the first observation.
    """

    mu: Tensor  # (k, *e), e broadcasts against latents
    gram: Tensor  # (k, k, *e)
    cross: Tensor  # (k, *e)
    seen: Tensor  # (2,): sum of the averages' weights, and the observations per step

    def __init__(self, terms: int, decay: float):
        super().__init__()
        self.terms, self.decay = terms, decay
        for name in ("mu", "gram", "cross"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))

    def weights(self, like: Float[Tensor, "b *d"]) -> Float[Tensor, "k *e"]:
        """Return mu as it is now, to multiply (k, b, *d) after a dimension for the batch."""
        if not self.mu.numel():
            return torch.ones((self.terms, *[1] * (like.ndim - 1)), dtype=like.dtype, device=like.device)
        return self.mu.to(like)

    def observe(self, gram: Float[Tensor, "k k *e"], cross: Float[Tensor, "k *e"], count: int) -> None:
        """Update the averages with one more step's, each over `count` observations; non-finite ones are left out."""
        if not (gram.isfinite().all() and cross.isfinite().all()):
            return
        if not self.mu.numel():
            self.gram, self.cross = torch.zeros_like(gram), torch.zeros_like(cross)
            self.seen = self.seen.to(gram)
        new = 1 - self.decay
        self.gram = torch.lerp(self.gram, gram, new)
        self.cross = torch.lerp(self.cross, cross, new)
        self.seen = torch.stack([torch.lerp(self.seen[0], torch.ones_like(self.seen[0]), new), torch.full_like(self.seen[1], count)])
        self.mu = self.solve()

    def solve(self) -> Float[Tensor, "k *e"]:
        """Return mu of the averages."""
        mass = self.seen[0]
        gram, cross = (self.gram / mass).flatten(2), (self.cross / mass).flatten(1)
        observations = self.seen[1] * mass / (1 - self.decay)
        diagonal = gram.mean(2).diagonal().clamp(min=1e-300)
        a = gram.movedim(2, 0) + torch.diag(diagonal) * (observations**-2 + 1e-9)
        b = (cross - gram.sum(1)).movedim(1, 0)  # what is missing at mu = 1
        scale = diagonal.sqrt()
        step = torch.linalg.solve(a / scale[:, None] / scale, b / scale) / scale
        return (1 + step.movedim(0, 1)).view_as(self.cross)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any, **more: Any) -> None:
        for name in ("mu", "gram", "cross"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.seen.device))
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)


def latent_moments(
    target: Float[Tensor, "b *d"], terms: Float[Tensor, "k b *d"], w: Float[Tensor, "b *one"], share: Share
) -> tuple[Float[Tensor, "k k *e"], Float[Tensor, "k *e"], int]:
    """Return gram and cross of the update on the latents, averaged over the batch and over what shares one mu; and the number
    of views, which are what phi is independent between.
    """
    h, y = (w * terms).double(), (w * target).double()
    over = {"none": (0,), "channels": (0, 1), "all": tuple(range(y.ndim))}[share]
    pairs = torch.stack([(h * hk).mean([d + 1 for d in over], keepdim=True)[:, 0] for hk in h])
    cross = (h * y).mean([d + 1 for d in over], keepdim=True)[:, 0]
    return pairs, cross, len(y)


def splat_moments(
    target: Float[Tensor, "b *d"],
    terms: Float[Tensor, "k b *d"],
    w: Float[Tensor, "b *one"],
    x: Float[Tensor, "b *d"],
    leaves: tuple[Tensor, ...],
) -> tuple[Float[Tensor, "k k *e"], Float[Tensor, "k *e"], int]:
    """Return gram and cross of the update on the parameters behind x, one number each: inner products of the vector-Jacobian
    products of w h_k and w eps_hat. One backward pass per term, and one more.
    """
    rows = []
    for v in (target, *terms):
        g = torch.autograd.grad(x, leaves, (w * v).to(x), retain_graph=True, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([p.flatten().double() for p in g]))
    y, h = rows[0], torch.stack(rows[1:])
    one = [1] * (x.ndim - 1)
    return (h @ h.T).view(len(h), len(h), *one), (h @ y).view(len(h), *one), len(x)


def parameters_behind(x: Tensor, apart: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return the leaves that a tensor's gradient reaches, in the order of its graph, but for one."""
    if x.grad_fn is None:
        return (x,)
    found: dict[int, Tensor] = {}
    waiting, visited = [x.grad_fn], {x.grad_fn}
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not apart:
            found[id(leaf)] = leaf
        for child, _ in node.next_functions:
            if child is not None and child not in visited:
                visited.add(child)
                waiting.append(child)
    return tuple(found.values())
