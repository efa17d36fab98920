"""splatdistill variance: how noisy the gradients of several methods are on the same scenes, from what, and how biased."""

from pathlib import Path
from typing import TYPE_CHECKING

from splatdistill.evaluate.variance.options import Variance
from splatdistill.settings.command_line import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from splatdistill.evaluate.variance.report import Report


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = command_line(Variance, argv, "splatdistill variance")
    from splatdistill.cli.console import speaker
    from splatdistill.evaluate.variance.experiment import conduct, prepare
    from splatdistill.train.progress import telling
    from splatdistill.train.run import RunDir, slug

    console, experiment = speaker(), prepare(options)
    if experiment.notice:
        console.print(experiment.notice, style="bold yellow")
    folder = RunDir.create(experiment.prompt, options.out or Path("runs") / f"variance-{slug(experiment.prompt)}")
    show(conduct(experiment, folder, telling(console)), console)
    console.print(f"  {'record':10}{folder.path / 'variance.json'}\n  {'charts':10}{folder.path}/*.png")
    return 0


def show(report: "Report", console: "Console") -> None:
    """Print tables for the screen, one for each scene and space."""
    from splatdistill.evaluate.variance.statistics import SOURCES, SPACES

    told = ", ".join(f"{k} {v}" for k, v in report.matched.items()) if report.matched else "each method as its recipe has it"
    drawn = " x ".join(f"{v} {k}" for k, v in report.design.items())
    console.print(f"{report.prompt!r} with the prior {report.prior}; {drawn}; {told}")
    wide = max(len(row.name) for row in report.rows) + 2
    for k, scene in enumerate(report.scenes):
        for space in SPACES:
            shown = SOURCES[:-1] if space == "latents" else SOURCES  # there each camera has a space of its own
            console.print(f"\n{space}, step {scene.step} of {scene.run}, {scene.splats} splats", style="bold")
            heads = f"{'images':>7}  {'variance / mean^2':24}{'x images':>9}  {'against the first':22}"
            console.print(f"  {'':{wide}}{heads}{''.join(f'{s:>8}' for s in shown)}  {'cosine to KL':21}{'bias':>6}")
            for row in (r for r in report.rows if r.scene == k):
                f = row.of(space)
                parts = "".join(f"{'?' if (v := f.shares[s].value) is None else f'{v:.0%}':>8}" for s in shown)
                numbers = f"{row.calls:7.3g}  {f.ratio!s:24}{short_of(f.per_call.value):>9}  {f.against_first!s:22}"
                name = row.name + (" *" if row.alone else "")
                console.print(f"  {name:{wide}}{numbers}{parts}  {f.cosine!s:21}{short_of(f.bias.value):>6}")
    if any(r.alone for r in report.rows):
        console.print("* measured one view at a time, without what views of one batch do to each other")


def short_of(value: float | None) -> str:
    """Return a number without its interval."""
    return "?" if value is None else f"{value:.3g}"
