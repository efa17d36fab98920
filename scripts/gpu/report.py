"""Tables of what the parts found, as Markdown."""

from collections.abc import Mapping
from typing import Any


def tables(whole: Mapping[str, Any]) -> str:
    """Return all tables; of parts that were not run, none."""
    lines = ["# Measured on a GPU", ""]
    for name, found in whole.items():
        lines += [f"## {name}", ""]
        if said := found.get("failed"):
            lines += [f"It failed: {said}", ""]
        simple = {k: v for k, v in found.items() if not isinstance(v, (dict, list)) and k != "failed"}
        if simple:
            lines += [*table(("", ""), [(k, shown(v)) for k, v in simple.items()]), ""]
        for key, value in found.items():
            if isinstance(value, dict) and value:
                lines += [f"### {key}", "", *of_rows(value), ""]
    return "\n".join(lines).rstrip() + "\n"


def of_rows(rows: Mapping[str, Any]) -> list[str]:
    """Return one table: of rows of numbers, or of numbers."""
    if not any(isinstance(v, dict) for v in rows.values()):
        return table(("", ""), [(k, shown(v)) for k, v in rows.items()])
    wide: dict[str, dict[str, Any]] = {k: v if isinstance(v, dict) else {"": v} for k, v in rows.items()}
    columns = list(dict.fromkeys(c for v in wide.values() for c, inner in v.items() if not isinstance(inner, dict)))
    return table(("", *columns), [(k, *(shown(v.get(c, "")) for c in columns)) for k, v in wide.items()])


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)]


def shown(value: Any) -> str:
    """Return a number to three digits; anything else as it is."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
