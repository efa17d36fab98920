"""Pictures of objects: what is refused, and what is left after a plain background was taken away."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatdistill.errors import UserError
from splatdistill.io.cutout import bounds, cut_out, framed
from splatdistill.io.photo import read_photo


def scene(background: torch.Tensor, noise: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a red disc with a hole through it, right of the middle, over a background; and its opacity."""
    y, x = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    r = ((x - 100) ** 2 + (y - 50) ** 2).sqrt()
    alpha = ((30 - r).clamp(0, 1) * (r - 9).clamp(0, 1))[None]
    red = torch.tensor([0.8, 0.1, 0.1]).view(3, 1, 1)
    rgb = alpha * red + (1 - alpha) * background
    return (rgb + noise * torch.randn(rgb.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1), alpha


def slope() -> torch.Tensor:
    """Return a light background that darkens to the right and turns bluer downwards."""
    across, down = torch.linspace(0.9, 0.7, 160)[None, None, :], torch.linspace(0, 0.1, 120)[None, :, None]
    return across + down * torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)


def save(path: Path, image: torch.Tensor, **how) -> Path:
    Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path, **how)
    return path


@pytest.mark.parametrize(("background", "suffix"), [(torch.ones(3, 120, 160), "png"), (torch.full((3, 120, 160), 0.05), "webp"), (slope(), "png"), (slope(), "jpg")])
def test_a_plain_background_is_taken_away_and_the_hole_stays_one(tmp_path, background, suffix):
    rgb, alpha = scene(background, noise=0.01)
    cut = cut_out(read_photo(save(tmp_path / f"a.{suffix}", rgb, quality=95)), "a")
    inside, outside = alpha[0] > 0.99, alpha[0] < 0.01
    assert cut[3][inside].mean() > 0.99 and cut[3][outside].mean() < 0.01
    assert cut[3, 46:54, 96:104].max() < 0.1, "the hole was filled"
    assert (cut[:3, inside].mean(1) - torch.tensor([0.8, 0.1, 0.1])).abs().max() < 0.03
    edge = (cut[3] > 0.2) & (cut[3] < 0.8)
    if edge.any():  # the background does not shine through the edge
        assert (cut[0] - cut[1])[edge].mean() > 0.3


def test_opacity_that_is_there_is_used(tmp_path):
    rgb, alpha = scene(torch.rand(3, 120, 160))
    path = save(tmp_path / "a.png", torch.cat([rgb, alpha]))
    assert (cut_out(read_photo(path), "a")[3] - alpha[0]).abs().max() < 0.01


def test_a_busy_background_is_refused_with_what_to_do(tmp_path):
    rgb, _ = scene(torch.rand(3, 120, 160, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(UserError, match="not plain .* PNG with opacity"):
        cut_out(read_photo(save(tmp_path / "a.png", rgb)), "a")


@pytest.mark.parametrize("fill", [0.5, 0.8])
def test_the_object_is_centred_and_its_longer_side_is_the_share_that_was_asked(fill):
    alpha = torch.zeros(1, 90, 200)
    alpha[:, 10:40, 120:180] = 1  # 30 high, 60 wide
    out = framed(torch.cat([torch.full((3, 90, 200), 0.5), alpha]), fill, 100)
    top, bottom, left, right = bounds(out[3] > 0.5)
    assert abs((right - left) - 100 * fill) <= 2 and abs((bottom - top) - 50 * fill) <= 2
    assert abs((top + bottom) / 2 - 50) <= 1 and abs((left + right) / 2 - 50) <= 1
    assert (out[:3] - 0.5 * out[3:]).abs().max() < 1e-5, "colours are not premultiplied"


def test_a_picture_that_is_left_as_it_is_keeps_its_places():
    rgba = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(0))
    out = framed(rgba, 0.0, 64)
    assert torch.allclose(out[3], rgba[3], atol=1e-4) and torch.allclose(out[:3], rgba[:3] * rgba[3:], atol=1e-4)


def test_it_is_turned_as_the_camera_was_held(tmp_path):
    image = torch.zeros(3, 20, 40)
    image[0, :, 20:] = 1  # right half red
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the right half comes to be the lower one
    got = read_photo(save(tmp_path / "a.jpg", image, exif=exif, quality=95))
    assert got.shape == (4, 40, 20) and got[0, 25:].mean() > 0.9 and got[0, :15].mean() < 0.1


def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    whole = save(tmp_path / "whole.png", torch.rand(3, 64, 64))
    cases = {
        "missing.png": (None, "does not exist"),
        "text.png": (b"hello", "cannot be read"),
        "empty.jpg": (b"", "cannot be read"),
        "cut.png": (whole.read_bytes()[:2000], "cannot be read"),
        "small.png": (save(tmp_path / "s.png", torch.rand(3, 8, 90)).read_bytes(), "90 x 8 pixels"),
    }
    for name, (data, said) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=said) as e:
            read_photo(tmp_path / name)
        assert "\n" not in str(e.value) and name in str(e.value)
    with pytest.raises(UserError, match="is no file"):
        read_photo(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.gif")
    with pytest.raises(UserError, match="PNG, JPEG or WebP"):
        read_photo(tmp_path / "a.gif")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("splatdistill.io.photo.MOST_PIXELS", 1000)
    with pytest.raises(UserError, match="64 x 64 pixels"):
        read_photo(save(tmp_path / "a.png", torch.rand(3, 64, 64)))


@pytest.mark.parametrize("covered", [0.0, 1.0])
def test_a_picture_without_object_or_of_nothing_else_is_refused(covered):
    alpha = torch.full((1, 64, 64), covered)
    alpha[:, :8] = 0
    if covered:
        alpha[:, :1] = 0
        alpha[:, 1:] = 1
    with pytest.raises(UserError, match="covers"):
        cut_out(torch.cat([torch.rand(3, 64, 64), alpha]), "a")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_large_picture_is_made_smaller(tmp_path, suffix):
    """Its shape and what it shows stay: a red half and a blue one."""
    rgb = torch.zeros(3, 1500, 6000)
    rgb[0, :, :3000] = rgb[2, :, 3000:] = 1
    got = read_photo(save(tmp_path / f"a.{suffix}", rgb, quality=95))
    assert max(got.shape) <= 2048 and got.shape[2] == pytest.approx(4 * got.shape[1], abs=4)
    red, blue = got[:3, :, : got.shape[2] // 2 - 8].mean((1, 2)), got[:3, :, got.shape[2] // 2 + 8 :].mean((1, 2))
    assert (red - torch.tensor([1.0, 0, 0])).abs().max() < 0.02 and (blue - torch.tensor([0, 0, 1.0])).abs().max() < 0.02
