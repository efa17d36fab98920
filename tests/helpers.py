"""Parts that several tests build: small random Stable Diffusion folders in the layout of the real ones."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from splatdistill.priors.patches import PatchAutoencoder

WORDS = ["a", "an", "red", "blue", "ball", "cube", "mushroom", "snowman", "front", "side", "back", "overhead", "view", ","]


def write_tokenizer(folder: Path, length: int = 77) -> CLIPTokenizer:
    """Write a CLIP byte-pair vocabulary that spells letters and has WORDS as whole tokens; return its tokenizer."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,.!?'-")
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = ["".join(pieces[:2]), *pieces[2:]]
    merges = list(dict.fromkeys(merges))
    tokens = (
        letters + [f"{c}</w>" for c in letters] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(dict.fromkeys(tokens))}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_sd_folder(
    path: Path,
    prediction_type: str = "epsilon",
    variant: str | None = None,
    *,
    patches: bool = False,
    sample_size: int = 8,
    length: int = 77,
    seed: int = 0,
) -> Path:
    """Write a random Stable Diffusion of under 1 MB: 4 latent channels, images of 4 * sample_size pixels.

    variant "fp16" writes half-precision files named as on the hub; patches puts a PatchAutoencoder (48 channels)
    in the VAE's place, as in the embedded prior. The text encoder's names carry the prefix of real folders.
    """
    torch.manual_seed(seed)
    dtype = torch.float16 if variant == "fp16" else torch.float32
    tokenizer = write_tokenizer(path / "tokenizer", length)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    text.to(dtype).save_pretrained(path / "text_encoder", variant=variant)
    add_prefix(next((path / "text_encoder").glob("*.safetensors")))
    unet = UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=48 if patches else 4,
        out_channels=48 if patches else 4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        norm_num_groups=8,
        attention_head_dim=4,
    )
    unet.to(dtype).save_pretrained(path / "unet", variant=variant)
    if patches:
        PatchAutoencoder().save_pretrained(path / "vae")
    else:
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
        vae = AutoencoderKL(
            block_out_channels=(8, 16, 16), norm_num_groups=8, latent_channels=4, sample_size=4 * sample_size, **blocks
        )
        vae.to(dtype).save_pretrained(path / "vae", variant=variant)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    DDPMScheduler(prediction_type=prediction_type, **schedule).save_pretrained(path / "scheduler")
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), encoding="utf-8")
    return path


def add_prefix(file: Path) -> None:
    """Name a text encoder's tensors as the folders on the hub do: text_model.encoder..., not encoder..."""
    tensors = load_file(file)
    save_file({f"text_model.{k.removeprefix('text_model.')}": v for k, v in tensors.items()}, file, {"format": "pt"})
