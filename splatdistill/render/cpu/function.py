"""The pipeline as one differentiable operation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from splatdistill.render.cpu import pipeline
from splatdistill.render.cpu.buffers import CameraBuffers, Composited, Images, Shapes, Tag, Tiles, channel_tag, degree_tag
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.memory import empty


@dataclass
class Call:
    """Inputs of a render besides differentiable tensors, and its results besides images."""

    view: CameraBuffers
    normals: bool
    absgrad: bool
    graph: bool  # whether a backward pass may come
    screen: Tensor | None = None  # (b, n, 2) leaf
    radii: Tensor | None = None


@dataclass(frozen=True)
class BackwardBuffers:
    """Buffers that the backward pass needs, as long as the graph lives, however many backward passes there are."""

    shapes: Shapes
    n: int
    sh: np.ndarray
    degree: Tag
    colours: np.ndarray
    rows: np.ndarray
    radii: np.ndarray
    tiles: Tiles
    images: Images
    composited: Composited


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy().reshape(-1)


def _in_groups(x: Tensor) -> np.ndarray:
    """Return values flat, with zeros up to a whole group of Gaussians; a copy only if it needs one."""
    n, width = len(x), x.shape[1:].numel()
    padded = layout.groups(n) * layout.GROUP
    if padded == n:
        return _flat(x)
    out = empty((padded, width), x.detach().numpy().dtype)
    out[:n] = x.detach().reshape(n, width).numpy()
    out[n:] = 0
    return out.reshape(-1)


def _new_images(view: CameraBuffers, dtype: np.dtype, normals: bool) -> Images:
    size = view.count * view.padded[0] * view.padded[1]
    return Images(*(empty(planes * size, dtype) for planes in (3, 3 if normals else 0, 1, 1)))


def _cropped(flat: np.ndarray, planes: int, view: CameraBuffers) -> Tensor:
    whole = flat.reshape(view.count, planes, *view.padded)  # cut in numpy: torch allows no changes to views it made
    return torch.from_numpy(whole[:, :, : view.height, : view.width])


def _gradient_plane(gradient: Tensor | None, planes: int, view: CameraBuffers, dtype: np.dtype) -> np.ndarray:
    """Return a gradient as a planar image in whole tiles: as it is if it already is one, else copied."""
    height, width = view.padded
    if gradient is not None and gradient.is_contiguous() and gradient.shape[-2:] == (height, width):
        return gradient.numpy().reshape(-1)
    flat = empty(view.count * planes * height * width, dtype)
    if gradient is None or gradient.shape[-2:] != (height, width):
        flat[:] = 0
    if gradient is not None:
        _cropped(flat, planes, view).copy_(gradient)
    return flat


class Rasterize(torch.autograd.Function):
    """Autograd function of (means, quats, scales, opacities, sh, screen, background, call) to (rgb, alpha, depth, normal).

    sh: (n, k, 3). screen: an empty (b, n, 2) leaf that the forward pass fills and that receives
    dloss/d(projected mean).
    """

    @staticmethod
    def forward(ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor,
                screen: Tensor, background: Tensor | None, call: Call) -> tuple[Tensor | None, ...]:  # fmt: skip
        view, channels = call.view, channel_tag(call.normals)
        shapes = Shapes(*(_in_groups(x) for x in (means, quats, scales, opacities)))
        n, padded, dtype = len(means), shapes.padded, shapes.means.dtype
        coefficients, degree = _flat(sh), degree_tag(sh.shape[1])
        colours = pipeline.shade(coefficients, n, shapes, view, degree)
        projection = pipeline.project(shapes, colours, not degree, view, channels)
        tiles = pipeline.bin_tiles(projection, padded, view)
        images = _new_images(view, dtype, call.normals)
        behind = np.zeros(3 * view.count, dtype) if background is None else _flat(background)
        composited = pipeline.composite(projection.rows, tiles, view, behind, images, channels)

        screen.detach().copy_(torch.from_numpy(projection.screen).view(view.count, padded, 2)[:, :n])
        call.radii = torch.from_numpy(projection.radii).view(view.count, padded)[:, :n]
        outputs: list[Tensor | None] = [_cropped(images.rgb, 3, view), _cropped(images.alpha, 1, view), _cropped(images.depth, 1, view)]
        outputs.append(_cropped(images.normal, 3, view) if call.normals else None)
        if call.graph:
            ctx.set_materialize_grads(False)
            # The backward pass reads these through numpy; saving them makes torch notice changes in place until then.
            read = (means, quats, scales, opacities, sh, outputs[0], outputs[2], outputs[3])
            ctx.save_for_backward(*[x for x in read if x is not None])
            ctx.call, ctx.has_background = call, background is not None
            rows, radii = projection.rows, projection.radii
            ctx.kept = BackwardBuffers(shapes, n, coefficients, degree, colours, rows, radii, tiles, images, composited)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_rgb: Tensor | None, v_alpha: Tensor | None, v_depth: Tensor | None,
                 v_normal: Tensor | None) -> tuple[Tensor | None, ...]:  # fmt: skip
        _ = ctx.saved_tensors  # raises if the graph was freed or one of them changed
        call, kept = ctx.call, ctx.kept
        view, shapes, dtype = call.view, kept.shapes, kept.rows.dtype
        channels, absgrad = channel_tag(call.normals), (0,) * call.absgrad

        def plane(gradient: Tensor | None, planes: int) -> np.ndarray:
            return _gradient_plane(gradient, planes, view, dtype)

        normal = plane(v_normal, 3) if call.normals else kept.images.normal
        wanted = Images(plane(v_rgb, 3), normal, plane(v_depth, 1), plane(v_alpha, 1))
        rows = pipeline.composite_backward(
            kept.rows, kept.tiles, view, kept.images, kept.composited, wanted, channels, absgrad
        )
        g = pipeline.project_backward(shapes, kept.radii, rows, not kept.degree, view, channels, absgrad)
        v_sh = pipeline.shade_backward(kept.sh, kept.n, shapes, view, kept.degree, kept.colours, g)

        n, padded = kept.n, shapes.padded

        def per_gaussian(flat: np.ndarray, *shape: int) -> Tensor:
            return torch.from_numpy(flat).view(padded, *shape)[:n]

        def per_view(flat: np.ndarray, width: int) -> Tensor:
            return torch.from_numpy(flat).view(view.count, padded, width)[:, :n]

        if call.absgrad:
            call.screen.absgrad += per_view(g.absolute, 2)  # like .grad: the sum of all backward passes
        v_background = None
        if ctx.has_background and ctx.needs_input_grad[6]:
            end = _cropped(kept.composited.transmittance, 1, view)
            v_background = torch.zeros(view.count, 3, dtype=end.dtype) if v_rgb is None else (v_rgb * end).sum((2, 3))
        return (
            per_gaussian(g.means, 3), per_gaussian(g.quats, 4), per_gaussian(g.scales, 3), per_gaussian(g.opacities),
            per_gaussian(v_sh, (len(kept.degree) + 1) ** 2, 3), per_view(g.screen, 2), v_background, None,
        )  # fmt: skip
