"""Videos and pictures decode to what was put in."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from disk import room
from imageio_ffmpeg import count_frames_and_secs, get_ffmpeg_exe, read_frames
from PIL import Image

from splatdistill.errors import UserError
from splatdistill.io.images import GAP, LABEL, contact_sheet, to_bytes, write_png
from splatdistill.io.video import write_mp4


def ramp(n: int, h: int, w: int) -> torch.Tensor:
    """Return smooth frames that differ: red rises to the right, green downwards, blue with time."""
    r = torch.linspace(0, 1, w).expand(n, h, w)
    g = torch.linspace(0, 1, h)[:, None].expand(n, h, w)
    b = torch.linspace(0, 1, n)[:, None, None].expand(n, h, w)
    return torch.stack([r, g, b], 1)


@pytest.mark.parametrize(("h", "w"), [(48, 64), (33, 47)])
def test_mp4_decodes_to_the_frames(tmp_path: Path, h: int, w: int) -> None:
    frames, path = ramp(9, h, w), tmp_path / "a.mp4"
    assert write_mp4(path, frames, fps=12) == 9
    size = (w + w % 2, h + h % 2)
    reader = read_frames(str(path))
    meta = next(reader)
    got = torch.from_numpy(np.stack([np.frombuffer(f, np.uint8).reshape(size[1], size[0], 3).copy() for f in reader]))
    assert meta["size"] == size and meta["codec"] == "h264" and meta["pix_fmt"].startswith("yuv420p")
    assert meta["fps"] == pytest.approx(12) and count_frames_and_secs(str(path))[0] == 9 == len(got)
    error = got[:, :h, :w].permute(0, 3, 1, 2) / 255 - frames
    assert error.abs().mean() < 0.02 and error.abs().max() < 0.15


def test_frames_are_taken_one_by_one(tmp_path: Path) -> None:
    assert write_mp4(tmp_path / "a.mp4", (f for f in ramp(3, 16, 16))) == 3
    with pytest.raises(ValueError, match="without frames"):
        write_mp4(tmp_path / "b.mp4", iter(()))
    with pytest.raises(ValueError, match="frame 1 is 18x16"):
        write_mp4(tmp_path / "b.mp4", [torch.zeros(3, 16, 16), torch.zeros(3, 16, 18)])
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_failures_lose_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_mp4(path, ramp(2, 16, 16))
    before = path.read_bytes()

    def interrupted() -> Iterator[torch.Tensor]:
        yield from ramp(2, 16, 16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(path, interrupted())
    noise = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with room(10_000), pytest.raises(UserError, match="gave up"):
        write_mp4(path, noise)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.mp4"]


def test_mp4_can_be_played_while_it_loads(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", ramp(3, 16, 16))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / "a.mp4"), "-f", "null", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


def test_png_is_exact(tmp_path: Path) -> None:
    image = ramp(1, 20, 30)[0] * 1.5 - 0.25
    path = tmp_path / "a.png"
    write_png(path, image)
    got = np.asarray(Image.open(path))
    np.testing.assert_array_equal(got, np.round(np.clip(image.permute(1, 2, 0).numpy(), 0, 1) * 255))
    before = path.read_bytes()
    with room(1000), pytest.raises(UserError, match="as it was before"):
        write_png(path, torch.rand(3, 64, 64))
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="NaN"):
        to_bytes(torch.full((3, 2, 2), torch.nan))


def test_sheet_puts_each_picture_in_its_place() -> None:
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 6, 8) / 10
    sheet = contact_sheet(images, columns=3)
    assert sheet.shape == (3, 2 * 6 + GAP, 3 * 8 + 2 * GAP)
    for i in range(5):
        y, x = i // 3 * (6 + GAP), i % 3 * (8 + GAP)
        assert (sheet[:, y : y + 6, x : x + 8] == i / 10).all()
    assert (sheet[:, :, 8 : 8 + GAP] == 1).all() and (sheet[:, 6 + GAP :, 2 * (8 + GAP) :] == 1).all()
    assert contact_sheet(images[:2], columns=9).shape == (3, 6, 2 * 8 + GAP)


def test_labels_stand_above_and_stay_inside() -> None:
    images = torch.zeros(2, 3, 40, 60)
    plain = contact_sheet(images, 2)
    sheet = contact_sheet(images, 2, ["mug", "a very long label that does not fit\nat all"])
    assert sheet.shape == (3, LABEL + 40, plain.shape[2])
    torch.testing.assert_close(sheet[:, LABEL:], plain)
    short, long = sheet[0, :LABEL, :60], sheet[0, :LABEL, 62:]
    assert (short < 0.5).any() and (short[:, 40:] == 1).all()
    assert (long < 0.5).sum() > (short < 0.5).sum() and (sheet[0, :LABEL, 60:62] == 1).all()
    with pytest.raises(ValueError, match="1 labels for 2"):
        contact_sheet(images, 2, ["one"])
