"""Checks of a configuration's own fields: what passes, what is refused, and under which name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from splatdistill import checks
from splatdistill.checks import BadValue
from splatdistill.errors import UserError

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5

    def __post_init__(self) -> None:
        checks.types(self)
        checks.positive(self, "rate")


@dataclass(frozen=True)
class Outer:
    kind: Literal["on", "off"] = "on"
    count: int = 3
    limit: float | None = None
    span: tuple[float, float] = (0.0, 1.0)
    sizes: tuple[int, ...] = ()
    flag: bool = False
    name: str = ""
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        checks.types(self)
        checks.within(self, 0, 1, "limit")
        checks.at_least(self, 1, "count")
        checks.between(self, -90, 90, "span")
        checks.rising(self, "span")


@pytest.mark.parametrize(
    "good",
    [{}, {"limit": 1}, {"limit": 0.0}, {"kind": "off"}, {"span": [1, 2]}, {"sizes": [8, 16]}, {"path": Path("x")}, {"span": (2.0, 2.0)}],
)
def test_what_makes_sense_passes_and_is_what_was_given(good):
    taken, usual = vars(Outer(**good)), vars(Outer())
    assert taken == {**usual, **good} and taken.keys() == usual.keys()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": "maybe"}, "--kind must be one of on, off, got 'maybe'"),
        ({"kind": False}, "--kind must be one of on, off, got False"),
        ({"count": 0}, "--count must be at least 1, got 0"),
        ({"count": 2.5}, "--count must be a whole number, got 2.5"),
        ({"count": True}, "--count must be a whole number, got True"),
        ({"count": "9"}, "--count must be a whole number, got '9'"),
        ({"limit": NAN}, "--limit must be finite, got nan"),
        ({"limit": 1.01}, "--limit must lie within 0 and 1, got 1.01"),
        ({"limit": 10**400}, "--limit must be finite, got 1000"),
        ({"limit": "x"}, "--limit must be a number or left out, got 'x'"),
        ({"span": (2.0, 1.0)}, "--span must go from low to high, got 2.0 1.0"),
        ({"span": (0.0, INF)}, "--span must be finite, got 0.0 inf"),
        ({"span": (0.0, 90.0)}, "--span must lie between -90 and 90, both excluded, got 0.0 90.0"),
        ({"span": (0.0,)}, "--span must be 2 numbers, got 0.0"),
        ({"span": 3.0}, "--span must be 2 numbers, got 3.0"),
        ({"sizes": (8, 1.5)}, "--sizes must be whole numbers, got 8 1.5"),
        ({"flag": 1}, "--flag must be true or false, got 1"),
        ({"name": None}, "--name must be text, got None"),
        ({"inner": 3}, "--inner must be one of the class Inner, got 3"),
    ],
)
def test_what_makes_none_is_refused_with_field_and_value(bad, said):
    with pytest.raises(UserError) as e:
        Outer(**bad)
    assert str(e.value).startswith(said) and len(str(e.value).splitlines()) == 1 and len(str(e.value)) < 200 and e.value.code == 2


def test_a_path_is_put_in_front_of_the_field():
    with pytest.raises(BadValue) as e, checks.part("guidance"), checks.part("inner_part"):
        Inner(rate=-1.0)
    assert str(e.value) == "--guidance.inner-part.rate must be above 0, got -1.0" and e.value.owner is Inner


def test_a_number_with_more_digits_than_python_prints_is_shown():
    assert "thousands of digits" in checks.shown(10**6000)
