"""Densifiers: how Gaussians are added and removed while training. One file each; the list is here."""

from splatdistill.densify.base import CountChange, Densifier, DensifyState
from splatdistill.densify.fixed import Fixed
from splatdistill.densify.gradient import Gradient
from splatdistill.densify.relocate import Relocate

DENSIFIERS: dict[str, type[Densifier]] = {"fixed": Fixed, "gradient": Gradient, "relocate": Relocate}

__all__ = ["DENSIFIERS", "CountChange", "Densifier", "DensifyState", "Fixed", "Gradient", "Relocate"]
