"""The command line. Subcommands are imported when they are called, so that --help is instant."""

import difflib
import io
import os
import sys
import warnings

from splatdistill import __version__
from splatdistill.errors import UserError, out_of_memory
from splatdistill.shell import as_typed

COMMANDS = {
    "train": "distil a text prompt into Gaussian splats",
    "image": "distil a text prompt into pictures, or into points where every answer is known",
    "amortise": "distil a whole corpus of prompts into one network that makes splats of a text",
    "generate": "splats of a prompt in one pass of such a network",
    "variance": "measure how noisy the methods' gradients are, and from what",
    "evaluate": "measure finished runs as the papers do, and on the toybox against the truth",
    "bench": "compare methods: prompts x guidances x seeds, measured and tabulated",
    "view": "look at runs, checkpoints and .ply files in a browser, and clean them up",
    "render": "films and pictures of finished splats: colour, depth, normals, opacity",
    "export": "finished splats as files for other programs: ply, splat, spz, sog, html, glb, obj, mp4, png",
    "toybox": "what the embedded models know: words, captions, a sheet of pictures",
    "doctor": "backend, device, versions, weights, and how to get the fast path",
}

SPIN = "3000"
"""For how many turns torch's threads wait for each other before they let others work (GNU's OpenMP reads this when torch is
loaded; its own default is a hundred times as many). On two free cores training is as fast as with the default; beside one
busy program, such as a browser, it was 8 times as fast (2.4 against 0.3 steps of SDI a second).
"""

HELP = f"""\
splatdistill {__version__}: 2D diffusion models distilled into 3D Gaussian splats

usage: splatdistill COMMAND [OPTIONS]

  splatdistill train --guidance sdi --prompt "a red mushroom"

commands (each has its own --help):
{chr(10).join(f"  {name:10}{text}" for name, text in COMMANDS.items())}

  -h, --help     show this and exit
  --version      show the version and exit"""


USUAL = warnings.formatwarning


def plainly(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Show a warning of ours, such as of rows that were left out, as its text alone."""
    return f"{message}\n" if category is UserWarning else USUAL(message, category, filename, lineno, line)


def main(argv: list[str] | None = None) -> int:
    """Run a command line; its exit status. What a person can put right is one red message, without a traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    warnings.formatwarning = plainly
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console that is not UTF-8 must not end a run
    try:
        status = dispatch(argv)
        sys.stdout.flush()
        return status
    except UserError as e:
        complain(str(e))
        return e.code
    except (MemoryError, RuntimeError) as e:
        if not out_of_memory(e):
            raise
        complain(f"out of memory: {' '.join(str(e).split())[:200] or 'nothing more is known'}\nTry with less: fewer splats, views or pixels.")
        return UserError.code
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `splatdistill toybox | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def dispatch(argv: list[str]) -> int:
    """Call the subcommand that the first word names."""
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if name in ("--version", "-V"):
        print(f"splatdistill {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean `{as_typed('splatdistill', near[0])}`?" if near else f"expected one of {', '.join(COMMANDS)}."
        what = "a command comes before the option" if name.startswith("-") else "there is no command"
        raise UserError(f"{what} {name!r}: {hint} `splatdistill --help` lists them.")
    if {"-h", "--help"} & set(rest):
        from splatdistill.cli.help import explain

        if explain(name, rest):
            return 0
    if name in ("train", "image"):
        from splatdistill.cli.missing_prompt import need_prompt

        need_prompt(rest, name)  # before the seconds that torch takes to load
    if name == "train" and any(word.startswith("--resume") for word in rest):
        from splatdistill.cli.already_finished import refuse_finished

        refuse_finished(rest)
    if name == "train":
        from splatdistill.cli.train import command
    elif name == "image":
        from splatdistill.cli.image import command
    elif name == "amortise":
        from splatdistill.cli.amortise import command
    elif name == "generate":
        from splatdistill.cli.generate import command
    elif name == "variance":
        from splatdistill.cli.variance import command
    elif name == "evaluate":
        from splatdistill.cli.evaluate import command
    elif name == "bench":
        from splatdistill.cli.bench import command
    elif name == "view":
        from splatdistill.cli.view import command
    elif name == "render":
        from splatdistill.cli.render import command
    elif name == "export":
        from splatdistill.cli.export import command
    elif name == "toybox":
        from splatdistill.cli.toybox import command
    else:
        from splatdistill.cli.doctor import command
    return command(rest)


def complain(message: str) -> None:
    """Print an error message on stderr: its first line in red where there is a terminal."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    first, *others = message.split("\n")
    console.print(f"error: {first}", style="bold red")
    for line in others:
        console.print(line)
