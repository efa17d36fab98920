"""The console that results are told on."""

from rich.console import Console


def speaker() -> Console:
    """Return a console for a run's output: nothing in it is markup, and long lines are left to the terminal."""
    return Console(markup=False, highlight=False, soft_wrap=True)
