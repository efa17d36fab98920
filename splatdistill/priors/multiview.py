"""Several pictures of one object at once: what a multi-view network needs besides a UNet2DConditionModel.

MVDream (Shi et al., arXiv:2308.16512) changes Stable Diffusion in two places. Each picture's camera, as 16 numbers, is added to
the time's embedding: `class_embed_type="projection"` with `projection_class_embeddings_input_dim=16` does it. And in
self-attention the pictures of a set see each other, with the weights of the single picture: JointAttention does that. The
embedded multi-view prior has the same two.

A picture as the prompt is one more frame of each set, as in ImageDream (Wang and Shi, arXiv:2312.02201, its "pixel controller"): clean,
told time 0 and no camera, seen by the others in the joint attention; what is answered for it is dropped.
"""

import math
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from splatdistill.cameras import Cameras

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

NUMBERS = 16  # of a camera


def camera_numbers(cameras: Cameras) -> Float[Tensor, "b 16"]:
    """Return the cameras in MVDream's format (b,16), see pose_numbers."""
    return pose_numbers(cameras.camera_to_world)


def pose_numbers(camera_to_world: Float[Tensor, "b 4 4"], azimuth: float = 0.0) -> Float[Tensor, "b 16"]:
    """Return the poses in MVDream's format (b,16): the rows of the camera-to-world matrix in OpenGL's axes (x right, y up,
    looking along -z; world z up), the position at length 1. Distance and field of view are not passed to the network. Zeros,
    which stand for an unknown camera, stay zeros. azimuth: degrees by which the object's front is turned in the network's world.
    """
    pose = camera_to_world.clone()
    if azimuth:
        pose = turned(azimuth, pose) @ pose
    pose[:, :3, 1:3] *= -1
    pose[:, :3, 3] = F.normalize(pose[:, :3, 3], dim=1)
    return pose.flatten(1)


def turned(azimuth: float, like: Tensor) -> Float[Tensor, "4 4"]:
    """Return the rotation matrix about the world's z axis by an angle in degrees."""
    angle = torch.tensor(math.radians(azimuth), dtype=torch.float64)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    return turn.to(like)


class JointAttention:
    """Attention processor of diffusers in which the `views` pictures of a set, consecutive in the batch, share self-attention.

    (b f, l, c) becomes (b, f l, c) where a block attends to itself; attention to the text stays as it is. The number of views is
    an argument of the call: unet(..., cross_attention_kwargs={"views": 4}).
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b l c"],
        encoder_hidden_states: Float[Tensor, "b m d"] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        views: int = 1,
    ) -> Float[Tensor, "b l c"]:
        """Return the attention's output."""
        shape = hidden_states.shape
        if encoder_hidden_states is None:
            if len(hidden_states) % views:
                raise ValueError(f"a batch of {len(hidden_states)} is not made of sets of {views} views")
            if views > 1:
                hidden_states = hidden_states.reshape(-1, views * shape[1], shape[2])
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            project(x).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for project, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        mixed = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return attn.to_out[1](mixed).reshape(shape)


def joint(unet: "UNet2DConditionModel") -> "UNet2DConditionModel":
    """Return the same network with self-attention joint over the `views` that a call names."""
    unet.set_attn_processor(cast(Any, JointAttention()))  # diffusers lists its own processors only
    return unet


def before_each_set(first: Shaped[Tensor, "sets ..."], rest: Shaped[Tensor, "b ..."], views: int) -> Shaped[Tensor, "frames ..."]:
    """Return a batch of sets of `views` with one more frame before each: sets of views + 1."""
    return torch.cat([first.unsqueeze(1), rest.unflatten(0, (-1, views))], 1).flatten(0, 1)


def without_first(frames: Shaped[Tensor, "frames ..."], views: int) -> Shaped[Tensor, "b ..."]:
    """Return the sets of `views` that `before_each_set` put a frame before."""
    return frames.unflatten(0, (-1, views + 1))[:, 1:].flatten(0, 1)


def no_camera(count: int, like: Tensor | None = None) -> Float[Tensor, "count 16"]:
    """Return the camera of a picture without one: zeros (count,16), as in ImageDream (arXiv:2312.02201)."""
    return torch.zeros(count, NUMBERS) if like is None else like.new_zeros(count, NUMBERS)
