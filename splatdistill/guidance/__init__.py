"""The guidances, by name. One file each; adding one here is all that registering takes."""

from splatdistill.guidance.base import Distilled, Guidance, Noised, View
from splatdistill.guidance.sdi import SDI
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.ssd import SSD
from splatdistill.guidance.times import Times
from splatdistill.guidance.vsd import VSD

GUIDANCES: dict[str, type[Guidance]] = {"sds": SDS, "sdi": SDI, "ssd": SSD, "vsd": VSD}

__all__ = ["GUIDANCES", "SDI", "SDS", "SSD", "Distilled", "Guidance", "Noised", "Times", "VSD", "View"]
