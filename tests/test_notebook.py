"""Runs from Python show how far they are, and what came of them, in a terminal and in a notebook."""

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_sd_folder
from PIL import Image

import splatdistill
from splatdistill.io.inline import bar, figure, png_bytes
from splatdistill.priors import weights
from splatdistill.scene.initial import Ball

SMALL = {"prior": "tiny", "device": "cpu", "steps": 3, "batch": 1, "init": Ball(count=30)}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put random weights in the embedded prior's place."""
    monkeypatch.setattr(weights, "TINY", write_sd_folder(tmp_path / "tiny", patches=True))
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    monkeypatch.chdir(tmp_path)


def pictures(html: str) -> list[Image.Image]:
    """Return pictures inside a piece of HTML, decoded."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_pictures_and_lines_stand_by_themselves() -> None:
    image = torch.rand(3, 4, 6)
    html = figure('<script>alert("x")</script> & a mug', png_bytes(image))
    (shown,) = pictures(html)
    np.testing.assert_allclose(np.asarray(shown) / 255, image.permute(1, 2, 0), atol=0.003)
    assert "<script" not in html and "&lt;script&gt;" in html and not re.search("https?:", html)
    assert 'value="3" max="7"' in bar(3, 7, "step <3>") and "step &lt;3&gt;" in bar(3, 7, "step <3>") and not pictures(bar(3, 7, ""))


def test_a_result_and_a_session_are_a_line_and_a_picture(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = splatdistill.distil("a red ball", "sds", out=tmp_path / "run", **SMALL)
    assert repr(result) == f"Result(all steps done, 30 splats in {str(tmp_path / 'run')!r})"
    assert len(repr(result.gaussians)) < 80 and "tensor(" not in repr(result.ended)
    (shown,) = pictures(result._repr_html_())
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(Image.open(result.files.sheet)))
    result.files.sheet.unlink()
    assert not pictures(result._repr_html_()) and "30 splats" in result._repr_html_()
    assert capsys.readouterr().out == ""  # no terminal here
    session = splatdistill.session("a red ball", "sds", **SMALL)
    before = session._repr_html_()
    session.step()
    (first,), (second,) = pictures(before), pictures(session._repr_html_())
    assert "step 0 of 3" in before and "step 1 of 3" in session._repr_html_()
    assert first.size == second.size == (4 * 128 + 3 * 2, 128) and first.tobytes() != second.tobytes()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_terminal_shows_the_steps(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    class Terminal(io.StringIO):
        """Text that says it is a terminal."""

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    splatdistill.distil("a red ball", "sds", out=tmp_path / "run", progress=wanted, **SMALL)
    assert ("3/3" in screen.getvalue() and "30 splats" in screen.getvalue()) == wanted


def test_a_real_notebook_shows_a_bar_previews_and_pictures(tmp_path: Path) -> None:
    """A kernel runs cells: the display of one run is one output that changed, results are pictures, nothing is complained of."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    settings = "prior='tiny', device='cpu', steps=4, batch=1, preview_every=2, init=Ball(count=60)"
    cells = [
        "import warnings; warnings.simplefilter('ignore')\nimport splatdistill\nfrom splatdistill.scene.initial import Ball",
        f"result = splatdistill.distil('a red mushroom', 'sds', out='run', {settings})",
        "result",
        f"session = splatdistill.session('a red mushroom', 'sds', {settings})\nsession.step()\nsession",
        f"quiet = splatdistill.distil('a red mushroom', 'sds', out='other', progress=False, {settings})\nprint(repr(quiet))",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbclient.NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in book.cells]
    assert not [o for cell in outputs for o in cell if o.output_type == "error" or o.get("name") == "stderr"]
    (running,) = outputs[1]  # one display, which was changed in place
    html = running.data["text/html"]
    assert running.output_type == "display_data" and 'value="4" max="4"' in html and "all steps done, after" in html
    (preview,) = pictures(html)
    assert preview.size == (4 * 128 + 3 * 2, 128)
    (sheet,) = pictures(outputs[2][0].data["text/html"])
    assert sheet.size[0] > 1000 and len(outputs[2][0].data["text/plain"]) < 120
    (sides,) = pictures(outputs[3][0].data["text/html"])
    assert sides.size == preview.size and "step 1 of 4" in outputs[3][0].data["text/plain"]
    (printed,) = outputs[4]
    assert printed.text.startswith("Result(all steps done, 60 splats in ")
