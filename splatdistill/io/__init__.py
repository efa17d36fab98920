"""Files: splats and point clouds (.ply), videos and pictures.

Writers replace a file as a whole or leave it as it was; readers check before they believe.
"""
