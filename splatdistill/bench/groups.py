"""Prompts that a network was trained on, others, and those that its prior never saw either: each with numbers of its own."""

from collections.abc import Sequence

from splatdistill.bench.measure_jobs import Results
from splatdistill.bench.plan import Arm
from splatdistill.bench.statistics import Values, interval
from splatdistill.bench.tables import Table, heading, notes, number
from splatdistill.errors import UserError
from splatdistill.toybox.captions import parse
from splatdistill.toybox.split import is_held_out

SEEN, NEW, HELD_OUT = GROUPS = ("seen", "new", "held out")
SHOWN = ("iou", "psnr", "r_precision_hard", "r_precision", "diverged")


def group_of(prompt: str, corpus: Sequence[str]) -> str:
    """Return the group of a prompt. corpus: of a network."""
    if prompt in corpus:
        return SEEN
    try:
        return HELD_OUT if is_held_out(parse(prompt)) else NEW
    except UserError:  # not of the toybox
        return NEW


def of_group(values: Values, group: str, corpus: Sequence[str]) -> Values:
    """Return the values of the prompts of a group."""
    return {(p, s): v for (p, s), v in values.items() if group_of(p, corpus) == group}


def by_group(results: Results, arms: Sequence[Arm]) -> list[Table]:
    """Return a table of each metric, a row for each method, a column for each group; [] where no method has a network. Prompts of a
    method without one stand in the groups that they have for all networks together.
    """
    every = list(dict.fromkeys(p for arm in arms if arm.network for p in arm.network.corpus))
    if not every:
        return []
    made = []
    for metric in SHOWN:
        rows = []
        for arm in arms:
            values = results.values(metric, arm.name)
            corpus = arm.network.corpus if arm.network else every
            rows.append((arm.name, *(cell(of_group(values, group, corpus), metric) for group in GROUPS)))
        if any(c != "-" for row in rows for c in row[1:]):
            told = ("Means over prompts of means over seeds; 95 % intervals of a bootstrap over prompts and, within them, seeds.", *notes(results, [metric]))
            made.append(Table(f"{heading(metric)}, by what the network has seen", ("method", *GROUPS), tuple(rows), told))
    return made


def cell(values: Values, metric: str) -> str:
    """Return a mean, its interval, and the prompts that it is of; - where there are none."""
    if not values:
        return "-"
    mean, low, high = interval(values)
    within = f" [{number(low, metric)}, {number(high, metric)}]" if low is not None and high is not None else ""
    return f"{number(mean, metric)}{within} ({len({p for p, _ in values})})"
