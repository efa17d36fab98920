"""Measurements as a table for the screen: a row for each metric, columns in groups that fit, and what measured them below."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from splatdistill.evaluate.measure import NOT_MEASURED, Measured
from splatdistill.evaluate.metrics import METRICS, Measurement

NARROWEST = 8  # of a column's head, which is folded over several lines where it is longer
WIDEST = 20
GAP = "  "


def means(groups: Mapping[str, Sequence[Measured]], metrics: Sequence[str], width: int) -> str:
    """Return a table of the means over the runs of each method."""

    def mean(runs: Sequence[Measured], metric: str) -> Measurement:
        found = [m.of(metric) for m in runs]
        known = [m for m in found if m.value is not None]
        if not known:
            return replace(next((m for m in found if m.note != NOT_MEASURED), found[0]), detail="")
        first = known[0]
        value = sum(m.value or 0.0 for m in known) / len(known)
        return Measurement(metric, value, first.by, first.views, first.resolution, first.background, first.note)

    shown = {name: [mean(runs, metric) for metric in metrics] for name, runs in groups.items()}
    counts = {name: str(len(runs)) for name, runs in groups.items()}
    return columns(shown, metrics, width, "means over runs", counts)


def columns(
    shown: Mapping[str, Sequence[Measurement]], metrics: Sequence[str], width: int, title: str = "", counts: Mapping[str, str] | None = None
) -> str:
    """Return a table of `width` letters at most: a row for each metric that has a value, a column for each name of `shown`, in
    as many groups below each other as it takes. Nothing is cut: long names are folded, and what measured each number, or why
    there is none, stands below.
    """
    by_metric = {name: {m.metric: m for m in own} for name, own in shown.items()}
    rows = [k for k in metrics if any(k in own and own[k].value is not None for own in by_metric.values())]
    first = max((len(METRICS[k].title) for k in rows), default=0)
    first = max(first, len(title), len("runs") if counts else 0)
    cells = {name: [str(own[k]) if k in own else "" for k in rows] for name, own in by_metric.items()}
    wide = {name: max(NARROWEST, *map(len, cells[name]), min(len(name), WIDEST)) for name in cells}
    lines: list[str] = []
    for group in fitting(wide, width - first - len(GAP)):
        heads = [textwrap.wrap(name, wide[name], break_on_hyphens=False) or [""] for name in group]
        for k in range(max(map(len, heads))):
            top = "" if k else title
            lines.append(top.ljust(first) + "".join(GAP + (h[k] if k < len(h) else "").rjust(wide[n]) for n, h in zip(group, heads)))
        if counts:
            lines.append("runs".ljust(first) + "".join(GAP + counts[name].rjust(wide[name]) for name in group))
        for k, metric in enumerate(rows):
            lines.append(METRICS[metric].title.ljust(first) + "".join(GAP + cells[name][k].rjust(wide[name]) for name in group))
        lines.append("")
    return "\n".join([*(line.rstrip() for line in lines), *notes(by_metric, metrics, width)])


def fitting(wide: Mapping[str, int], width: int) -> list[list[str]]:
    """Return names in groups whose columns fit into a width; one that is too wide for it stands alone."""
    groups: list[list[str]] = []
    left = 0
    for name, own in wide.items():
        if not groups or own + len(GAP) > left:
            groups.append([])
            left = width + len(GAP)
        groups[-1].append(name)
        left -= own + len(GAP)
    return groups


def notes(by_metric: Mapping[str, Mapping[str, Measurement]], metrics: Sequence[str], width: int) -> list[str]:
    """Return what measured the numbers, why some are not to be had, and what is to be known of single runs; each said once."""
    said: dict[str, list[str]] = {}  # metrics by what is said of them
    for k in metrics:
        known = {name: own[k] for name, own in by_metric.items() if k in own}
        whole = [m for m in known.values() if m.value is not None]
        provenance = list(dict.fromkeys(m.provenance for m in whole))
        for text in provenance[:1] if len(provenance) == 1 else ():
            said.setdefault(text, []).append(METRICS[k].title)
        for name, m in known.items() if len(provenance) > 1 else ():
            if m.value is not None:
                said.setdefault(f"{m.provenance} ({name})", []).append(METRICS[k].title)
        why = [w for w in dict.fromkeys(m.note for m in known.values() if m.value is None) if w != NOT_MEASURED]
        for text in why:
            missing = [name for name, m in known.items() if m.value is None and m.note == text]
            of = "" if len(missing) == len(by_metric) else f" ({', '.join(missing)})"
            said.setdefault(f"n/a: {text}{of}", []).append(METRICS[k].title)
        for name, m in known.items():
            if m.detail:
                said.setdefault(f"{m.detail} ({name})" if len(by_metric) > 1 else m.detail, []).append(METRICS[k].title)
    lines = [f"{', '.join(titles)}: {text}" for text, titles in said.items() if text]
    return [part for line in lines for part in folded(line, width)]


def folded(text: str, width: int) -> list[str]:
    """Return a note in lines of a width, but for its lines that begin with spaces: those are commands, to be copied whole."""
    first, *others = text.split("\n")
    lines = textwrap.wrap(first, width, subsequent_indent="  ", break_on_hyphens=False)
    for line in others:
        whole = line.startswith(" ")
        lines += [f"  {line}"] if whole else textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return lines
