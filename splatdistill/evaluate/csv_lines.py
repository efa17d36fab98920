"""Measurements as CSV, which spreadsheets read."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from splatdistill.evaluate.metrics import Measurement

COLUMNS = ("arm", "prompt", "seed", "ended", "metric", "value", "by", "views", "resolution", "background", "note")


def cells(m: Measurement) -> tuple[Any, ...]:
    """Return a measurement's own columns: from `metric` on. n/a is an empty value with a note."""
    value = "" if m.value is None else repr(m.value)
    return (m.metric, value, m.by, m.views, m.resolution, m.background, m.note)


def as_lines(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a head and its rows as CSV."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([safe(v) if isinstance(v, str) else v for v in row] for row in rows)
    return out.getvalue()


def safe(text: str) -> str:
    """Return text that a spreadsheet takes for text and not for a formula; numbers stay as they are."""
    if text[:1] not in ("=", "+", "-", "@", "\t", "\r"):
        return text
    try:
        float(text)
        return text
    except ValueError:
        return f"'{text}"
