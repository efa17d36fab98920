"""The README files: their links lead somewhere, their tables are tables, their commands are read, and nothing is left out."""

import re
from pathlib import Path

import pytest
from commands import parsed, stopping
from conftest import ROOT
from documents import DOCUMENTS, anchors, block_commands, inline_commands, links, name_of, tables, without_code

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
    prose = without_code(text)
    assert text.count("```") % 2 == 0 and len(re.findall(r"^\$\$", prose, re.MULTILINE)) % 2 == 0
    for formula in re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL):
        assert formula.count("{") == formula.count("}") and "\\operatorname" not in formula, formula  # GitHub refuses that macro
        assert formula.count(r"\left") == formula.count(r"\right") and "\n\n" not in formula, formula


COMMANDS = [(document, line) for document, text in TEXTS.items() if document != "README.md" for line in (*block_commands(text), *inline_commands(text))]
"""The main README's are read, and run, by test_readme.py."""


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{d}: {line[:70]}" for d, line in COMMANDS])
def test_commands_are_read_by_their_parsers(document, line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = re.sub(r"(?<![\w])NAME(?![\w])", "sds", line)
    if re.search(r" --(?:resume|config|refine|replay|init) \S+", line):
        line = re.sub(r" --(?:resume|config|refine|replay|init) \S+", "", line)  # files that are not there
        if "--prompt" not in line and "splatdistill train" in line:
            line += " --prompt x"
    with stopping(monkeypatch):
        assert parsed(line) >= 1


def first_cells(document: str) -> set[str]:
    """Everything that stands in the first column of the document's tables."""
    return {row[0] for table in tables(TEXTS[document]) for row in table[2:]}


def test_every_script_is_in_the_table_of_scripts():
    named = " ".join(first_cells("scripts/README.md"))
    scripts = {p.name for p in (ROOT / "scripts").glob("*.py")}
    assert {s for s in scripts if f"({s})" not in named} == set()
    assert set(re.findall(r"\((\w+\.py)\)", named)) == scripts
