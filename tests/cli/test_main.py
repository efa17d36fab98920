"""The command line's front: instant help, clear refusals, tracebacks for bugs alone."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from splatdistill import cli
from splatdistill.cli import main


def fresh(*args: str, **more) -> subprocess.CompletedProcess:
    """Run a command line in a process of its own."""
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=ROOT, timeout=300, **more)


@pytest.mark.parametrize("words", ["['--help']", "['--version']", "[]", "['trian']", "['train']"])
def test_what_needs_no_torch_does_not_load_it(words):
    loaded = "sorted({'torch', 'numba', 'diffusers', 'jaxtyping'} & {*sys.modules})"
    code = f"import sys; from splatdistill.cli import main; main({words}); print({loaded})"
    assert fresh("-c", code).stdout.splitlines()[-1] == "[]"


def test_importing_the_package_is_light_and_its_names_are_there():
    names = "all(hasattr(splatdistill, n) for n in splatdistill.__all__)"
    code = f"import sys, splatdistill; print('torch' in sys.modules, {names})"
    assert fresh("-c", code).stdout.split() == ["False", "True"]


def test_unknown_names_of_the_package_are_attribute_errors():
    import splatdistill

    assert not hasattr(splatdistill, "distill") and "distil" in dir(splatdistill)


def test_help_names_every_command_and_no_other(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    listed = [
        line.split()[0]
        for line in text[text.index("commands") :].splitlines()[1:]
        if line.startswith("  ") and not line.strip().startswith("-")
    ]
    assert listed == list(cli.COMMANDS) == ["train", "image", "amortise", "generate", "variance", "evaluate", "bench", "view", "render", "export", "toybox", "doctor"]


def test_python_m_splatdistill():
    done = fresh("-m", "splatdistill", "--version")
    assert done.returncode == 0 and done.stdout.startswith("splatdistill ")


def test_a_misspelt_command_is_told_the_right_one(capsys):
    assert main(["trian"]) == 2
    assert "did you mean `splatdistill train`" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--steps", "3"], ["--guidance", "sdi"]])
def test_train_without_a_prompt_offers_three(argv, capsys):
    assert main(["train", *argv]) == 2
    offers = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.strip().startswith("splatdistill train --guidance sdi --prompt")
    ]
    assert len(offers) == 3


def test_offers_are_captions_of_the_toybox():
    from splatdistill.cli.missing_prompt import OFFERS
    from splatdistill.toybox import parse

    assert [str(parse(p)) for p in OFFERS] == list(OFFERS)


def test_a_bare_prompt_is_told_where_it_belongs(capsys):
    assert main(["train", "a red mushroom"]) == 2
    assert "'a red mushroom' belongs behind --prompt" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(argv):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "dispatch", broken)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m splatdistill toybox --captions | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.stdout == "a red snowman\n" and "Traceback" not in done.stderr


@pytest.mark.parametrize(("own", "is_so"), [({}, "3000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "active"}, "None")])
def test_threads_wait_patiently_unless_told_otherwise(own, is_so):
    told = "import os, sys; from splatdistill.cli import main; main(['--version']); print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    out = subprocess.run([sys.executable, "-c", told], env=clean | own, capture_output=True, text=True, check=True).stdout
    assert out.split()[-2:] == [is_so, "False"], "torch reads it when it is loaded"
