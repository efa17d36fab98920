"""Files: splats (.ply, .splat, .spz, .sog), point clouds (.ply), pages, meshes, videos and pictures.

Writers replace a file as a whole or leave it as it was; readers check before they believe. `read_splats(path)` takes
every format of splats, `load_splats(path)` tells besides what was left out. Paths may be text.
"""

from splatdistill.io.read import is_splats, load_splats, read_splats
from splatdistill.io.rows import Read

__all__ = ["Read", "is_splats", "load_splats", "read_splats"]
