"""Surface normals with Marigold (Ke et al., "Repurposing Diffusion-Based Image Generators for Monocular Depth
Estimation", arXiv:2312.02145; its normals models are in diffusers), as a differentiable function of the picture.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.estimators.geometry import Geometry, Kind, unit
from splatdistill.estimators.weights import attempt, read_json, refusal

PIPELINE = "MarigoldNormalsPipeline"


class MarigoldNormals:
    """Estimator of normals in camera axes. folder: a MarigoldNormalsPipeline in diffusers' layout. Raises WeightsError.

    The normals' latents start from one noise, the same for every picture, and are denoised in `steps` moves, so that
    the map is a function of the picture alone. Marigold's axes are x right, y up, z towards the camera.
    """

    tells: frozenset[Kind] = frozenset({"normal"})

    def __init__(self, folder: str | Path, name: str, device: torch.device | str = "cpu", steps: int = 1, seed: int = 0):
        folder = Path(folder)
        kind = read_json(folder / "model_index.json", name).get("_class_name")
        if kind != PIPELINE:
            raise refusal(name, f"{folder} holds a {kind}; expected a {PIPELINE}")
        from diffusers.pipelines.marigold.pipeline_marigold_normals import MarigoldNormalsPipeline

        pipe: Any = attempt(
            name, lambda: MarigoldNormalsPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        )
        self.name, self.steps, self.seed = name, steps, seed
        self.unet, self.vae = (m.float().to(device).eval().requires_grad_(False) for m in (pipe.unet, pipe.vae))
        self.scheduler, self.full_z = pipe.scheduler, bool(pipe.use_full_z_range)
        with torch.no_grad():
            ids = pipe.tokenizer("", padding="do_not_pad", return_tensors="pt").input_ids
            self.nothing = pipe.text_encoder.float()(ids)[0].to(device)
        self.multiple = 2 ** (len(self.vae.config.block_out_channels) - 1)

    def __call__(self, rgb: Float[Tensor, "b 3 h w"]) -> Geometry:
        """Return normals in the resolution of the pictures; differentiable in them."""
        h, w = rgb.shape[-2:]
        sides = [max(1, round(n / self.multiple)) * self.multiple for n in (h, w)]
        picture = 2 * F.interpolate(rgb.float(), sides, mode="bilinear", align_corners=False, antialias=True) - 1
        seen = self.vae.encode(picture).latent_dist.mode() * self.vae.config.scaling_factor
        rng = torch.Generator().manual_seed(self.seed)
        latent = torch.randn(seen[:1].shape, generator=rng).to(seen).expand_as(seen)
        self.scheduler.set_timesteps(self.steps, device=seen.device)
        for t in self.scheduler.timesteps:
            noise = self.unet(torch.cat([seen, latent], 1), t, encoder_hidden_states=self.nothing.expand(len(seen), -1, -1)).sample
            latent = self.scheduler.step(noise, t, latent).prev_sample
        x, y, z = self.vae.decode(latent / self.vae.config.scaling_factor).sample.clamp(-1, 1).split(1, dim=1)
        normal = torch.cat([x, -y, -(z if self.full_z else 0.5 * z + 0.5)], 1)
        return Geometry(normal=unit(F.interpolate(normal, (h, w), mode="bilinear", align_corners=False)))
