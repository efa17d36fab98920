"""Files of weights as other people made them: read within bounds, and nothing in them is believed or run."""

from splatdistill.weight_files.bounded_json import CONFIGURATION, LARGEST, Unreadable, first_line, read_object, regular_size, shown
from splatdistill.weight_files.bounds import configuration_fault
from splatdistill.weight_files.compare import tensor_faults
from splatdistill.weight_files.component import file_fault, tensors, weight_files
from splatdistill.weight_files.download import download_command
from splatdistill.weight_files.headers import Entry, read_header
from splatdistill.weight_files.shared_weights import POINTER, SharedWeights

__all__ = [
    "CONFIGURATION",
    "LARGEST",
    "POINTER",
    "Entry",
    "SharedWeights",
    "Unreadable",
    "configuration_fault",
    "download_command",
    "file_fault",
    "first_line",
    "read_header",
    "read_object",
    "regular_size",
    "shown",
    "tensor_faults",
    "tensors",
    "weight_files",
]
