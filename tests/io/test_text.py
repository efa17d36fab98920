"""Text that is not ours stays text, in every place that puts it into a page, a report or a terminal."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from splatdistill.bench.report import Section, html
from splatdistill.bench.tables import Table
from splatdistill.io.atomic import write_text
from splatdistill.io.html import write_html
from splatdistill.io.text import escape, escape_lines, markdown, printable
from splatdistill.scene.initial import Ball

HOSTILE = [
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "</title><img src=x onerror=alert(1)>", '" onmouseover="alert(1)', "' onfocus='alert(1)",
    "`code` ```block", "![p](http://evil.example/x.png)", "[l](javascript:alert(1))", "<iframe srcdoc=\"<img src=x onerror=parent.document.title='PWNED'>\">",
    "**bold** _it_ ~~no~~", "a | b | c", "# heading", "- item", "1. item", "===", "http://evil.example www.evil.example a@evil.example", "&lt;b&gt; &#60;b&#62; &amp",
    "line\nline", "line\u2028line\u2029line\x85line", "\x1b[2J\x1b]0;title\x07", "a\u202eb\u2066c", "\ud800 \udcff", "\x00\x08\x7f\x9b31m", "{{title}} {data} ${1}", "<!-- <![CDATA[ ]]> -->",
    "\\", "\\<b>\\", "a\u200db \u00a0 \u3000 \U0001f344 \u0416 \u4e2d",
]  # fmt: skip


class Shape(HTMLParser):
    """Tags and attributes' names of a page in order, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, ...]] = []
        self.words: list[str] = []
        self.values: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}",))

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        self.tags.append(("!", data))


def test_printable_spells_out_what_cannot_be_seen_or_encoded():
    assert printable("a \x1b[31m\n\u2028\u202e\ud800 \u00a0\u3000\x9b") == "a \\x1b[31m\\n\\u2028\\u202e\\ud800   \\x9b"
    assert printable("Ω жар 中文 🍄 क्\u200dष") == "Ω жар 中文 🍄 क्\u200dष"


@given(st.text(st.characters(), max_size=60))
def test_printable_is_one_line_that_can_be_encoded_whatever_comes(text):
    line = printable(text)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1 and not re.search(r"[\x00-\x1f\x7f-\x9f]", line) and printable(line) == line
    shape = Shape(f'<p title="{escape(text)}">{escape(text)}</p>')
    assert shape.tags == [("p", "title"), ("/p",)] and shape.values == [line] and "".join(shape.words) == line
    assert Shape(f"<p title='{escape(text)}'>x</p>").values == [line]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_is_words(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    plain = [(t.type, t.tag) for t in parser.parse("word")]
    found = parser.parse(markdown(text))
    assert [(t.type, t.tag) for t in found] == plain
    kinds = {t.type for t in found[1].children}
    assert kinds <= {"text", "text_special"}, kinds
    assert "".join(t.content for t in found[1].children).strip() == printable(text).strip()
    assert not re.search(r"(?<!\\)(://|www\.|@)", markdown(text))
    table = Table(text, ("a", text), ((text, "b"), ("c", "d"))).markdown()
    rows = [t for t in parser.parse(table) if t.type == "inline"]
    assert len(rows) == 7 and all(t.type in ("text", "text_special", "strong_open", "strong_close") for r in rows for t in r.children)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_exported_page_holds_it_as_words(text, tmp_path):
    g = Ball(count=5).make(torch.Generator().manual_seed(0))
    shapes = {}
    for name in ("word", text):
        path = write_html(tmp_path / "page.html", g, [f"prompt {name}", name], name).path
        shapes[name] = Shape(path.read_text(encoding="utf-8"))
    assert shapes[text].tags == shapes["word"].tags
    words = "".join(shapes[text].words)
    assert words.count(printable(text)) >= 4 and f"{printable(text)}: drag to turn" in " ".join(shapes[text].values)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_report_holds_it_as_words(text):
    def page(word: str) -> Shape:
        table = Table(word, ("metric", word), ((word, "1.0"),), (word,))
        return Shape(html(word, [Section(word, word, [table], {word: torch.zeros(3, 4, 4)}, word)]))

    found, plain = page(text), page("word")
    paragraphs = len([p for p in text.split("\n\n") if p])
    assert paragraphs == 1 and [t[0] for t in found.tags] == [t[0] for t in plain.tags]
    assert {name for t in found.tags for name in t[1:]} == {name for t in plain.tags for name in t[1:]} | {"class"}
    assert "".join(found.words).count(escape_and_back(text)) >= 8


def escape_and_back(text: str) -> str:
    """Return the text that a browser shows of the output of `escape_lines`; a title is in one line."""
    return "".join(Shape(escape_lines(text)).words) if "\n" not in text else printable(text.split("\n")[0])


def test_nobody_escapes_by_other_means():
    """One function: html.escape and its like stand in io/text.py and nowhere else."""
    root = Path(__file__).resolve().parents[2]
    sources = [p for folder in ("splatdistill", "viewer", "scripts") for p in (root / folder).rglob("*.py")]
    users = [p.name for p in sources if re.search(r"html\.escape|from html import|xml\.sax|quoteattr|markupsafe", p.read_text(encoding="utf-8"))]
    assert len(sources) > 100 and users == ["text.py"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("größer 画", "größer 画"),
        ("gr\udcc3\udcb6\udcc3\udc9fer", "größer"),  # as a process whose locale is ASCII has it
        ("gr\udcf6\udcdfer ö", "gr\\xf6\\xdfer ö"),  # Latin-1
        ("\ud83d x \udc80", "\\ud83d x \\udc80"),  # no bytes
    ],
)
def test_a_text_file_is_utf8_whatever_a_name_holds(tmp_path, name, written):
    write_text(tmp_path / "a.txt", f"# {name}\n")
    assert (tmp_path / "a.txt").read_bytes().decode("utf-8") == f"# {written}\n"
