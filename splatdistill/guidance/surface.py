"""Noise that lies on the surface of an object: the same where views see the same, and white in each view."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splatdistill.render import RenderOutput

SAMPLES = 8  # points a side at which a latent pixel's piece of the surface is looked at


@dataclass(frozen=True)
class Footprints:
    """Texels that the latent pixels of one view see, no texel in more than one pixel."""

    texels: Int[Tensor, " n"]
    pixels: Int[Tensor, " n"]  # row after row

    def gather(self, texture: Float[Tensor, "t c"], behind: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
        """Return each pixel's texels, summed and divided by the root of their number, so that white noise stays white; `behind`
        where a pixel sees none.
        """
        total = torch.zeros(behind[0].numel(), len(behind)).to(texture).index_add_(0, self.pixels, texture[self.texels])
        number = torch.bincount(self.pixels, minlength=len(total))
        noise = (total / number.clamp(min=1).sqrt().to(total)[:, None]).T.reshape(behind.shape)
        return torch.where(number.view(behind.shape[1:]) > 0, noise, behind)


def footprints(out: RenderOutput, view: int, height: int, width: int, size: int, opaque: float) -> Footprints:
    """Return the texels of a cube around the origin, six faces of size x size, that each of height x width pixels of a view sees.

    The corners of a pixel lie at the mean depth of the rendered pixels around them; between them depth is bilinear. A pixel
    sees the object where alpha is above `opaque` at all of its corners. A texel at the border of several pixels is of the one
    that has most of it.
    """
    points, seen = surface_points(out, view, height, width, opaque)
    face, place = cube_faces(points)
    square = ((place + 1) / 2 * size).floor().clamp(0, size - 1).long()
    texel = (face * size + square[:, 0]) * size + square[:, 1]
    pixel = torch.arange(height * width, device=texel.device).repeat_interleave(SAMPLES**2)
    count, most = height * width, 6 * size**2
    pairs, times = torch.unique((texel * count + pixel)[seen.repeat_interleave(SAMPLES**2)], return_counts=True)
    texel, pixel = pairs // count, pairs % count
    claim = times * count + count - 1 - pixel  # the earlier pixel where two have as much
    best = torch.zeros(most, dtype=claim.dtype, device=claim.device).scatter_reduce_(0, texel, claim, "amax")
    own = claim == best[texel]
    return Footprints(texel[own], pixel[own])


def surface_points(out: RenderOutput, view: int, height: int, width: int, opaque: float) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, " pixels"]]:
    """Return points of the surface in the world, SAMPLES x SAMPLES for each pixel, one pixel after the other; and which pixels see it."""
    alpha, depth = (v[view : view + 1].detach() for v in (out.alpha, out.depth))
    step = out.cameras.height // height, out.cameras.width // width
    kernel = tuple(2 * ((s + 1) // 2) for s in step)

    def pooled(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, kernel, step, padding=tuple(k // 2 for k in kernel))[..., : height + 1, : width + 1]

    there = (alpha > opaque).to(depth)
    corners = pooled(depth * there) / pooled(there).clamp(min=1e-6)
    seen = -F.max_pool2d(-(pooled(alpha) > opaque).to(depth), 2, 1) > 0.5  # the least of four corners
    inside = (torch.arange(SAMPLES) + 0.5) / SAMPLES
    y, x = ((torch.arange(n)[:, None] + inside).flatten().to(depth) for n in (height, width))
    grid = torch.stack(torch.meshgrid(2 * x / width - 1, 2 * y / height - 1, indexing="xy"), -1)
    z = F.grid_sample(corners, grid[None], align_corners=True)[0, 0]
    k, pose = out.cameras.intrinsics[view].to(z), out.cameras.camera_to_world[view].to(z)
    rays = torch.stack(torch.broadcast_tensors((x * step[1] - k[0, 2]) / k[0, 0], ((y * step[0] - k[1, 2]) / k[1, 1])[:, None], torch.ones_like(z)), -1)
    points = (rays * z[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    points = points.view(height, SAMPLES, width, SAMPLES, 3).transpose(1, 2)  # pixel by pixel
    return points.reshape(-1, 3), seen.flatten()


def cube_faces(points: Float[Tensor, "n 3"]) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 2"]]:
    """Return the face of a cube that each point is seen through from the origin, and where, in [-1, 1]^2, evenly in angle."""
    largest, axis = points.abs().max(1)
    face = 2 * axis + (points.gather(1, axis[:, None])[:, 0] < 0)
    others = torch.tensor([[1, 2], [0, 2], [0, 1]], device=points.device)[axis]
    return face, (points.gather(1, others) / largest.clamp(min=1e-12)[:, None]).atan() * (4 / torch.pi)
