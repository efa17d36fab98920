"""Forms of every guidance, for tests that all of them must pass."""

import dataclasses
from typing import get_args, get_type_hints

from splatdistill.guidance import Guidance


def forms(cls: type[Guidance]) -> tuple[str, ...]:
    """Return the values of a method's `variant`; "paper" alone where it has none."""
    return get_args(get_type_hints(cls)["variant"]) if "variant" in {f.name for f in dataclasses.fields(cls)} else ("paper",)


def made(cls: type[Guidance], variant: str, **fields: object) -> Guidance:
    """Return a method in one of its forms."""
    return cls(**fields, **({"variant": variant} if len(forms(cls)) > 1 else {}))  # type: ignore[arg-type]
