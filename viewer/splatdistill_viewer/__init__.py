"""The live viewer of splatdistill, an application of the library.

This package is empty so far: there is no live viewer yet. A run can be watched through the pictures in its
previews/ folder and its log.jsonl, or from Python with callbacks on the events of `splatdistill.train.events`.
"""

from splatdistill import __version__

__all__ = ["__version__"]
