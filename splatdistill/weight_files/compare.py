"""The tensors that a network has beside those that its files hold."""

from collections.abc import Mapping, Sequence

from splatdistill.weight_files.bounded_json import shown
from splatdistill.weight_files.headers import FLOATS, Entry

NAMED = 2  # tensors of each kind that a fault names


def tensor_faults(expected: Mapping[str, Sequence[int]], found: Mapping[str, Entry], optional: Sequence[str] = ()) -> list[str]:
    """Return missing, unexpected and misshapen tensors, and those that are no floating-point numbers; one line of each kind.

    optional: ends of names that a file may hold beside those that are expected.
    """
    missing = [k for k in expected if k not in found]
    extra = [k for k in found if k not in expected and not k.endswith(tuple(optional))]
    both = [k for k in expected if k in found]
    shapes = [f"{shown(k)} {list(found[k].shape)} for {list(expected[k])}" for k in both if found[k].shape != tuple(expected[k])]
    kinds = [f"{shown(k)} {found[k].dtype}" for k in both if found[k].dtype not in FLOATS]
    lines = (
        ("lacks", [shown(k) for k in missing]),
        ("holds other shapes:", shapes),
        ("holds numbers that are not floating-point:", kinds),
        ("holds tensors of another network:", [shown(k) for k in extra]),
    )
    return [f"{verb} {listed(names)}" for verb, names in lines if names]


def listed(names: Sequence[str]) -> str:
    """Return the first few names and the number of the others."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
