"""The tensors of a folder are those of its networks, or a person is told in two lines which are not; nothing is guessed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import write_sd_folder
from safetensors.torch import load_file, save_file

from splatdistill.errors import WeightsError
from splatdistill.priors import Query
from splatdistill.priors.layout import problems
from splatdistill.priors.weights import find, load

UNET, VAE, TEXT = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def folder(sd: Path, tmp_path: Path) -> Path:
    """Return a copy that may be broken."""
    return shutil.copytree(sd, tmp_path / "folder")


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite a file of weights after a change."""
    held = load_file(file)
    change(held)
    save_file(held, file, {"format": "pt"})


def old_names(held: dict[str, torch.Tensor]) -> None:
    """Rename attention's tensors to their names before diffusers 0.13."""
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        for k in [k for k in held if f"attentions.0.{new}." in k]:
            held[k.replace(f".{new}.", f".{old}.")] = held.pop(k)


def unet(**fields: object) -> Callable[[Path], None]:
    return lambda f: edit(f / "unet/config.json", **fields)


def scheduler(**fields: object) -> Callable[[Path], None]:
    return lambda f: edit(f / "scheduler/scheduler_config.json", **fields)


def gone(name: str) -> Callable[[Path], None]:
    return lambda f: (f / name).unlink()


def put(name: str, data: str | bytes) -> Callable[[Path], object]:
    return lambda f: (f / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def fifo(f: Path) -> None:
    (f / "unet/config.json").unlink()
    os.mkfifo(f / "unet/config.json")


def loop(f: Path) -> None:
    (f / UNET).unlink()
    (f / UNET).symlink_to((f / UNET).name)


def sparse(f: Path) -> None:
    with (f / "vae/config.json").open("r+b") as file:
        file.truncate(2**40)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a UNet without a tensor": (lambda f: tensors(f / UNET, lambda t: t.pop("conv_out.bias")), "unet/ lacks conv_out.bias"),
    "a text encoder without a tensor": (
        lambda f: tensors(f / TEXT, lambda t: t.pop("text_model.final_layer_norm.weight")),
        "text_encoder/ lacks final_layer_norm.weight",
    ),
    "a VAE without tensors": (
        lambda f: tensors(f / VAE, lambda t: [t.pop(k) for k in [*t] if k.startswith("decoder.conv_in")]),
        "vae/ lacks decoder.conv_in.weight, decoder.conv_in.bias",
    ),
    "another shape": (
        lambda f: tensors(f / UNET, lambda t: t.update({"conv_in.weight": torch.zeros(16, 5, 3, 3)})),
        "unet/ holds other shapes: conv_in.weight [16, 5, 3, 3] for [16, 4, 3, 3]",
    ),
    "tensors of another network": (
        lambda f: tensors(f / UNET, lambda t: t.update({f"controlnet.{i}": torch.zeros(1) for i in range(5)})),
        "unet/ holds tensors of another network: controlnet.0, controlnet.1 and 3 more",
    ),
    "integers": (
        lambda f: tensors(f / UNET, lambda t: t.update({"conv_out.bias": torch.zeros(4, dtype=torch.int8)})),
        "not floating-point: conv_out.bias I8",
    ),
    "not a number": (lambda f: tensors(f / UNET, lambda t: t["conv_out.bias"].fill_(torch.nan)), "not finite in conv_out.bias"),
    "infinite in the VAE": (lambda f: tensors(f / VAE, lambda t: t["quant_conv.bias"].fill_(torch.inf)), "vae/ holds numbers"),
    "8-bit floats": (
        lambda f: tensors(f / UNET, lambda t: t.update({"conv_out.bias": torch.zeros(4).to(torch.float8_e4m3fn)})),
        "keeps conv_out.bias as F8_E4M3",
    ),
    "no size": (unet(sample_size=None), "sample_size None; expected the latents' side, 64"),
    "unCLIP": (unet(class_embed_type="projection", projection_class_embeddings_input_dim=64), "wants noised image embeddings"),
    "classes": (unet(num_class_embeds=1000), "wants class labels"),
    "LCM": (unet(time_cond_proj_dim=256), "the guidance scale as an input (time_cond_proj_dim)"),
    "LCM by its scheduler": (scheduler(_class_name="LCMScheduler"), "guidance-distilled"),
    "Turbo": (scheduler(_class_name="EulerDiscreteScheduler", timestep_spacing="trailing"), "as SD-Turbo"),
    "SDXL's UNet": (unet(addition_embed_type="text_time"), "pooled text and picture sizes, as SDXL"),
    "an image prompt": (unet(encoder_hid_dim_type="ip_image_proj"), "wants a picture (encoder_hid_dim_type"),
    "flow matching": (scheduler(_class_name="FlowMatchEulerDiscreteScheduler"), "flow matching"),
    "flow by its sigmas": (scheduler(_class_name="UniPCMultistepScheduler", use_flow_sigmas=True), "flow matching"),
    "EDM": (scheduler(_class_name="EDMEulerScheduler"), "says EDMEuler; expected a schedule of betas"),
    "no betas": (scheduler(beta_start=None), "beta_start None"),
    "betas beyond 1": (scheduler(beta_end=3), "beta_end 3"),
    "no such betas": (scheduler(beta_schedule="evil"), "beta_schedule evil"),
    "trained betas": (scheduler(trained_betas=[0.1, 0.2]), "trained_betas that are not 1000 numbers"),
    "no steps": (scheduler(num_train_timesteps=0), "num_train_timesteps 0"),
    "too many steps": (scheduler(num_train_timesteps=10**12), "num_train_timesteps 1000000000000"),
    "quantised": (unet(quantization_config={"quant_method": "bitsandbytes"}), "quantised weights"),
    "code of its own": (unet(auto_map={"AutoModel": "evil.Evil"}), "code of its own"),
    "kernels from elsewhere": (
        lambda f: edit(f / "text_encoder/config.json", _attn_implementation="someone/kernels"),
        "says _attn_implementation someone/kernels",
    ),
    "a million layers": (unet(layers_per_block=10**6), "layers_per_block 1000000; expected at most 8"),
    "nested layers": (unet(transformer_layers_per_block=[[[10**5]]]), "transformer_layers_per_block"),
    "blocks that are a number": (unet(up_block_types=64), "up_block_types 64; expected a list of at most 8"),
    "blocks that write to the terminal": (unet(down_block_types=["\x1b[2J"] * 2), r"describes no network"),
    "absurdly wide": (unet(block_out_channels=[10**30, 32]), "expected a number of at most"),
    "too wide to load": (unet(block_out_channels=[8 * 10**5] * 2), "unet/config.json describes a"),
    "no network": (unet(block_out_channels=["a", "b"]), "describes no network"),
    "infinity in a configuration": (put("unet/config.json", '{"_class_name":"UNet2DConditionModel","norm_eps":Infinity}'), "finite number"),
    "a T5": (lambda f: edit(f / "text_encoder/config.json", model_type="t5"), "says t5; expected CLIP's"),
    "a VAE of Flux": (lambda f: edit(f / "vae/config.json", shift_factor=0.1159), "shift_factor 0.1159"),
    "no scale": (lambda f: edit(f / "vae/config.json", scaling_factor=0), "scaling_factor 0"),
    "a scale in words": (lambda f: edit(f / "vae/config.json", scaling_factor="big"), "scaling_factor big"),
    "nested too deeply": (put("unet/config.json", "[" * 100000), "nested too deeply"),
    "a byte order mark": (lambda f: put("unet/config.json", b"\xef\xbb\xbf{}")(f), "byte order mark"),
    "latin 1": (put("model_index.json", b'{"_name_or_path": "Mod\xe8le"}'), "model_index.json is not JSON"),
    "a number of 5,000 digits": (put("unet/config.json", '{"a": ' + "1" * 5000 + "}"), "is not JSON"),
    "a pipe": (fifo, "unet/config.json is no regular file"),
    "a link to itself": (loop, f"{UNET} cannot be read"),
    "a link to nothing": (lambda f: ((f / UNET).unlink(), (f / UNET).symlink_to("../blobs/12")), "a link to ../blobs/12, which is missing"),
    "a device": (lambda f: ((f / UNET).unlink(), (f / UNET).symlink_to("/dev/zero")), "no regular file"),
    "a terabyte of configuration": (sparse, "1,099,511,627,776 bytes"),
    "a folder in a file's place": (lambda f: (gone("unet/config.json")(f), (f / "unet/config.json").mkdir()), "no regular file"),
    "an index of numbers": (put(f"{UNET}.index.json", '{"weight_map": {"a": 5}}'), "no weight_map of file names"),
    "an index that leads away": (put(f"{UNET}.index.json", '{"weight_map": {"a": "../../x.safetensors"}}'), "same folder"),
    "a shared file that is none": (
        lambda f: (gone(UNET)(f), put("unet/weights.json", '{"file": "/dev/zero", "prefix": ""}')(f)),
        "weights.json points to /dev/zero, which is no regular file",
    ),
    "a vocabulary of nothing": (put("tokenizer/tokenizer.json", "{}"), "holds no byte-pair vocabulary"),
    "a broken vocabulary": (
        lambda f: (gone("tokenizer/tokenizer.json")(f), put("tokenizer/vocab.json", '{"a": "b"}')(f)),
        "is no vocabulary",
    ),
    "a tokenizer's length in words": (lambda f: edit(f / "tokenizer/tokenizer_config.json", model_max_length="long"), "model_max_length long"),
    "more tokens than embeddings": (
        lambda f: (gone("tokenizer/tokenizer.json")(f), edit(f / "tokenizer/vocab.json", **{"zebra</w>": 5000})),
        "a token of number 5000",
    ),
    "a LoRA": (
        lambda f: (gone("model_index.json")(f), put("adapter_config.json", "{}")(f)),
        "it holds a LoRA",
    ),
    "PixArt": (lambda f: edit(f / "model_index.json", _class_name="PixArtAlphaPipeline"), "it holds a PixArtAlphaPipeline"),
    "unCLIP by its pipeline": (lambda f: edit(f / "model_index.json", _class_name="StableUnCLIPPipeline"), "StableUnCLIPPipeline"),
    "a name that writes to the terminal": (lambda f: edit(f / "model_index.json", _class_name="\x1b[2J\nerror"), r"\x1b[2J\nerror"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_told_in_two_lines_before_anything_is_loaded(folder: Path, kind: str) -> None:
    damage, words = REFUSED[kind]
    damage(folder)
    with pytest.raises(WeightsError) as caught:
        load(find(str(folder)))
    text = str(caught.value)
    assert words in text and caught.value.code == 3
    assert text.count("\n") == 1 and len(text.splitlines()[0]) < 700 and text.replace("\n", "").isprintable()


def kept_length(f: Path) -> None:
    edit(f / "tokenizer/tokenizer_config.json", model_max_length=10**12)


READ: dict[str, Callable[[Path], object]] = {
    "a tokenizer that reads without end": kept_length,
    "no tokenizer_config.json": gone("tokenizer/tokenizer_config.json"),
    "a VAE from before diffusers 0.13": lambda f: tensors(f / VAE, old_names),
    "a text encoder with its projection and positions": lambda f: (
        tensors(f / TEXT, lambda t: t.update({"text_projection.weight": torch.ones(32, 32), "text_model.embeddings.position_ids": torch.arange(77)[None]})),
        edit(f / "text_encoder/config.json", architectures=["CLIPTextModelWithProjection"]),
    ),
    "names beyond ASCII": lambda f: edit(f / "model_index.json", _name_or_path="Modèle/中文"),
    "zero terminal SNR": scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"),
    "another scheduler": scheduler(_class_name="PNDMScheduler", skip_prk_steps=True, steps_offset=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_what_may_be_odd_and_is_read_all_the_same(sd: Path, folder: Path, kind: str) -> None:
    READ[kind](folder)
    whole, prior = (load(find(str(f)), precision="float32") for f in (sd, folder))
    assert torch.equal(prior.embed(["a red ball"]).tokens, whole.embed(["a red ball"]).tokens)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prior.encode(image), whole.encode(image))
    x, t = torch.ones(1, 4, 8, 8), torch.tensor([0.4])
    assert torch.equal(*(p.answer([Query(x, t, p.embed(["a red ball"]))])[0] for p in (prior, whole)))


def test_a_whole_folder_has_no_problems_and_so_has_one_in_half_precision(sd: Path, tmp_path: Path) -> None:
    assert problems(sd) == () and problems(write_sd_folder(tmp_path / "half", variant="fp16")) == ()


def test_a_source_that_no_file_system_knows_is_refused(tmp_path: Path) -> None:
    for source in ("a" * 5000, "a\0b", "~nobody-of-this-name/sd"):
        with pytest.raises(WeightsError):
            find(source)
