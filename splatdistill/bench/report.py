"""The report: one HTML file with everything inside it, which opens from disk and asks for nothing."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from splatdistill.bench.tables import Table
from splatdistill.io.images import to_bytes
from splatdistill.io.text import escape, escape_lines

STYLE = """\
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem; color: #222; background: #fff }
h1, h2, h3, p, pre { overflow-wrap: anywhere }
table { border-collapse: separate; border-spacing: 0; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; vertical-align: bottom; border-bottom: 1px solid #ddd; background: #fff }
td { white-space: nowrap }
th { min-width: 4.5rem; overflow-wrap: break-word }
th:first-child, td:first-child { position: sticky; left: 0; z-index: 1; text-align: left; white-space: normal;
  min-width: 7rem; max-width: min(20rem, 40vw); overflow-wrap: anywhere; border-right: 1px solid #ddd }
.words { text-align: left }
td.words { white-space: normal; min-width: 6rem; overflow-wrap: anywhere }
thead th { border-bottom: 2px solid #444 }
.wide { overflow-x: auto; margin: .5rem 0; max-width: 100% }
.note { color: #555; font-size: 13px; margin: .1rem 0 }
img { max-width: 100%; height: auto; border: 1px solid #ddd }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .7rem; font-size: 13px }
td.better { color: #06752f } td.worse { color: #a8201a }
"""


@dataclass(frozen=True)
class Section:
    """Part of the report; any of its fields may be empty."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Mapping[str, Float[Tensor, "3 h w"]] = ()  # type: ignore[assignment]  # what they show -> themselves
    code: str = ""


def html(title: str, sections: Sequence[Section]) -> str:
    """Return the whole file; all text in it is escaped."""
    body = "\n".join(part(s) for s in sections)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def part(section: Section) -> str:
    """Return one section."""
    lines = [f"<h2>{escape(section.title)}</h2>"]
    lines += [f"<p>{escape_lines(p)}</p>" for p in section.text.split("\n\n") if p]
    for what, picture in dict(section.pictures).items():
        lines.append(f'<p><img alt="{escape(what)}" src="{data(picture)}"></p>')
    lines += map(table, section.tables)
    lines += [f"<pre>{escape_lines(section.code)}</pre>"] if section.code else []
    return "\n".join(lines)


def table(shown: Table) -> str:
    """Return one table with its notes; columns of words begin on the left, those of numbers end on the right."""
    words = [any(c[:1].isalpha() and c != "n/a" for c in column) for column in zip(*shown.rows, strict=True)]
    words = words or [True] * len(shown.head)
    head = "".join(cell("th", c, w) for c, w in zip(shown.head, words, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(cell("td", c, w) for c, w in zip(row, words, strict=True)) + "</tr>" for row in shown.rows
    )
    below = "\n".join(f'<p class="note">{escape(n)}</p>' for n in shown.notes)
    return f'<h3>{escape(shown.title)}</h3>\n<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n{below}'


def cell(tag: str, text: str, words: bool) -> str:
    """Return one cell; verdicts have colours."""
    kinds = ["words"] * words + [text] * (tag == "td" and text in ("better", "worse"))
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def data(picture: Float[Tensor, "3 h w"]) -> str:
    """Return a picture as a PNG inside an address."""
    out = BytesIO()
    Image.fromarray(to_bytes(picture)).save(out, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
