"""splatdistill: 2D diffusion models distilled into 3D Gaussian splats.

    import splatdistill
    result = splatdistill.distil(prompt="a red mushroom", guidance=splatdistill.SDI())

Importing this is instant: names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "SDI": "splatdistill.guidance",
    "SDS": "splatdistill.guidance",
    "Cameras": "splatdistill.cameras",
    "Gaussians": "splatdistill.gaussians",
    "Generator": "splatdistill.scene.generator.saved",
    "Session": "splatdistill.train.session",
    "Train": "splatdistill.train.config",
    "UserError": "splatdistill.errors",
    "distil": "splatdistill.api",
    "orbit": "splatdistill.cameras",
    "session": "splatdistill.api",
}

if TYPE_CHECKING:
    from splatdistill.api import distil, session
    from splatdistill.cameras import Cameras, orbit
    from splatdistill.errors import UserError
    from splatdistill.gaussians import Gaussians
    from splatdistill.guidance import SDI, SDS
    from splatdistill.scene.generator.saved import Generator
    from splatdistill.train.config import Train
    from splatdistill.train.session import Session

__all__ = [
    "SDI",
    "SDS",
    "Cameras",
    "Gaussians",
    "Generator",
    "Session",
    "Train",
    "UserError",
    "__version__",
    "distil",
    "orbit",
    "session",
]


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'splatdistill' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
