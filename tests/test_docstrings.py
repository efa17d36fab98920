"""Docstrings of functions and properties begin with an imperative verb, those of classes with the noun that names the thing.

Ruff's D401 knows only some verbs and takes most other words for one; here a word counts only if it is in IMPERATIVES.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("splatdistill", "viewer", "scripts", "tests")
IMPERATIVES = """
accept add advance answer append apply ask assert assign begin build call change chart check choose clamp clear clip close collect combine compare
compile compose composite compute construct convert copy count create cut damage delete densify describe detach disable discard distil
download draw drop encode end evaluate exit expand export fill find finish flush format generate group guard handle hash hide ignore import
initialise insert install interpolate invert join judge keep kill launch limit list load lock log lower make map mask measure merge move
multiply name normalise open order pack pad parse pass pause permute place prefetch prefix prepare press print project prune publish push
put quantise queue raise rasterise read record reduce refine refuse register release remove rename render repeat replace report require
reserve reset resize resolve restore resume retrieve return rewrite rotate round run sample save scale scan search seed select send serve
set shade shorten show shrink skip sort split start step stop store strip submit subtract sum suppress switch take time trace train
transform translate transpose trim truncate try turn undo update upload use validate verify wait warm warn write yield zero
"""
VERBS = frozenset(IMPERATIVES.split())
NO_NOUNS = {"a", "an", "the", "one", "what", "whether", "how", "where", "which", "who", "whom", "whose", "why"}


def misnamed(source: str) -> Iterator[str]:
    """Yield the first words that are none of the rule, with their lines; docstrings of tests state what holds, and are free."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or not (text := ast.get_docstring(node)):
            continue
        first = re.split(r"[ :,;.\n]", text)[0]
        if isinstance(node, ast.ClassDef):
            if first.lower() in NO_NOUNS:
                yield f"{node.lineno}: class {node.name}: {first!r}; expected the noun that says what it is, without article"
        elif not node.name.startswith("test_") and (first.lower() not in VERBS or not first[0].isupper()):
            yield f"{node.lineno}: {node.name}: {first!r}; expected an imperative verb (add it to IMPERATIVES in tests/test_docstrings.py if it is one)"


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_as_the_rule_says(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in misnamed(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('def f():\n    """Return a number."""', 0),
        ('def f():\n    """The number of splats."""', 1),
        ('def f():\n    """alpha_t and sigma_t."""', 1),
        ('def f():\n    """Whether it is there."""', 1),
        ('class C:\n    @property\n    def f(self):\n        """Degrees."""', 1),
        ('class C:\n    """Console for a run\'s output."""', 0),
        ('class C:\n    """A console."""', 1),
        ('class C:\n    """Where a run speaks to."""', 1),
        ('def test_f():\n    """The number is kept."""', 0),
        ("def f(): ...", 0),
    ],
)
def test_the_rule_itself(source, wrong):
    assert len(list(misnamed(source))) == wrong
