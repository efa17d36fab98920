"""Generators: networks that turn the text of a prompt into Gaussians in one pass. One file each; adding one here registers it."""

from splatdistill.scene.generator.base import Network, Text, Trunk
from splatdistill.scene.generator.conv import Conv
from splatdistill.scene.generator.hyper import Hyper
from splatdistill.scene.generator.triplane import Triplane

TRUNKS: dict[str, type[Trunk]] = {"hyper": Hyper, "conv": Conv, "triplane": Triplane}

__all__ = ["TRUNKS", "Conv", "Hyper", "Network", "Text", "Triplane", "Trunk"]
