"""Weights in eight bits: the error is at most half a step of a row, and a file says what its numbers will be."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_shared_weights import answer

from splatdistill.priors.layout import problems
from splatdistill.priors.networks import faults
from splatdistill.weight_files import Entry, SharedWeights, Unreadable
from splatdistill.weight_files.eight_bits import as_numbers, packed, unpacked
from tests.helpers import write_sd_folder


@pytest.mark.parametrize("shape", [(5,), (3, 4), (6, 3, 3, 3), (1, 7), (4, 1)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_the_error_is_at_most_half_a_step_of_its_row(shape: tuple[int, ...], size: float) -> None:
    value = size * torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    kept = packed({"w": value})
    back = unpacked(kept)
    assert set(back) == {"w"} and back["w"].shape == value.shape
    if len(shape) == 1:
        assert kept["w"].dtype == torch.float16 and torch.equal(back["w"], value.half())
        return
    assert kept["w"].dtype == torch.int8 and kept["w@scale"].shape == shape[:1]
    step = value.flatten(1).abs().amax(1) / 127
    assert ((back["w"] - value).flatten(1).abs() <= 0.5001 * step[:, None]).all()
    assert torch.equal(packed(back)["w"], kept["w"]), "what was rounded is rounded to itself"


def test_what_everything_passes_through_stays_float16() -> None:
    value = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    names = ["unet.conv_in.weight", "unet.conv_out.weight", "unet.up_blocks.0.resnets.1.conv_shortcut.weight", "unet.mid_block.resnets.0.conv1.weight"]
    kept = packed(dict.fromkeys(names, value))
    assert [kept[n].dtype for n in names] == [torch.float16] * 3 + [torch.int8]
    assert torch.equal(unpacked(kept)[names[0]], value.half()) and set(unpacked(kept)) == set(names)


def test_a_row_of_zeros_stays_zero() -> None:
    value = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    assert torch.equal(unpacked(packed({"w": value}))["w"][0], torch.zeros(2))


def test_a_prior_in_eight_bits_is_nearly_the_prior(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = write_sd_folder(tmp_path / "sd")
    before = answer(folder)
    for part, stem in {"unet": "diffusion_pytorch_model", "text_encoder": "model"}.items():
        own = folder / part / f"{stem}.safetensors"
        save_file(packed({f"{part}.{k}": v for k, v in load_file(own).items()}), tmp_path / f"{part}.safetensors")
        own.unlink()
        SharedWeights.write(folder / part, tmp_path / f"{part}.safetensors", f"{part}.")
    assert problems(folder) == ()
    after = answer(folder)
    assert 0 < (after - before).norm() < 0.1 * before.norm()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"w@scale": Entry("F32", (3,))}, "without the tensor"),
        ({"w": Entry("I8", (3, 2)), "w@scale": Entry("F32", (2,))}, "one a row"),
        ({"w": Entry("I8", (3, 2)), "w@scale": Entry("F16", (3,))}, "one a row"),
        ({"w": Entry("F16", (3, 2)), "w@scale": Entry("F32", (3,))}, "expected F32 for I8"),
    ],
)
def test_scales_that_are_of_no_tensor_are_refused(header: dict[str, Entry], says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        as_numbers(header)


def test_whole_numbers_without_scales_are_no_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = write_sd_folder(tmp_path / "sd")
    own = folder / "unet" / "diffusion_pytorch_model.safetensors"
    kept = packed({f"unet.{k}": v for k, v in load_file(own).items()})
    save_file({k: v for k, v in kept.items() if not k.endswith("@scale")}, tmp_path / "unet.safetensors")
    own.unlink()
    SharedWeights.write(folder / "unet", tmp_path / "unet.safetensors", "unet.")
    assert any("not floating-point" in fault for fault in faults(folder, {"unet": None}))
