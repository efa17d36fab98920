"""Markdown of the repository, taken apart: links, headings, tables, code, and the commands in it."""

import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

FOLDERS = ("configs", "scripts", "splatdistill", "tests", "viewer")
DOCUMENTS = sorted([ROOT / "README.md", *(p for folder in FOLDERS for p in (ROOT / folder).rglob("README.md"))])
COMMAND = re.compile(r"(?:splatdistill|python scripts/|pip install|pytest|hf)\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """Return the text without fenced, indented and quoted code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4,}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def links(text: str) -> Iterator[str]:
    """Yield targets of links and pictures."""
    for found in re.finditer(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)", without_code(text)):
        yield found.group(1)


def anchors(text: str) -> set[str]:
    """Return names by which GitHub knows the headings of a text."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        repeated = sum(f == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", f) is not None for f in found)
        found.append(f"{slug}-{repeated}" if repeated else slug)
    return set(found)


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the tables, as rows of cells; the second row is the line of dashes."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        yield [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in block.strip().splitlines()]


def fenced(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def block_commands(text: str) -> Iterator[str]:
    """Yield the commands that stand on lines of their own, indented by four, in order; with what goes on, indented further, below them."""
    text = re.sub(r"\n {8,}", " ", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE):
        if COMMAND.match(line):
            yield line


def inline_commands(text: str) -> Iterator[str]:
    """Yield the commands with words behind them that are quoted in the text."""
    for quoted in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        if COMMAND.match(quoted) and " " in quoted.strip():
            yield quoted


MEANT = {"--guidance NAME": "--guidance sds", "--phases NAME": "--phases coarse", "--phase NAME": "--phase detail", "--guidances NAME": "--guidances sds", "--preset NAME": "--preset gallery", "TEXT": '"a red mushroom"', "N": "8", "S": "3", "K": "48", "RUN|FILE": "RUN"}


def spelt_out(line: str) -> list[str]:
    """Return a command as it is; for a synopsis the commands that it stands for, with all optional parts: one for each
    alternative between words, and of those inside a word the first.
    """
    bare = re.sub(r'"[^"]*"', "", line)
    synopsis = any(mark in bare for mark in ("[", "|", "..."))
    line = re.sub(r"[\[\]]", "", line.replace("...", "")) if synopsis else line
    for placeholder, meant in MEANT.items():
        line = re.sub(rf"(?<![\w.]){re.escape(placeholder)}(?![\w.|])", meant, line)
    if not synopsis:
        return [line]
    head, _, rest = line.partition(" --")
    first, bar, second = rest.partition(" | ")
    alternatives = [f"--{first}", second.partition(" --seeds")[0]] if bar else [f"--{rest}" if rest else ""]
    tail = " --seeds" + second.partition(" --seeds")[2] if bar else ""
    return [re.sub(r"(?<=[\w.])\|[\w.:|-]+", "", f"{head} {a}{tail}") for a in alternatives]
