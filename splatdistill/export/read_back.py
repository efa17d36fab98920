"""Comparison of splats with what came back from a file, each splat by its own size."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from splatdistill import sh
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians, rotation_matrices
from splatdistill.io.extent import FAR, bulk, strays
from splatdistill.io.opening import Name

NAMED = 3  # rows that a message lists


@dataclass(frozen=True)
class Tolerances:
    """Greatest tolerated differences between splats and their copy read back from a format."""

    place: float  # error of each position, relative to its splat's middle axis, or
    reach: float  # relative to the object's radius, below which no picture shows it
    shape: float  # error of each covariance, relative to its norm
    colour: float  # root mean square error of colours and opacities


@dataclass(frozen=True)
class Differences:
    """Differences between splats and their copy read back, row by row."""

    place: Float64[Tensor, " n"]  # distance of the positions, world units
    own: Float64[Tensor, " n"]  # the middle axis of the splat that was meant
    radius: float  # of the object but for strays
    shape: Float64[Tensor, " n"]  # |S - S'| / |S| of covariances, Frobenius norms
    colour: float  # root mean square of what a random direction sees, and of opacities

    def displaced(self, limits: Tolerances) -> Bool[Tensor, " n"]:
        """Return which positions are off by more than is allowed; NaN is."""
        return ~(self.place <= torch.clamp_min(limits.place * self.own, limits.reach * self.radius))

    def deformed(self, limits: Tolerances) -> Bool[Tensor, " n"]:
        """Return which covariances are; NaN is."""
        return ~(self.shape <= limits.shape)


def differences(meant: Gaussians, got: Gaussians, path: Name) -> Differences:
    """Compare splats row by row; UserError if there are not as many, or with fewer bands."""
    if len(meant) != len(got) or meant.degree < got.degree:
        raise UserError(
            f"{path} holds {len(got)} splats of degree {got.degree}; {len(meant)} of degree {meant.degree} were written"
        )
    axes = [rotation_matrices(g.quats.double()) * g.scales.double()[:, None, :] for g in (meant, got)]
    first, second = (x @ x.transpose(1, 2) for x in axes)
    norm = first.flatten(1).norm(dim=1)
    rng = torch.Generator().manual_seed(0)
    along = torch.nn.functional.normalize(torch.randn(len(meant), 3, generator=rng), dim=1)
    # beyond the visible range formats may cut
    seen, other = (torch.cat([sh.evaluate(g.sh, along).add(0.5).clamp(0, 1), g.opacities[:, None]], 1) for g in (meant, got))
    return Differences(
        place=(meant.means.double() - got.means.float().double()).norm(dim=1),  # viewers draw in single precision
        own=meant.scales.double().sort(dim=1).values[:, 1],
        radius=bulk(meant).radius,
        shape=(first - second).flatten(1).norm(dim=1) / norm,
        colour=(seen - other).square().mean().sqrt().item(),
    )


def check(found: Differences, limits: Tolerances, meant: Gaussians, path: Name) -> None:
    """Raise a UserError that names the rows and the reason unless every splat is what was meant, within the limits."""
    if (bad := found.displaced(limits)).any():
        row = int(torch.where(bad, found.place / found.own, -1).nan_to_num(nan=torch.inf).argmax())
        complain(path, meant, f"{rows(bad)} {'has' if bad.sum() == 1 else 'have'} another place: row {row} by {found.place[row]:.2g}, and its size is {found.own[row]:.2g}")
    if (bad := found.deformed(limits)).any():
        row = int(found.shape.nan_to_num(nan=torch.inf).argmax())
        sizes = ", ".join(f"{size:.2g}" for size in meant.scales[row].tolist())
        complain(path, meant, f"{rows(bad)} {'has' if bad.sum() == 1 else 'have'} another shape: row {row}, of the sizes {sizes}, by {found.shape[row]:.0%}")
    if not found.colour <= limits.colour:
        complain(path, meant, f"colours differ by {found.colour:.2g}")


def complain(path: Name, meant: Gaussians, what: str) -> None:
    """Raise the UserError that says what is wrong with a file, why that may be, and what to do."""
    most, (away, large) = bulk(meant), strays(meant)
    distance = most.middle.norm().item()
    if distance > FAR * most.radius:
        advice = f"the object lies {distance:.3g} from the origin and is {2 * most.radius:.2g} wide: move it there with --pivot centre"
    elif (away | large).any():
        advice = "leave strays and oversized splats out with --no-strays (" + "; ".join(odd(meant)) + ")"
    else:
        advice = (
            "packed formats hold colours of about -0.4 to 1.4 and sizes of 5e-5 to 300: bring it there with --height or "
            "--scale; .ply holds all"
        )
    raise UserError(f"{path} does not read back as what was to be written, so it was not kept: {what}. {advice[:1].upper()}{advice[1:]}")


def odd(g: Gaussians) -> tuple[str, ...]:
    """Name the splats that lie or reach far beyond the others, a line for each kind."""
    most, (away, large) = bulk(g), strays(g)
    told = []
    if away.any():
        far = (g.means[away].double() - most.middle).norm(dim=1).max().item()
        told.append(f"{rows(away)} up to {far:.3g} from the middle, where {most.radius:.2g} holds the others")
    if large.any():
        told.append(f"{rows(large)} up to {g.scales[large].max().item():.3g} large, in an object of radius {most.radius:.2g}")
    return tuple(told)


def rows(which: Bool[Tensor, " n"]) -> str:
    """Name some rows: '7 splats (rows 0, 4, 9 ...)'."""
    found = which.nonzero()[:, 0].tolist()
    listed = ", ".join(map(str, found[:NAMED])) + (" ..." if len(found) > NAMED else "")
    return f"{len(found)} splats (rows {listed})" if len(found) > 1 else f"1 splat (row {found[0]})"
