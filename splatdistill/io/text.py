"""Text that is not ours, made safe for where it goes: a terminal, a label, HTML, SVG, Markdown.

File names, prompts, captions and messages of other programs may hold anything: tags, quotes, control characters that move
a terminal's cursor, marks that turn the direction of writing, lone surrogates (bytes of a file name that are no UTF-8)
that cannot be encoded at all. Whatever puts such text into a page, a report or a terminal uses these functions.
"""

import html
import re
import unicodedata

JOINERS = "\u200c\u200d"  # which Persian, Indic scripts and emoji are written with
ACTIVE = re.compile(r"[\\`*_{}\[\]<>|#&~@!$]")
ADDRESS = re.compile(r"(:|www)([./])", re.IGNORECASE)
FIRST = re.compile(r"^(\s*\d*)([-+=.)])(?=[-=\s]*$|\s)")  # of a line: a list, or the rule below a heading
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories: control, format, surrogate, line and paragraph separator


def printable(text: str) -> str:
    """Return the text on one line, with characters that cannot be seen or encoded spelled out: ESC becomes \\x1b."""
    return "".join(map(_visible, text))


def _visible(c: str) -> str:
    """Return one character as it may be printed."""
    if c == " " or c in JOINERS:
        return c
    category = unicodedata.category(c)
    if category == "Zs":
        return " "
    return c.encode("unicode_escape").decode("ascii") if category in HIDDEN else c


def escape(text: str) -> str:
    """Return the text for HTML and SVG: as content and between quotes of an attribute, single or double.

    Backticks are references too: old browsers take them for quotes.
    """
    return html.escape(printable(text)).replace("`", "&#96;")


def escape_lines(text: str) -> str:
    """Return a text of several lines for HTML, line by line."""
    return "\n".join(map(escape, text.split("\n")))


def markdown(text: str) -> str:
    """Return the text for one line of Markdown or a cell of its tables, as words: no emphasis, code, link, picture, tag,
    heading or list. Backslashes do it, so that the source can be read as well (CommonMark 2.4; for bare addresses, which
    GitHub links, its extension 6.9).
    """
    text = ACTIVE.sub(r"\\\g<0>", printable(text))
    text = ADDRESS.sub(r"\1\\\2", text)
    return FIRST.sub(r"\1\\\2", text)
