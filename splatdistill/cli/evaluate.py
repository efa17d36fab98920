"""splatdistill evaluate: finished runs measured as the papers measure theirs, and on the toybox against the truth."""

from typing import TYPE_CHECKING

from splatdistill.evaluate.options import Evaluate
from splatdistill.settings.command_line import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from splatdistill.evaluate.evaluation import Evaluation
    from splatdistill.evaluate.measure import Measured

FEW = 6  # runs whose numbers are shown one by one


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = command_line(Evaluate, argv, "splatdistill evaluate")
    from splatdistill.cli.console import speaker
    from splatdistill.evaluate.evaluation import evaluate, write_csv, write_json
    from splatdistill.train.progress import telling

    console = speaker()
    found = evaluate(options, telling(console))
    for note in found.notes:
        console.print(note, style="yellow")
    show(found, bool(options.samples), console)
    if options.json:
        write_json(options.json, options, found)
    if options.csv:
        write_csv(options.csv, found)
    return 0


def show(found: "Evaluation", samples: bool, console: "Console") -> None:
    """Print tables: few runs one by one, many as means by method; then what takes several runs of a method."""
    from splatdistill.evaluate.metrics import METRICS
    from splatdistill.evaluate.tables import columns, means

    if len(found.measured) <= FEW:
        for name, m in names(found.measured).items():
            console.print(f"{name}: {m.run.prompt!r} by {m.run.guidance}, seed {m.run.seed}, in {m.run.path}", style="bold")
        shown = {name: list(m.measurements) for name, m in names(found.measured).items()}
        console.print(columns(shown, tuple(METRICS), console.width))
    else:
        console.print(means(found.groups, tuple(METRICS), console.width))
    shown = {name: own for name, own in found.together.items() if samples or any(m.value is not None for m in own)}
    if shown:
        told = ", ".join(f"{len(found.groups[name])} of {name}" for name in shown)
        console.print(f"\nruns together: {told}", style="bold")
        console.print(columns(shown, ("fid", "diversity"), console.width))


def names(runs: "list[Measured]") -> "dict[str, Measured]":
    """Return runs by names for the heads of columns: their folders, with as many of those above as tell them apart."""
    parts = [m.run.path.resolve().parts for m in runs]
    depth = next((d for d in range(1, 9) if len({p[-d:] for p in parts}) == len(parts)), 9)
    return {"/".join(p[-depth:]): m for p, m in zip(parts, runs, strict=True)}
