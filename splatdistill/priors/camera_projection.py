"""The layer that puts a picture's CLIP embedding and a pose into one token, in Zero-1-to-3 (arXiv:2303.11328, its cc_projection)."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from splatdistill.weight_files import read_object, weight_files

POSE = 4
"""Numbers of a pose."""


class CameraProjection(nn.Module):
    """Linear layer, from an embedding of a picture and a pose to a token of the embedding's width."""

    def __init__(self, embedding_dim: int = 768, additional_embeddings: int = POSE) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding_dim + additional_embeddings, embedding_dim)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: torch.dtype, variant: str | None, **options: object) -> "CameraProjection":
        """Load the layer of a folder in the diffusers layout."""
        config = read_object(folder / "config.json")
        layer = cls(config.get("embedding_dim", 768), config.get("additional_embeddings", POSE))
        for file in weight_files(folder, "diffusion_pytorch_model", variant):
            layer.load_state_dict(load_file(file))
        return layer.to(dtype)

    def forward(self, embedding: Float[Tensor, "b d"], pose: Float[Tensor, "b 4"]) -> Float[Tensor, "b 1 d"]:
        """Return one token for each picture and pose."""
        return self.proj(torch.cat([embedding, pose], 1)).unsqueeze(1)
