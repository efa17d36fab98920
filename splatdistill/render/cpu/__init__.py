"""The compiled CPU rasteriser.

`kernels/` holds the mathematics as vector code, `pipeline` the order of the stages, `function` the differentiable
operation, `rasterize` the front. Where nothing can be compiled, `cpu_rasterizer` gives the reference instead.
"""

from splatdistill.render import Rasterizer


def cpu_rasterizer() -> Rasterizer:
    """The compiled rasteriser."""
    from splatdistill.render.cpu.rasterize import rasterize

    return rasterize
