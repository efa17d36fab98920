"""The guidances, by name. One file each; adding one here is all that registering takes."""

from splatdistill.guidance.asd import ASD
from splatdistill.guidance.base import Directed, Guidance, Guided
from splatdistill.guidance.cfd import CFD
from splatdistill.guidance.cfg import CFG
from splatdistill.guidance.collaborative import Collaborative
from splatdistill.guidance.csd import CSD
from splatdistill.guidance.dsd import DSD
from splatdistill.guidance.ism import ISM
from splatdistill.guidance.jsd import JSD
from splatdistill.guidance.nfsd import NFSD
from splatdistill.guidance.sdedit import SDEdit
from splatdistill.guidance.sdi import SDI
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.sjc import SJC
from splatdistill.guidance.ssd import SSD
from splatdistill.guidance.times import Times
from splatdistill.guidance.types import Distilled, Noised, Original, View
from splatdistill.guidance.vsd import VSD

GUIDANCES: dict[str, type[Guidance]] = {
    "sds": SDS,
    "sdi": SDI,
    "sjc": SJC,
    "csd": CSD,
    "nfsd": NFSD,
    "ism": ISM,
    "asd": ASD,
    "vsd": VSD,
    "ssd": SSD,
    "collaborative": Collaborative,
    "cfd": CFD,
    "dsd": DSD,
    "jsd": JSD,
    "sdedit": SDEdit,
}

__all__ = [
    "ASD",
    "CFD",
    "CFG",
    "CSD",
    "DSD",
    "GUIDANCES",
    "ISM",
    "JSD",
    "NFSD",
    "SDI",
    "SDS",
    "SJC",
    "SSD",
    "VSD",
    "Collaborative",
    "Directed",
    "Distilled",
    "Guidance",
    "Guided",
    "Noised",
    "Original",
    "SDEdit",
    "Times",
    "View",
]
