"""The multi-view network that scripts/train_models.py trains, its loss, and pictures from it.

One file for one view, four views, a picture as the prompt, and rooms, in Stable Diffusion's shape: a UNet2DConditionModel on 8x8
patches of 128x128 pictures, a CLIP text encoder, cameras as MVDream tells them, and self-attention joint over the views.

Flow matching (Lipman et al., arXiv:2210.02747; Liu et al., arXiv:2209.03003): x_t = (1 - t) x + t eps. The network answers x, and
is trained on the velocity eps - x = (x_t - x) / t that this implies, as Li and He, arXiv:2511.13720: the patches of a picture lie
near a manifold of few dimensions, its noise does not, and 192 values a patch do not pass through 112 channels.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from tiny_models import text_config, word_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from splatdistill.priors.multiview import NUMBERS, joint
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.real_split import SPLIT

LENGTH = 24  # tokens of a caption
PATCH = 8
SHIFT = 6.0  # of the times, towards noise
LEAST_T = 0.1  # the velocity's error is not weighted more than at this time


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    size: int = 128  # pixels
    channels: tuple[int, ...] = (112, 144, 192)
    text: int = 128
    layers: int = 2  # of the text encoder
    heads: int = 4
    groups: int = 16


def lexicon() -> list[str]:
    """Every word that a caption may have."""
    words = [*NAMED, *PRIMITIVES, *COLOURS, *PATTERNS[1:], *SPLIT.kinds]
    words += ["a", "an", "and", "on", "with", "of", "in", "room", "walls", "floor", "front", "side", "back", "overhead", "left", "right", "view", ","]
    return sorted({part for word in words for part in word.split()})


class WorldModel(nn.Module):
    """Text encoder and UNet; answers the clean picture."""

    def __init__(self, folder: Path, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.tokenizer: CLIPTokenizer = word_tokenizer(folder / "tokenizer", lexicon(), LENGTH)
        self.text = CLIPTextModel(CLIPTextConfig(**text_config(self.tokenizer, shape.text, shape.layers, LENGTH)))
        deep = len(shape.channels) - 1
        self.unet = joint(
            UNet2DConditionModel(
                sample_size=shape.size // PATCH,
                in_channels=3 * PATCH**2,
                out_channels=3 * PATCH**2,
                down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * deep,
                up_block_types=("CrossAttnUpBlock2D",) * deep + ("UpBlock2D",),
                block_out_channels=shape.channels,
                layers_per_block=1,
                cross_attention_dim=shape.text,
                attention_head_dim=shape.heads,
                norm_num_groups=shape.groups,
                class_embed_type="projection",
                projection_class_embeddings_input_dim=NUMBERS,
                # words also reach every layer with the time: cross-attention alone learns "front" and "back" late
                addition_embed_type="text",
                addition_embed_type_num_heads=shape.heads,
            )
        )
        self._known: dict[str, Tensor] = {}

    def ids(self, texts: list[str]) -> Int[Tensor, "b length"]:
        """Tokens of texts; each text is read once."""
        if fresh := [t for t in dict.fromkeys(texts) if t not in self._known]:
            read = self.tokenizer(fresh, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
            self._known |= dict(zip(fresh, read))
        return torch.stack([self._known[t] for t in texts])

    def forward(
        self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], ids: Int[Tensor, "b length"], camera: Float[Tensor, "b 16"], views: int
    ) -> Float[Tensor, "b c h w"]:
        """The clean pictures' patches, from those noised to t in [0, 1]; sets of `views` are consecutive."""
        text = self.text(input_ids=ids).last_hidden_state
        return self.unet(x_t, 1000 * t, text, class_labels=camera, cross_attention_kwargs={"views": views}).sample

    def describe(self, folder: Path) -> None:
        """Write the configurations that a loader needs beside the weights."""
        self.unet.save_config(folder / "unet")
        self.text.config.save_pretrained(folder / "text_encoder")
        (folder / "shape.json").write_text(json.dumps(self.shape.__dict__, indent=1) + "\n", encoding="utf-8")


def patches(picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h8 w8"]:
    """[0, 1] to patches in [-1, 1]."""
    return F.pixel_unshuffle(2 * picture - 1, PATCH)


def pictures(x: Float[Tensor, "b c h8 w8"]) -> Float[Tensor, "b 3 h w"]:
    """The inverse of patches."""
    return (F.pixel_shuffle(x, PATCH) + 1) / 2


@dataclass(frozen=True)
class Batch:
    """Sets of pictures and what is told of them; `views` pictures a set, of which the first may be clean."""

    picture: Float[Tensor, "b 3 h w"]
    texts: list[str]
    camera: Float[Tensor, "b 16"]
    views: int = 1
    prompted: bool = False  # the first picture of each set is the prompt: no noise, no camera


def draw_times(sets: int, rng: torch.Generator) -> Float[Tensor, " sets"]:
    """Times for training: four in five as a sampler takes them, even ones moved by SHIFT; the rest even."""
    even, which = (torch.rand(sets, generator=rng, device=rng.device) for _ in range(2))
    return torch.where(which < 0.2, even, SHIFT * even / (1 + (SHIFT - 1) * even)).clamp(0.01, 1)


def loss(model: WorldModel, batch: Batch, rng: torch.Generator) -> Tensor:
    """Mean squared error of the velocity, one time for each set."""
    x = patches(batch.picture)
    t = draw_times(len(x) // batch.views, rng).repeat_interleave(batch.views).to(x.device)
    noised = torch.ones_like(t, dtype=torch.bool)
    if batch.prompted:
        noised[:: batch.views] = False
        t = torch.where(noised, t, torch.zeros_like(t))
    noise = torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
    at = t.view(-1, 1, 1, 1)
    x_t = ((1 - at) * x + at * noise).contiguous(memory_format=torch.channels_last)
    ids = model.ids(batch.texts).to(x.device)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half_precision(x.device)):
        answer = model(x_t, t, ids, batch.camera, batch.views)
    error = (answer.float() - x).square().mean((1, 2, 3)) / t.clamp(min=LEAST_T).square()
    return error[noised].mean()


def half_precision(device: torch.device) -> bool:
    """Whether bfloat16 is the faster there: on a CUDA device, and on CPUs that multiply it natively."""
    if device.type != "cpu":
        return device.type == "cuda"
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


@torch.no_grad()
def sample(
    model: WorldModel,
    texts: list[str],
    camera: Float[Tensor, "b 16"],
    rng: torch.Generator,
    views: int = 1,
    prompt: Float[Tensor, "sets 3 h w"] | None = None,
    scale: float = 3.0,
    steps: int = 25,
) -> Float[Tensor, "b 3 h w"]:
    """Pictures by Euler's method from noise at t = 1, with guidance on the clean picture; `prompt` is a picture for each set.

    Noise of many pixels hides less of what they share: colour and place are decided near t = 1. There most steps are taken, the
    even times u moved to s u / (1 + (s - 1) u) (Esser et al., arXiv:2403.03206, eq. 23), s = SHIFT.
    """
    device, shape = camera.device, model.unet.config
    x = torch.randn(len(texts), shape.in_channels, shape.sample_size, shape.sample_size, generator=rng, device=rng.device).to(device)
    even = torch.linspace(1, 0, steps + 1)
    times = (SHIFT * even / (1 + (SHIFT - 1) * even)).tolist()
    ids, empty = model.ids(texts).to(device), model.ids([""] * len(texts)).to(device)
    for now, after in zip(times, times[1:]):
        clean = [_answer(model, x, now, words, camera, views, prompt) for words in ([ids] if scale == 1 else [ids, empty])]
        best = clean[0] if scale == 1 else clean[1] + scale * (clean[0] - clean[1])
        noise = (x - (1 - now) * best) / now
        x = (1 - after) * best + after * noise
    return pictures(x).clamp(0, 1)


def _answer(model: WorldModel, x: Tensor, now: float, ids: Tensor, camera: Tensor, views: int, prompt: Tensor | None) -> Tensor:
    """The model's clean pictures at one time; the prompts go in as first pictures and are left out of the answer."""
    t = x.new_full((len(x),), now)
    if prompt is not None:
        first = patches(prompt).unsqueeze(1)
        x = torch.cat([first, x.unflatten(0, (-1, views))], 1).flatten(0, 1)
        t = torch.cat([t.new_zeros(len(first), 1), t.view(-1, views)], 1).flatten()
        camera = torch.cat([camera.new_zeros(len(first), 1, NUMBERS), camera.unflatten(0, (-1, views))], 1).flatten(0, 1)
        ids = torch.cat([ids.unflatten(0, (-1, views))[:, :1], ids.unflatten(0, (-1, views))], 1).flatten(0, 1)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half_precision(x.device)):
        answer = model(x, t, ids, camera, views + (prompt is not None)).float()
    return answer if prompt is None else answer.unflatten(0, (-1, views + 1))[:, 1:].flatten(0, 1)
