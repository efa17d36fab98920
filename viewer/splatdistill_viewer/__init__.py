"""The live viewer of splatdistill, an application of the library: watch a run in a browser, steer it, keep what it makes.

`run_page.RunPage` is a callback for `splatdistill.train.loop.run`; the run knows nothing of it. `variants_page.VariantsPage` shows
several runs that take turns, `corpus_page.CorpusPage` prompts of an amortised training, `gallery.Gallery` finished work. All are a `page_base.Page`, served behind the gate of `gate`.
"""

from splatdistill import __version__

__all__ = ["__version__"]
