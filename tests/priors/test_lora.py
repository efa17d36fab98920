"""LoRA files on top of a folder: the weights that come of them, whoever wrote the file; and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers import write_sd_folder
from model_folders import write_sd3_folder, write_xl_folder
from safetensors.torch import save_file
from torch import Tensor

from splatdistill.cli import main
from splatdistill.errors import WeightsError
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import find, load
from splatdistill.train.config import Train
from splatdistill.train.plain import from_plain, to_plain

LAYERS = {
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0": "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "text_encoder.text_model.encoder.layers.1.mlp.fc1": "",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": "",
}
RANK, ALPHA, SCALE = 3, 1.5, 0.7


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


def exact(folder: Path, lora: Path | list[Path] | None = None, scale: float | list[float] = 1.0) -> StableDiffusionPrior:
    prior = load(find(str(folder)), precision="float64", lora=lora, lora_scale=scale)
    assert isinstance(prior, StableDiffusionPrior)
    return prior


def weights(prior: StableDiffusionPrior) -> dict[str, Tensor]:
    """Return all weights, by the names that files of diffusers have."""
    named = {f"unet.{k}": v for k, v in prior.unet.named_parameters()}
    for number, encoder in enumerate(prior.text_encoders):
        end = "" if number == 0 else f"_{number + 1}"
        named |= {f"text_encoder{end}.text_model.{k.removeprefix('text_model.')}": v for k, v in encoder.named_parameters()}
    return named


def matrices(names: list[str], held: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    shapes = {n: held[f"{n}.weight"].shape for n in names}
    return {n: (torch.randn(RANK, s[1:].numel()).reshape(RANK, *s[1:]), torch.randn(s[0], RANK, *(1,) * len(s[2:]))) for n, s in shapes.items()}


def as_peft(pairs: dict[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights under peft's names; alpha in the metadata, another for one layer."""
    tensors = {f"{n}.lora_{k}.weight": m for n, pair in pairs.items() for k, m in zip("AB", pair)}
    said = {f"{c}.{k}": v for c in ("unet", "text_encoder") for k, v in (("r", RANK), ("lora_alpha", ALPHA))}
    return tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(said)}


def as_diffusers(pairs: dict[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights under older names of diffusers, of which those in attention are processors'."""
    tensors = {}
    for n, (down, up) in pairs.items():
        head, _, last = n.removesuffix(".0").rpartition(".")
        stem = f"{n}.lora_linear_layer" if n.startswith("text") else f"{head}.processor.{last}_lora"
        tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up, f"{n}.alpha": torch.tensor(ALPHA)}
    return tensors, {"format": "pt"}


def as_kohya(pairs: dict[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights under kohya's names."""
    tensors = {}
    for n, (down, up) in pairs.items():
        component, _, rest = n.partition(".")
        stem = f"lora_{'unet' if component == 'unet' else 'te'}_{rest.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(ALPHA)}
    return tensors, {}


@pytest.mark.parametrize("write", [as_peft, as_diffusers, as_kohya])
def test_a_layer_becomes_w_plus_scale_alpha_by_rank_b_a(sd: Path, tmp_path: Path, write: Callable) -> None:
    plain = weights(exact(sd))
    pairs = matrices(list(LAYERS), plain)
    tensors, metadata = write(pairs)
    save_file(tensors, tmp_path / "style.safetensors", metadata)
    prior = exact(sd, tmp_path / "style.safetensors", SCALE)
    changed = weights(prior)
    for name, before in plain.items():
        after, (down, up) = changed[name], pairs.get(name.removesuffix(".weight"), (None, None)) if name.endswith(".weight") else (None, None)
        expected = before if down is None else before + SCALE * ALPHA / RANK * (up.double().flatten(1) @ down.double().flatten(1)).view_as(before)
        torch.testing.assert_close(after, expected)
    assert prior.name.endswith("+ 0.7 style") and not any(p.requires_grad for p in prior.unet.parameters())


@pytest.mark.parametrize("scales", [[0.7, -0.5], [0.4]])
def test_several_add_up(sd: Path, tmp_path: Path, scales: list[float]) -> None:
    """The first two layers are changed by both, each of the others by one: W + s_1 delta_1 + s_2 delta_2, by hand."""
    plain = weights(exact(sd))
    names = list(LAYERS)
    pairs = [matrices(names[:3], plain), matrices([*names[:2], names[3]], plain)]
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for held, file in zip(pairs, files, strict=True):
        save_file(*as_peft(held)[:1], file, as_peft(held)[1])
    prior = exact(sd, files, scales)
    both = scales if len(scales) == 2 else scales * 2
    for name, after in weights(prior).items():
        expected = plain[name].clone()
        for held, scale in zip(pairs, both, strict=True):
            if (found := held.get(name.removesuffix(".weight"))) is not None and name.endswith(".weight"):
                expected += scale * ALPHA / RANK * (found[1].double().flatten(1) @ found[0].double().flatten(1)).view_as(expected)
        torch.testing.assert_close(after, expected)
    assert prior.name.endswith(f"+ {both[0]:g} a + {both[1]:g} b")


def test_a_file_of_settings_from_before_there_were_several_still_means_the_same() -> None:
    base = Train(prompt="a ball")
    for said, files in ((None, ()), ("a.safetensors", (Path("a.safetensors"),))):
        old = to_plain(base) | {"lora": said, "lora_scale": 0.7}
        found = from_plain(base, old)
        assert found.lora == files and found.lora_scale == (0.7,)
    two = replace(base, lora=(Path("a"), Path("b")), lora_scale=(0.5, 2.0))
    assert from_plain(base, json.loads(json.dumps(to_plain(two)))) == two


def test_without_an_alpha_the_factor_is_one_and_convolutions_are_changed_too(sd: Path, tmp_path: Path) -> None:
    name, plain = "unet.down_blocks.0.resnets.0.conv1", weights(exact(sd))
    (pair,) = matrices([name], plain).values()
    save_file({f"{name}.lora.down.weight": pair[0], f"{name}.lora.up.weight": pair[1]}, tmp_path / "c.safetensors")
    changed = weights(exact(sd, tmp_path / "c.safetensors"))
    delta = torch.einsum("or,rikl->oikl", pair[1].double().flatten(1), pair[0].double())
    torch.testing.assert_close(changed[f"{name}.weight"], plain[f"{name}.weight"] + delta)


def test_both_encoders_of_sdxl_and_kohyas_numbers_of_its_blocks(tmp_path: Path) -> None:
    """input_blocks.4.1 of the original network is down_blocks.1.attentions.0 with two layers a block, as SDXL has."""
    folder = write_xl_folder(tmp_path / "xl")
    plain = weights(exact(folder))
    names = ["unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k", "text_encoder_2.text_model.encoder.layers.0.self_attn.v_proj"]
    pairs = matrices(names, plain)
    stems = ["lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k", "lora_te2_text_model_encoder_layers_0_self_attn_v_proj"]
    tensors = {f"{stem}.lora_{way}.weight": m for stem, pair in zip(stems, pairs.values()) for way, m in zip(("down", "up"), pair)}
    save_file(tensors, tmp_path / "k.safetensors")
    changed = weights(exact(folder, tmp_path / "k.safetensors"))
    for name, (down, up) in pairs.items():
        torch.testing.assert_close(changed[f"{name}.weight"], plain[f"{name}.weight"] + up.double() @ down.double())


def test_a_transformer_is_changed_under_its_own_name(tmp_path: Path) -> None:
    folder = write_sd3_folder(tmp_path / "3")
    plain, name = weights(exact(folder)), "transformer_blocks.0.attn.add_k_proj"
    (pair,) = matrices([f"unet.{name}"], plain).values()
    save_file({f"transformer.{name}.lora_A.weight": pair[0], f"transformer.{name}.lora_B.weight": pair[1]}, tmp_path / "t.safetensors")
    changed = weights(exact(folder, tmp_path / "t.safetensors", 0.5))
    torch.testing.assert_close(changed[f"unet.{name}.weight"], plain[f"unet.{name}.weight"] + 0.5 * pair[1].double() @ pair[0].double())


def one(name: str, outside: int = 32, inside: int = 32) -> dict[str, Tensor]:
    return {f"{name}.lora_A.weight": torch.ones(2, inside), f"{name}.lora_B.weight": torch.ones(outside, 2)}


QUERY = next(iter(LAYERS))
REFUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "another model's": (one("unet.down_blocks.7.attn.to_q"), "changes layers that the model does not have: unet.down_blocks.7.attn.to_q"),
    "another width": (one(QUERY, 320, 320), "as if it were 320 x 320; the model's is (32, 32)"),
    "half of one": ({f"{QUERY}.lora_A.weight": torch.ones(2, 32)}, "only one of the two matrices"),
    "a LoHa": ({"lora_unet_x.hada_w1_a": torch.ones(2)}, "holds a LoHa"),
    "a DoRA": ({**one(QUERY), f"{QUERY}.lora_magnitude_vector": torch.ones(32)}, "holds a DoRA"),
    "no LoRA": ({"conv_in.weight": torch.ones(2)}, "holds no LoRA"),
    "not finite": ({k: v / 0 for k, v in one(QUERY).items()}, "not finite"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_lora_of_the_model_is_refused(sd: Path, tmp_path: Path, kind: str) -> None:
    tensors, words = REFUSED[kind]
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError) as caught:
        exact(sd, tmp_path / "x.safetensors")
    assert words in str(caught.value) and str(caught.value).count("\n") == 1


@pytest.mark.parametrize(("argv", "words"), [(["--lora", "gone.safetensors"], "gone.safetensors cannot be used: it is missing"), (["--lora", "style.pt"], "is a .pt, which may run code"), (["--lora-scale", "nan"], "--lora-scale must be finite"), (["--lora", "a", "b", "c", "--lora-scale", "1", "2"], "--lora-scale needs one factor for all, or one for each of the 3 files")])
def test_the_command_line_refuses_before_anything_is_loaded(sd: Path, here: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    Path("style.pt").write_bytes(b"\x80")
    assert main(["train", "--prompt", "a red ball", "--prior", str(sd), *argv]) in (2, 3)
    assert words in capsys.readouterr().err.replace("\n", " ")


def test_the_embedded_prior_takes_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--prompt", "a red mushroom", "--prior", "tiny", "--lora", "style.safetensors"]) == 3
    assert "`tiny` takes no --lora" in capsys.readouterr().err


def test_a_run_has_its_lora_in_its_settings_and_resumes_with_it(sd: Path, here: Path, short_films: None) -> None:
    save_file(one(QUERY), "style.safetensors")
    small = ["--prior", str(sd), "--batch", "1", "--init.count", "50", "--densify", "fixed", "--no-viewer", "--guidance", "sds"]
    lora = ["--lora", "style.safetensors", "--lora-scale", "0.5"]
    assert main(["train", "--prompt", "a red ball", "--steps", "1", "--out", "run", *small, *lora]) == 0
    said = Path("run/config.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(said)
    assert settings["lora"] == [str(here / "style.safetensors")] and settings["lora_scale"] == [0.5]
    assert main(["train", "--resume", "run", "--steps", "2", "--no-viewer"]) == 0
    Path("style.safetensors").unlink()
    assert main(["train", "--resume", "run", "--steps", "3", "--no-viewer"]) == 3
