"""Choices between classes: by name, and from a file of one's own."""

import pytest

from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES, SDS
from splatdistill.settings.classes import Choice
from splatdistill.settings.commands import CHOICES

GUIDANCE = CHOICES[0]
FILE = """
from dataclasses import dataclass
from splatdistill.guidance import SDS, Guidance

@dataclass(frozen=True)
class Mine(SDS):
    '''A method of one's own.'''
    strength: float = 0.5
    '''How strong.'''

class Plain(SDS):
    def residual(self, view, n, answers, memory):
        return -super().residual(view, n, answers, memory)

class Forgotten(SDS):
    strength: float = 0.5

@dataclass(frozen=True, kw_only=True)
class Hungry(SDS):
    food: float

    def residual(self, view, n, answers, memory):
        return n.eps

@dataclass(frozen=True)
class Empty(Guidance):
    pass

class Other:
    pass
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    return tmp_path / "own.py"


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: c.field)
def test_every_name_finds_its_class_and_back(choice: Choice):
    assert choice.names
    for name, kind in choice.names.items():
        assert choice.find(name) is kind and choice.spell(kind) == name and issubclass(kind, choice.base)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(UserError, match="Did you mean --guidance sdi"):
        GUIDANCE.find("sdii")
    with pytest.raises(UserError, match="Did you mean --guidance sds or sdi\\?"):  # both as near, and vsd no nearer
        GUIDANCE.find("sdx")


@pytest.mark.parametrize("name", ["Mine", "Plain"])
def test_a_class_from_a_file_is_found_and_spelt(own, name):
    kind = GUIDANCE.find(f"{own}:{name}")
    assert issubclass(kind, SDS) and kind.__name__ == name
    assert GUIDANCE.find(GUIDANCE.spell(kind)) is kind
    assert GUIDANCE.ancestry(kind) == ["sds"]


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("nowhere.py:Mine", "there is no file"),
        ("own.py", "has no class ''; it has Mine, Plain, Forgotten, Hungry, Empty"),
        ("own.py:Nobody", "has no class 'Nobody'; it has Mine"),
        ("own.py:SDS_", "has no class"),
        ("own.py:Other", "Other is no Guidance"),
        ("own.py:Empty", "does not define ask, predict, residual"),
        ("own.py:Forgotten", "is not a dataclass"),
        ("own.py:Hungry", "every field needs a default; food"),
    ],
)
def test_what_cannot_serve_is_refused_with_the_reason(own, monkeypatch, spelling, message):
    monkeypatch.chdir(own.parent)
    with pytest.raises(UserError, match=message):
        GUIDANCE.find(spelling)


def test_an_error_inside_the_file_is_its_own_and_is_not_remembered(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        GUIDANCE.find(f"{file}:Mine")
    file.write_text(FILE, encoding="utf-8")
    assert GUIDANCE.find(f"{file}:Mine").__name__ == "Mine"


def test_a_class_that_has_no_file_is_spelt_as_such():
    kind = type("Typed", (SDS,), {"__module__": "__main__"})
    assert kind not in GUIDANCES.values() and "Typed" in GUIDANCE.spell(kind)
