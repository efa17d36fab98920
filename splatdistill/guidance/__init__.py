"""The guidances, by name. One file each; adding one here is all that registering takes."""

from splatdistill.guidance.base import Distilled, Guidance, Noised, View
from splatdistill.guidance.sdi import SDI
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.times import Times

GUIDANCES: dict[str, type[Guidance]] = {"sds": SDS, "sdi": SDI}

__all__ = ["GUIDANCES", "SDI", "SDS", "Distilled", "Guidance", "Noised", "Times", "View"]
