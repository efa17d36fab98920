"""Small random folders of the families beside SD 1.x/2.x, in the layout of the real ones."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from helpers import add_prefix, write_tokenizer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection


def write_encoder(path: Path, number: int, width: int, projected: bool) -> None:
    """Write a tokenizer and a text encoder; with a projection to 24 numbers."""
    end = "" if number == 1 else f"_{number}"
    tokenizer = write_tokenizer(path / f"tokenizer{end}")
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind(config).save_pretrained(path / f"text_encoder{end}")
    if not projected:
        add_prefix(path / f"text_encoder{end}" / "model.safetensors")


def write_vae(path: Path, channels: int, **config: float | bool | None) -> None:
    """Write an autoencoder with latents of 4 x 4 pixels."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    AutoencoderKL(block_out_channels=(8, 16, 16), norm_num_groups=8, latent_channels=channels, sample_size=32, **blocks, **config).save_pretrained(path / "vae")


def write_xl_folder(path: Path, prediction_type: str = "epsilon") -> Path:
    """Write a random Stable Diffusion XL: encoders of widths 16 and 32, pooled vectors of 24, pictures of 32 pixels."""
    torch.manual_seed(0)
    write_encoder(path, 1, 16, projected=False)
    write_encoder(path, 2, 32, projected=True)
    UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=48,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    ).save_pretrained(path / "unet")
    write_vae(path, 4, scaling_factor=0.13025)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    DDPMScheduler(prediction_type=prediction_type, **schedule).save_pretrained(path / "scheduler")
    write_index(path, "StableDiffusionXLPipeline", "unet", "UNet2DConditionModel", force_zeros_for_empty_prompt=True)
    return path


def write_sd3_folder(path: Path) -> Path:
    """Write a random Stable Diffusion 3 without its T5: encoders of widths 16 and 32, 16 latent channels, pictures of 32 pixels."""
    torch.manual_seed(0)
    write_encoder(path, 1, 16, projected=True)
    write_encoder(path, 2, 32, projected=True)
    SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=48,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    ).save_pretrained(path / "transformer")
    write_vae(path, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(path / "scheduler")
    write_index(path, "StableDiffusion3Pipeline", "transformer", "SD3Transformer2DModel", text_encoder_3=[None, None], tokenizer_3=[None, None])
    return path


def write_zero123_folder(path: Path, **said: object) -> Path:
    """Write a random Zero-1-to-3: a vision encoder of width 16 with embeddings of 24, a UNet of 8 input channels, pictures of 32 pixels."""
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=8,
    ).save_pretrained(path / "unet")
    write_vae(path, 4)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=7, projection_dim=24)
    CLIPVisionModelWithProjection(vision).save_pretrained(path / "image_encoder")
    projection = path / "clip_camera_projection"
    projection.mkdir(parents=True)
    save_file({"proj.weight": torch.randn(24, 28), "proj.bias": torch.randn(24)}, projection / "diffusion_pytorch_model.safetensors")
    (projection / "config.json").write_text(json.dumps({"_class_name": "CLIPCameraProjection", "embedding_dim": 24, "additional_embeddings": 4}), encoding="utf-8")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False).save_pretrained(path / "scheduler")
    parts = {"vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet2DConditionModel"], "clip_camera_projection": ["zero123", "CLIPCameraProjection"]}
    (path / "model_index.json").write_text(json.dumps({"_class_name": "Zero123Pipeline", **parts, **said}), encoding="utf-8")
    return path


def write_index(path: Path, name: str, network: str, kind: str, **more: object) -> None:
    """Write model_index.json in the form that diffusers' own pipelines read."""
    encoders = {e: ["transformers", json.loads((path / e / "config.json").read_text(encoding="utf-8"))["architectures"][0]] for e in ("text_encoder", "text_encoder_2")}
    tokenizers = {key: ["transformers", "CLIPTokenizer"] for key in ("tokenizer", "tokenizer_2")}
    scheduler = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))["_class_name"]
    index = {"_class_name": name, network: ["diffusers", kind], "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", scheduler]}
    (path / "model_index.json").write_text(json.dumps({**index, **encoders, **tokenizers, **more}), encoding="utf-8")
