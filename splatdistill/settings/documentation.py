"""Read the sentences under the fields of a dataclass, which are the help of its options."""

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from functools import cache

TOLD = "__told__"  # attribute of a class that was made without source, and says its documentation itself


@cache
def documentation(kind: type) -> dict[str, str]:
    """Return the docstrings under the fields of a dataclass, its bases' included; nothing where there is no source."""
    if TOLD in vars(kind):
        return vars(kind)[TOLD]
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
        for field, text in zip(body, body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = paragraphs(str(text.value.value))
    return found


def paragraphs(text: str) -> str:
    """Return a docstring with each paragraph in one line: a help breaks lines where its terminal ends, not where the source does."""
    return "\n\n".join(" ".join(p.split()) for p in inspect.cleandoc(text).split("\n\n"))
