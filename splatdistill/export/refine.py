"""Refinement of a mesh's texture by a guidance, its surface standing still.

ProlificDreamer's third stage (Wang et al., arXiv:2305.16213, section 4) learns a texture anew by VSD; DreamGaussian's second (Tang et al.,
arXiv:2309.16653, section 3.3) begins with baked colours and fits pictures that were denoised from weak noise. Here any guidance moves
a map of corrections to the baked texture, as coarse as the prior's pictures are, so that each texel is seen in most views.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from splatdistill.export.mesh_views import MeshViews
from splatdistill.guidance import View
from splatdistill.io.mesh import Mesh
from splatdistill.train.session import Session
from splatdistill.train.sizes import to_prior_size
from splatdistill.train.step import backgrounds, encoded_again

FINER = 3  # texels of the corrections in a pixel of the prior's pictures
POOL = 24  # sets of views, each rasterised once
RATE = 0.01  # of Adam, falling to a tenth


def refined(mesh: Mesh, session: Session, steps: int, told: Callable[[int], None] = lambda k: None) -> Mesh:
    """Return a mesh with a texture that a run's guidance has moved for some steps; each makes `inner` moves towards its target. The
    mesh lies where the run's splats do. told: how many steps are done.
    """
    c, prior, rng = session.config, session.prior, torch.Generator().manual_seed(session.config.seed)
    device, prompts, memory = prior.device, session.prompts, c.guidance.init(prior)
    base = torch.from_numpy(mesh.texture.copy()).to(device).permute(2, 0, 1).float() / 255
    detail = torch.zeros(3, *[min(FINER * prior.image_size, base.shape[-1])] * 2, device=device).requires_grad_()
    moved = torch.zeros(detail.shape[1:], dtype=torch.bool, device=device)
    optimizer = torch.optim.Adam([detail], lr=RATE, betas=(0.9, 0.99))
    pool: list[MeshViews] = []
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * 0.1 ** (k / steps)
        if len(pool) < POOL:
            pool.append(MeshViews.of(mesh, c.cameras.at(1.0).sample(c.batch, prior.image_size, prior.image_size, rng, prior.views).to(device)))
            seen = pool[-1]
        else:
            seen = pool[int(torch.randint(POOL, (), generator=rng))]
        behind = backgrounds(c.background, torch.zeros(3, device=device), len(seen.cameras), rng, prior.views)
        encoding = rng.get_state()
        rgb = seen.show(whole(base, detail), behind)
        view = View(prior.encode(to_prior_size(rgb, prior), rng), prompts.conditions(prior, seen.cameras, behind), prior, rng, k / steps)
        distilled = c.guidance(view, memory)
        loss = distilled.loss
        for inner in range(1 if c.guidance.targetless() else c.inner):
            if inner:
                loss = distilled.loss_at(encoded_again(seen.show(whole(base, detail), behind), prior, encoding))
            optimizer.zero_grad(set_to_none=True)
            (c.guidance_weight * loss).backward()
            if detail.grad is not None and bool(detail.grad.isfinite().all()):
                moved |= (detail.grad != 0).any(0)
                optimizer.step()
        c.guidance.learn(view, memory)
        told(k + 1)
    return replace(mesh, texture=painted(base, detail.detach(), moved))


def whole(base: Float[Tensor, "3 t t"], detail: Float[Tensor, "3 d d"]) -> Float[Tensor, "3 t t"]:
    """Return the texture with its corrections, in [0, 1]."""
    return (base + F.interpolate(detail[None], base.shape[-2:], mode="bilinear", align_corners=False)[0]).clamp(0, 1)


def painted(base: Float[Tensor, "3 t t"], detail: Float[Tensor, "3 d d"], moved: Tensor) -> UInt8[np.ndarray, "t t 3"]:
    """Return the texture as bytes; corrections that no view has moved, between charts, are those of the nearest, lest rims blend with none."""
    from scipy import ndimage

    if moved.any():
        row, column = np.asarray(ndimage.distance_transform_edt(~moved.cpu().numpy(), return_distances=False, return_indices=True))
        detail = detail[:, torch.from_numpy(row).to(detail.device), torch.from_numpy(column).to(detail.device)]
    return (255 * whole(base, detail)).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
