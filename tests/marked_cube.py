"""A cube of splats whose six sides, up, left and right can be told apart in a picture.

Front (+x) red with a white letter F, back blue, +y green, -y yellow, top magenta, bottom black. All are flat,
elongated Gaussians, so that a wrong rotation frays the letter; a ball on top is white from the front and black from
behind, by its first band of spherical harmonics.
"""

import torch

from splatdistill.gaussians import SH_C0, Gaussians

SH_C1 = 0.4886025119029199
HALF = 0.4  # of the cube's edge
FLAT = 0.004


def cube() -> Gaussians:
    """Return the whole object, about a unit across."""
    grid = torch.linspace(-HALF + 0.04, HALF - 0.04, 19)
    u, v = (g.reshape(-1) for g in torch.meshgrid(grid, grid, indexing="ij"))
    side = torch.full_like(u, HALF)
    sides = [
        (torch.stack([side, u, v], 1), 0, (1.0, 0.0, 0.0)),
        (torch.stack([-side, u, v], 1), 0, (0.0, 0.0, 1.0)),
        (torch.stack([u, side, v], 1), 1, (0.0, 0.8, 0.0)),
        (torch.stack([u, -side, v], 1), 1, (0.9, 0.9, 0.0)),
        (torch.stack([u, v, side], 1), 2, (1.0, 0.0, 1.0)),
        (torch.stack([u, v, -side], 1), 2, (0.0, 0.0, 0.0)),
    ]
    parts = [plate(points, axis, rgb) for points, axis, rgb in sides]
    parts += [stroke((-0.15, 0.0), 0.0, 0.5), stroke((0.03, 0.22), 0.36, 0.0), stroke((0.0, 0.02), 0.3, 0.0), ball()]
    names = ("means", "quats", "scales", "opacities", "sh")
    return Gaussians(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def plate(points: torch.Tensor, axis: int, rgb: tuple[float, float, float]) -> Gaussians:
    """Return discs on a plane; their thin axis is the local x, rotated into place."""
    half = 0.5**0.5
    turn = [(1.0, 0.0, 0.0, 0.0), (half, 0.0, 0.0, half), (half, 0.0, -half, 0.0)][axis]
    return flat(points, turn, (FLAT, 0.03, 0.03), rgb)


def stroke(centre: tuple[float, float], wide: float, high: float) -> Gaussians:
    """Return a bar of the letter, in front of the front side: long Gaussians along +y or +z."""
    t = torch.linspace(-0.5, 0.5, 9)
    points = torch.stack([torch.full_like(t, HALF + 0.03), centre[0] + wide * t, centre[1] + high * t], 1)
    sideways = (0.5**0.5, 0.5**0.5, 0.0, 0.0)  # local z to -y
    turn = sideways if wide else (1.0, 0.0, 0.0, 0.0)
    return flat(points, turn, (FLAT, 0.02, 0.04), (1.0, 1.0, 1.0))


def flat(points: torch.Tensor, turn: tuple, scales: tuple, rgb: tuple) -> Gaussians:
    n = len(points)
    sh = torch.zeros(n, 4, 3)
    sh[:, 0] = (torch.tensor(rgb) - 0.5) / SH_C0
    return Gaussians(
        points, torch.tensor([turn]).repeat(n, 1), torch.tensor([scales]).repeat(n, 1), torch.full((n,), 0.99), sh
    )


def ball() -> Gaussians:
    """Return a ball that is white seen along -x, black along +x."""
    rng = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(200, 3, generator=rng), dim=1) * 0.12
    g = flat(points + torch.tensor([0.0, 0.0, HALF + 0.14]), (1.0, 0.0, 0.0, 0.0), (0.03, 0.03, 0.03), (0.5, 0.5, 0.5))
    g.sh[:, 3] = 0.5 / SH_C1  # Y_11 = -SH_C1 x
    return g
