"""Textured mesh seen from cameras, linear in its texels: of a surface that stands still, where each sample of a picture lies in the texture
is found once, by rasterising, and pictures are gathered from there. Gradients reach the texels without a differentiable rasteriser.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.export.charts import barycentric
from splatdistill.io.mesh import Mesh
from splatdistill.toybox.triangles import nearest_faces

SAMPLES = 2  # per pixel side


@dataclass(frozen=True)
class MeshViews:
    """Views of a mesh: the place in the texture of every sample, and which samples see the mesh at all."""

    cameras: Cameras
    places: Float[Tensor, "b y x 2"]  # in [-1, 1], as grid_sample has them
    seen: Float[Tensor, "b 1 y x"]  # 1 or 0

    @classmethod
    def of(cls, mesh: Mesh, cameras: Cameras, samples: int = SAMPLES) -> "MeshViews":
        """Rasterise a mesh from every camera."""
        face = nearest_faces(mesh.vertices[mesh.faces], cameras, samples)
        places = np.zeros((*face.shape, 2), np.float32)
        for k in range(len(cameras)):
            row, column = np.nonzero(face[k] >= 0)
            hit = face[k][row, column]
            corners, z = on_screen(mesh, cameras, k, samples)
            flat = barycentric(corners[mesh.faces[hit]], np.stack([column, row], 1).astype(np.float64))
            part = flat / z[mesh.faces[hit]]  # what is even on the screen is even in the world after division by z
            uv = (part[:, :, None] * mesh.uv[mesh.corners[hit]]).sum(1) / part.sum(1, keepdims=True)
            places[k][row, column] = 2 * uv - 1
        device = cameras.world_to_camera.device
        return cls(cameras, torch.from_numpy(places).to(device), torch.from_numpy((face >= 0)[:, None].astype(np.float32)).to(device))

    def show(self, texture: Float[Tensor, "3 t t"], behind: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 h w"]:
        """Return pictures of the mesh with this texture, each before its colour; differentiable in the texture."""
        shown = F.grid_sample(texture.expand(len(self.places), -1, -1, -1), self.places, padding_mode="border", align_corners=False)
        whole = shown * self.seen + (1 - self.seen) * behind[:, :, None, None]
        return F.avg_pool2d(whole, self.seen.shape[-1] // self.cameras.width)


def on_screen(mesh: Mesh, cameras: Cameras, view: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where vertices lie among the samples of a view, (v, 2) with centres at whole numbers, and how deep, (v,)."""
    pose, k = (v[view].cpu().double().numpy() for v in (cameras.world_to_camera, cameras.intrinsics))
    local = mesh.vertices.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    flat = local @ k.T
    return samples * flat[:, :2] / flat[:, 2:] - 0.5, local[:, 2]
