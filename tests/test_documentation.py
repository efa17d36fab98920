"""The README files: their links lead somewhere, their tables are tables, their commands are read, and nothing is left out."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest
from commands import parsed, stopping
from conftest import ROOT
from documents import DOCUMENTS, anchors, block_commands, fenced, inline_commands, links, name_of, spelt_out, tables, without_code

from splatdistill import cli
from splatdistill.bench.preset import presets
from splatdistill.guidance import GUIDANCES
from splatdistill.settings.commands import CHOICES, parse_train

TEXTS = {name_of(path): path.read_text(encoding="utf-8") for path in DOCUMENTS}


def broken(path: Path, target: str, text: str) -> str:
    """Return the fault of a link in a document, or nothing. No page of the web is asked for."""
    if "://" in target:
        return "" if re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", target) else "is no https address"
    file, _, anchor = target.partition("#")
    there = (path.parent / file).resolve() if file else path
    if not there.is_relative_to(ROOT) or not there.exists():
        return "leads nowhere"
    if anchor and anchor not in anchors(text if there == path else there.read_text(encoding="utf-8")):
        return "names a heading that is not there"
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    assert [(t, why) for t in links(text) if (why := broken(path, t, text))] == []


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("#a-b", ""),
        ("#a-b-1", ""),
        ("#a-c", "names a heading that is not there"),
        ("pyproject.toml", ""),
        ("nothing.md", "leads nowhere"),
        ("../outside.md", "leads nowhere"),
        ("http://arxiv.org", "is no https address"),
        ("https://arxiv.org/abs/2209.14988", ""),
    ],
)
def test_the_check_of_links_sees_what_is_broken(target, why):
    text = f"## A, `b`!\n\n[x]({target}) and `[y](nothing)`\n\n## A b\n"
    assert list(links(text)) == [target]
    assert broken(ROOT / "README.md", target, text) == why


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_tables_and_formulas_are_whole(path):
    text = path.read_text(encoding="utf-8")
    for table in tables(re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        assert len(table) > 2 and all(re.fullmatch(r":?-+:?", cell) for cell in table[1]), table[0]
        assert {len(row) for row in table} == {len(table[0])}, f"rows of different lengths: {[r for r in table if len(r) != len(table[0])]}"
    assert text.count("```") % 2 == 0
    formulas = [*fenced(text, "math"), *re.findall(r"(?<!\$)\$([^$\n]+)\$(?!\$)", without_code(text))]
    assert "$$" not in text, "GitHub takes backslashes out of such formulas; put them into a block of math"
    for formula in formulas:
        assert formula.count("{") == formula.count("}") and "\\operatorname" not in formula, formula  # GitHub refuses that macro
        assert len(re.findall(r"\\left(?![a-z])", formula)) == len(re.findall(r"\\right(?![a-z])", formula)), formula


COMMANDS = [(document, line) for document, text in TEXTS.items() for line in (*block_commands(text), *inline_commands(text))]


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d}: {line[:70]}" for d, line in COMMANDS])
def test_commands_are_read_by_their_parsers(document, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in spelt_out(line):
        command = re.sub(r" --\w+ \S+\.py:\S+ .*", "", command)  # test_extending.py has a file of one's own
        command = re.sub(r"--prior \S+/\S+ --prompt \".*\"", '--prior tiny --prompt "a red mushroom"', command)
        command, files = re.subn(r" --(?:resume|config|refine|replay|init|phase) \S+", "", command)  # which are not there
        if files and command.startswith("splatdistill train") and "--prompt" not in command:
            command += ' --prompt "a red mushroom"'
        with stopping(monkeypatch):
            assert parsed(command) >= 1


def test_options_that_are_named_exist(capsys):
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
    known = capsys.readouterr().out + "--no-matched --help --index-url --guidance.strength --densify.count"
    known += "".join(f"--{c.field}.{f.name} " for c in CHOICES for kind in c.names.values() for f in dataclasses.fields(kind))
    known += "".join(p.read_text(encoding="utf-8") for p in (ROOT / "scripts").rglob("*.py"))
    for document, text in TEXTS.items():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z.-]*[a-z]", re.sub(r"`(?:hf|pytest) [^`]*`|^    hf .*$|^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
            assert option in known, (document, option)


def first_cells(document: str) -> set[str]:
    """Return the cells of the first column of the document's tables."""
    return {row[0] for table in tables(TEXTS[document]) for row in table[2:]}


def test_every_script_is_in_the_table_of_scripts():
    named = " ".join(first_cells("scripts/README.md"))
    scripts = {p.name for p in (ROOT / "scripts").glob("*.py")}
    assert {s for s in scripts if f"({s})" not in named} == set()
    assert set(re.findall(r"\((\w+\.py)\)", named)) == scripts


def test_every_preset_is_in_the_table_of_configs():
    assert {c for c in first_cells("configs/README.md") if "(bench/" in c} == {f"[{name}](bench/{name}.yaml)" for name in presets()}


def test_every_method_has_a_section_with_its_equation_its_paper_and_its_file():
    text = TEXTS["splatdistill/guidance/README.md"]
    sections = {s.partition("\n")[0].lower(): s for s in text.split("\n## ")[1:]}
    assert GUIDANCES.keys() <= sections.keys()
    for name, method in GUIDANCES.items():
        section = sections[name]
        assert len(fenced(section, "math")) == 1 and f"({name}.py)" in section and "https://arxiv.org/abs/" in section, name
        assert all(f"**{part}**" in section.replace(".**", "**") for part in ("Idea", "When", "Options", "Cost", "Measured")), name
        (papers,) = [set(re.findall(r"arXiv:(\d{4}\.\d{5})", method.__doc__ or ""))]
        assert papers & set(re.findall(r"abs/(\d{4}\.\d{5})", section)), name


def test_every_method_is_in_the_readme_and_in_the_table_of_recipes():
    assert {f"`{name}`" for name in GUIDANCES} <= first_cells("README.md")
    steps = {row[0]: row[1:] for table in tables(TEXTS["configs/README.md"]) for row in table[2:] if row[0] in GUIDANCES}
    assert steps.keys() == GUIDANCES.keys()
    for name, cells in steps.items():
        for family, cell in zip(("world", "tiny", "sd"), cells, strict=True):
            config = parse_train(["--guidance", name, "--prompt", "x"], lambda source, family=family: family).config
            assert cell == f"{config.steps:,}, {config.batch}", (name, family)


@pytest.mark.parametrize("name", GUIDANCES)
def test_options_of_a_method_are_told_with_their_defaults(name):
    (section,) = [s for s in TEXTS["splatdistill/guidance/README.md"].split("\n## ") if s.lower().startswith(f"{name}\n")]
    options = section.partition("**Options.**")[2].partition("**Cost.**")[0]
    fields = {f.name for f in dataclasses.fields(GUIDANCES[name])}
    told = {n for n in re.findall(r"`([a-z_]+)[`.]", options) if n != "variant"}
    values = {v for f in dataclasses.fields(GUIDANCES[name]) for v in words_of(f.type)}
    assert told and told - values <= fields, told - values - fields
    for field, number in re.findall(r"`([a-z_]+)` (-?\d[\d.e-]*\d|\d)(?![\d.])", options):
        assert GUIDANCES[name]().value(field) == float(number), (field, number)


def test_the_file_of_settings_is_read(tmp_path):
    (source,) = fenced(TEXTS["configs/README.md"], "yaml")
    (tmp_path / "mine.yaml").write_text(source, encoding="utf-8")
    config = parse_train(["--config", str(tmp_path / "mine.yaml")], lambda source: "tiny").config
    assert (config.prompt, config.steps) == ("a red mushroom", 400)
    assert (type(config.guidance), config.guidance.scale, config.guidance.times.t_min) == (GUIDANCES["sdi"], 9.0, 0.1)


def words_of(annotation: object) -> set[str]:
    """Return the words that a field's type allows."""
    return {w for w in typing.get_args(annotation) if isinstance(w, str)} | {w for a in typing.get_args(annotation) for w in words_of(a)}
