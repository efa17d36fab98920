"""Small estimators with random weights, in the folders of the real ones."""

import json
from pathlib import Path

import torch
from helpers import write_sd_folder

from splatdistill.estimators.network import GeometryNet


def write_tiny_geometry(folder: Path, seed: int = 0) -> Path:
    """Write a tiny-geometry with random weights; return its folder."""
    torch.manual_seed(seed)
    GeometryNet((16, 16, 24)).save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"name": "tiny-geometry"}), encoding="utf-8")
    return folder


def write_dpt_hybrid(folder: Path, size: int = 32, seed: int = 0) -> Path:
    """Write MiDaS's DPT-hybrid, a convolutional backbone under a transformer, of 0.2 MB; return its folder."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(seed)
    backbone = {
        "model_type": "bit", "global_padding": "same", "layer_type": "bottleneck", "depths": [1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3"], "embedding_dynamic_padding": True,
        "embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "num_groups": 8,
    }  # fmt: skip
    config = DPTConfig(
        is_hybrid=True, backbone_config=backbone, backbone_featmap_shape=[1, 32, size // 16, size // 16], image_size=size,
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 16, 16], fusion_hidden_size=16, reassemble_factors=[1, 1, 1, 0.5],
    )  # fmt: skip
    model = DPTForDepthEstimation(config)
    with torch.no_grad():  # the last layer is a ReLU, which random weights leave at zero
        model.head.head[-2].bias.fill_(1.0)
    model.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    DPTImageProcessor(size={"height": size, "width": size}, image_mean=half, image_std=half).save_pretrained(folder)
    return folder


def write_marigold(folder: Path, seed: int = 0) -> Path:
    """Write a MarigoldNormalsPipeline over the networks of a small Stable Diffusion; return its folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, MarigoldNormalsPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    sd = write_sd_folder(folder.with_name("sd"), seed=seed)
    config = UNet2DConditionModel.load_config(sd / "unet")
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False, rescale_betas_zero_snr=True,
    )  # fmt: skip
    MarigoldNormalsPipeline(
        unet=UNet2DConditionModel.from_config({**config, "in_channels": 8}),
        vae=AutoencoderKL.from_pretrained(sd / "vae"),
        scheduler=scheduler,
        text_encoder=CLIPTextModel.from_pretrained(sd / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(sd / "tokenizer"),
        prediction_type="normals", use_full_z_range=True, default_denoising_steps=1, default_processing_resolution=32,
    ).save_pretrained(folder)  # fmt: skip
    return folder
