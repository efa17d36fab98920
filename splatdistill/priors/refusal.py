"""Messages about weights that cannot be used."""

from collections.abc import Sequence

from splatdistill.errors import WeightsError

NAMED = 3  # faults; the others are counted
EXPECTED = "Expected Stable Diffusion 1.x/2.x, XL or 3 in the diffusers layout, as safetensors; or --prior world, the small prior of this package."


def unusable(name: str, faults: Sequence[str]) -> WeightsError:
    """Return an error of two lines: the weights with their faults, and the accepted format."""
    rest = len(faults) - NAMED
    more = f"; and {rest} more" if rest > 0 else ""
    return WeightsError(f"The weights {name} cannot be used: {'; '.join(faults[:NAMED])}{more}.\n{EXPECTED}")
