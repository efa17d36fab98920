"""Text that is not ours, made safe for where it goes: a terminal, a label, HTML, SVG, Markdown.

File names, prompts, captions and messages of other programs may hold anything: tags, quotes, control characters that move
a terminal's cursor, marks that turn the direction of writing, lone surrogates (bytes of a file name that are no UTF-8)
that cannot be encoded at all. Whatever puts such text into a page, a report or a terminal uses these functions.
"""

import html
import unicodedata

JOINERS = "\u200c\u200d"  # which Persian, Indic scripts and emoji are written with
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


def markdown(text: str) -> str:
    """Return the text for one line of Markdown, as words: no emphasis, code, link, picture, tag or table's edge.

    Every character of ASCII that is neither a letter, a digit nor a space becomes a reference, which CommonMark (section
    2.5) reads as text and never as structure.
    """
    safe = (c if c.isalnum() or c == " " or ord(c) > 127 else f"&#{ord(c)};" for c in printable(text))
    return "".join(safe)
