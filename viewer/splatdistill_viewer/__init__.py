"""The live viewer of splatdistill, an application of the library: watch a run in a browser, steer it, keep what it makes.

`Live` is a callback for `splatdistill.train.loop.run`; the run knows nothing of it. `gallery.view` opens finished work.
"""

from splatdistill import __version__

__all__ = ["__version__"]
