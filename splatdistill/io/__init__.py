"""Files: splats (.ply, .splat, .spz, .sog), point clouds (.ply), pages, meshes, videos and pictures.

Writers replace a file as a whole or leave it as it was; readers check before they believe. `read_splats(path)` takes
every format of splats.
"""

from splatdistill.io.read import is_splats, read_splats

__all__ = ["is_splats", "read_splats"]
