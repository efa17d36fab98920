"""The configurations of a folder of Zero-1-to-3: what it has beside Stable Diffusion's parts, and how they fit each other."""

from collections.abc import Iterator
from typing import Any

from splatdistill.weight_files import shown

POSE = 4  # numbers of a pose, see camera_projection.py
SIDES = (8, 1024)  # pixels of the pictures that an image encoder may read


def zero123_faults(configs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield what keeps a folder's parts from being those of Zero-1-to-3."""
    unet, vae, encoder, projection = (configs[k] for k in ("unet", "vae", "image_encoder", "clip_camera_projection"))
    channels = vae.get("latent_channels", 4)
    if (reads := unet.get("in_channels", 4)) != 2 * channels:
        yield f"the UNet reads {shown(reads)} channels; expected {2 * channels}, a view's latents and the picture's"
    if (makes := unet.get("out_channels", 4)) != channels:
        yield f"the UNet makes {shown(makes)} channels and the VAE {shown(channels)}"
    if (kind := encoder.get("model_type", "clip_vision_model")) != "clip_vision_model":
        yield f"image_encoder/config.json says {shown(kind)}; expected CLIP's (clip_vision_model)"
    side = encoder.get("image_size", 224)
    if type(side) is not int or not SIDES[0] <= side <= SIDES[1]:
        yield f"image_encoder/config.json says image_size {shown(side)}; expected 224"
    width, more = projection.get("embedding_dim", 768), projection.get("additional_embeddings", POSE)
    if more != POSE:
        yield f"clip_camera_projection/config.json says additional_embeddings {shown(more)}; expected {POSE}, of a pose"
    for what, has in (("image encoder makes", encoder.get("projection_dim", 512)), ("UNet reads", unet.get("cross_attention_dim", 1280))):
        if has != width:
            yield f"the {what} embeddings of width {shown(has)} and the camera projection those of {shown(width)}"
