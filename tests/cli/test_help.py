"""--help comes from a table, before torch is loaded, and says what the classes say."""

import json
import subprocess
import sys

import pytest
import tyro

from splatdistill.cli import help as instant
from splatdistill.cli import options, train
from splatdistill.guidance import GUIDANCES


@pytest.fixture(scope="module")
def described():
    return json.loads(json.dumps(options.described()))


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    monkeypatch.setattr(instant, "CARDS", ())
    monkeypatch.delenv("SPLATDISTILL_PRIOR", raising=False)


def said(capsys, what) -> str:
    try:
        what()
    except SystemExit as end:
        assert not end.code
    return capsys.readouterr().out


def words(text: str) -> list[str]:
    """Return the words of a help: from a source tyro keeps a break of lines before a word that begins with no letter."""
    return text.replace("│", " ").split()


def test_the_table_is_what_the_classes_make(described):
    assert json.loads(instant.TABLE.read_text(encoding="utf-8")) == described, "run python scripts/write_options.py"


@pytest.mark.parametrize("name", [*options.CLASSES])
def test_the_table_says_what_a_subcommand_says(name, capsys):
    kind, marks = options.CLASSES[name]
    config = tuple(getattr(tyro.conf, m) for m in marks)
    real = said(capsys, lambda: tyro.cli(kind, args=["--help"], prog=f"splatdistill {name}", config=config))
    assert words(said(capsys, lambda: instant.explain(name, ["--help"]))) == words(real) and "--help" in real


@pytest.mark.parametrize("argv", [[f"--guidance={name}"] for name in GUIDANCES] + [["--init", "file", "--densify=gradient"]], ids=str)
def test_the_table_says_what_train_says_with_a_recipe(argv, capsys):
    argv = [*argv, "--prior", "tiny", "--help"]
    assert words(said(capsys, lambda: instant.explain("train", argv))) == words(said(capsys, lambda: train.explain(argv)))


def test_a_file_of_options_is_read_before_help_is_said(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("steps: 12345\nguidance: {name: csd}\n", encoding="utf-8")
    told = said(capsys, lambda: instant.explain("train", ["--config", str(tmp_path / "mine.yaml"), "--help"]))
    assert "12345" in told and "--guidance.k-c" in told


def test_a_help_breaks_lines_at_the_terminals_end_only(described):
    told = [row["help"] for kind in described["classes"].values() for row in kind["fields"]]
    assert len(told) > 200 and not [text for text in told if "\n" in text]


@pytest.mark.parametrize("argv", [["--guidance", "mine.py:Mine"], ["--prior", "some/weights"]])
def test_what_the_table_cannot_say_is_left_to_the_subcommand(argv, capsys):
    assert not instant.explain("train", [*argv, "--help"])


@pytest.mark.parametrize("name", [*options.CLASSES, *options.CONFIGURED])
def test_help_loads_no_torch(name):
    code = f"import sys; from splatdistill.cli import main; main([{name!r}, '--help']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.strip() == "False" and f"splatdistill {name}" in done.stdout
