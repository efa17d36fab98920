"""Options written inside square brackets, such as NAME[times.t_max=0.5, resolutions=[64, 128], prompt="a cup, red"]."""

import json
import re
from typing import Any

from splatdistill.errors import UserError

QUOTED = r'"(?:[^"\\]|\\.)*"'
PART = re.compile(rf'(?:{QUOTED}|\[(?:{QUOTED}|[^\[\]"])*\]|[^,\[\]"])+')
PIECE = re.compile(rf'(?:{QUOTED}|[^,"])+')
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
WHOLE, NUMBER = re.compile(r"[-+]?\d{1,99}"), re.compile(r"[-+]?(?:\d{1,99}\.?\d{0,99}|\.\d{1,99})(?:[eE][-+]?\d{1,3})?")
BARE = re.compile(r"[\w./~-][\w./~ :@-]*")  # text that needs no quotes


def assignments(inside: str, said: str, form: str) -> list[tuple[str, Any]]:
    """Return dotted paths and their values: true, false, null, numbers, lists of these in brackets, and else text, in quotes where it
    holds commas or brackets. inside: the brackets' content; said: the whole text; form: what was expected. UserError for a part that
    sets nothing.
    """
    found = []
    if PART.sub("", inside).strip(", \n\t"):
        raise UserError(f"{said!r}: its brackets or quotes are not closed; expected {form}")
    for part in filter(None, (piece.strip() for piece in PART.findall(inside))):
        path, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not path:
            raise UserError(f"{said!r}: {part!r} sets no option; expected {form}")
        found.append((path.replace("-", "_"), _value(value)))
    return found


def written(value: Any) -> str:
    """Return a value as `assignments` reads it back."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return value if BARE.fullmatch(value) and _value(value) == value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _value(said: str) -> Any:
    if said.startswith("[") and said.endswith("]"):
        return [_value(piece.strip()) for piece in PIECE.findall(said[1:-1]) if piece.strip()]
    if said.startswith('"'):
        try:
            return json.loads(said)
        except ValueError:
            return said
    if said in WORDS:
        return WORDS[said]
    return int(said) if WHOLE.fullmatch(said) else float(said) if NUMBER.fullmatch(said) else said
