"""Files of prompts."""

import json
from pathlib import Path

from splatdistill.errors import UserError


def prompts_of(path: Path) -> tuple[str, ...]:
    """Read a file of prompts, each once: one a line (those that begin with # are comments), or JSON: a list, or an object of
    lists such as train and test.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            said = json.loads(text)
            lists = said.values() if isinstance(said, dict) else [said]
            found = [p for one in lists if isinstance(one, list) for p in one]
        else:
            found = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    except OSError as e:
        raise UserError(f"could not read {path}: {e.strerror or e}; expected a file of prompts, one a line") from e
    except ValueError as e:
        raise UserError(f"{path} holds no prompts: {e}; expected one a line, or JSON lists of texts") from e
    if not all(isinstance(p, str) for p in found) or not any(p.strip() for p in found):
        raise UserError(f"{path} holds no prompts; expected one a line, or JSON lists of texts")
    return tuple(dict.fromkeys(p.strip() for p in found if p.strip()))
