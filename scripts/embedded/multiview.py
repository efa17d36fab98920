"""The multi-view network that scripts/train_models.py trains, its loss, and pictures from it.

One file for one view, four views, a picture as the prompt, and rooms, in Stable Diffusion's shape: a UNet2DConditionModel on the
16x16 cells of 128x128 pictures (splatdistill.priors.patches.WaveletAutoencoder), a CLIP text encoder, Stable
Diffusion's noise schedule, cameras as MVDream tells them, and self-attention joint over the views.

It answers the clean picture ("Back to Basics: Let Denoising Generative Models Denoise", Li and He, arXiv:2511.13720): the noise of 192
channels does not pass through a network of 96. When it answered v of the 48 coarse channels, plain backgrounds kept a grain of 7 levels of 256.

It can begin as the prior of 64x64 pictures that the package carries: what that sees are the coarse channels, and the same numbers
in every layer make it the same network there, but for its last, as that answers v, minus the picture at the strongest noise; words, colours and
view words are known from the first step. Begun from nothing, on plain 8x8 patches, it did not tell captions apart after half an hour of one core.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from embedded.networks import exported, rows_by_word, text_config, word_tokenizer
from splatdistill.priors.multiview import NUMBERS, joint
from splatdistill.priors.patches import WaveletAutoencoder
from splatdistill.priors.prediction import to_eps
from splatdistill.priors.schedule import TableSchedule
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.real_split import SPLIT

LENGTH = 24  # tokens of a caption
CODEC = WaveletAutoencoder(8, 4.0)
BANDS = (2.0, 1.0, 1.0, 1.0)  # weights in the loss: coarse, and three of details
LEAST = 0.1  # sigma^2 below which an error does not weigh more; above, it weighs as an error of v
SCHEDULE = TableSchedule.scaled_linear()
LATE = {False: (0.5, 0.2, 0.9), True: (0.6, 0.55, 1.0)}
"""Share of the times of single pictures, and of sets, that are drawn from a range; the others are uniform. In the range it is decided
which side is seen: by words of the view, and by the camera. After 43,000 steps with 0.4 of them from 0.2 to 0.7, right cameras made the error
of sets at t = 0.9 only 4 % smaller than none, and cars showed one side in all views.
"""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    size: int = 128  # pixels
    channels: tuple[int, ...] = (96, 128, 192)
    text: int = 128
    layers: int = 2  # of the text encoder
    heads: int = 4
    groups: int = 16


def lexicon() -> list[str]:
    """Return every word that a caption may have."""
    words = [*NAMED, *PRIMITIVES, *COLOURS, *PATTERNS[1:], *SPLIT.kinds]
    words += ["a", "an", "and", "on", "with", "of", "in", "room", "walls", "floor", "front", "side", "back", "overhead", "left", "right", "view", ","]
    return sorted({part for word in words for part in word.split()})


class WorldModel(nn.Module):
    """Text encoder and UNet that predicts the clean latents."""

    def __init__(self, folder: Path, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.tokenizer: CLIPTokenizer = word_tokenizer(folder / "tokenizer", lexicon(), LENGTH)
        self.text = CLIPTextModel(CLIPTextConfig(**text_config(self.tokenizer, shape.text, shape.layers, LENGTH)))
        deep = len(shape.channels) - 1
        self.unet = joint(
            UNet2DConditionModel(
                sample_size=shape.size // CODEC.patch,
                in_channels=3 * CODEC.patch**2,
                out_channels=3 * CODEC.patch**2,
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
        assert self.unet.class_embedding is not None and self.unet.add_embedding is not None
        for p in (*self.unet.class_embedding.linear_2.parameters(), *self.unet.conv_out.parameters()):
            nn.init.zeros_(p)  # cameras are silent at first, and the answer is nothing
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def begin_as(self, folder: Path) -> None:
        """Load the exported prior of pictures half as large: the answer minus its v on the coarse channels, nothing on the details."""
        weights, own = exported(folder / "unet"), self.unet.state_dict()
        for name, value in weights.items():
            if own[name].shape == value.shape:
                own[name].copy_(value)
            elif name == "conv_in.weight":
                own[name].zero_()
                own[name][:, : value.shape[1]] = value
            elif name.startswith("conv_out."):
                own[name].zero_()
                own[name][: len(value)] = -value
            else:
                raise ValueError(f"{folder} holds another network: its {name} is {tuple(value.shape)}")
        if missing := [k for k in own.keys() - weights.keys() if not k.startswith("class_embedding.")]:
            raise ValueError(f"{folder} holds another network, without {missing[0]}")
        weights, text = exported(folder / "text_encoder"), self.text.state_dict()
        vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
        for name, value in weights.items():
            there = text[name if name in text else name.removeprefix("text_model.")]
            if name.endswith("token_embedding.weight"):
                there.copy_(rows_by_word(self.tokenizer, there, vocabulary, value))
            elif name.endswith("position_embedding.weight"):
                there[: len(value)] = value
                there[len(value) :] = value[-1]
            elif "position_ids" not in name:
                there.copy_(value)

    def ids(self, texts: list[str]) -> Int[Tensor, "b length"]:
        """Return the tokens of texts; each text is tokenised once."""
        if fresh := [t for t in dict.fromkeys(texts) if t not in self._known]:
            read = self.tokenizer(fresh, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
            self._known |= dict(zip(fresh, read))
        return torch.stack([self._known[t] for t in texts])

    def forward(
        self, x_t: Float[Tensor, "b c h w"], step: Int[Tensor, " b"], ids: Int[Tensor, "b length"], camera: Float[Tensor, "b 16"], views: int
    ) -> Float[Tensor, "b c h w"]:
        """Return the clean latents predicted from those at a step of the schedule; sets of `views` are consecutive."""
        text = self.text(input_ids=ids).last_hidden_state
        return self.unet(x_t, step, text, class_labels=camera, cross_attention_kwargs={"views": views}).sample


@dataclass(frozen=True)
class Batch:
    """Sets of pictures with their texts and cameras; `views` pictures a set, of which the first may be clean."""

    picture: Float[Tensor, "b 3 h w"]
    texts: list[str]
    camera: Float[Tensor, "b 16"]
    views: int = 1
    prompted: bool = False  # the first picture of each set is the prompt: no noise, no camera


def draw_steps(sets: int, together: bool, rng: torch.Generator) -> Int[Tensor, " sets"]:
    """Return random steps of the schedule, one for each picture, or for each set."""
    (share, low, high), (u, which) = LATE[together], (torch.rand(sets, generator=rng, device=rng.device) for _ in range(2))
    return (1000 * torch.where(which < share, low + (high - low) * u, u)).long()


def loss(model: WorldModel, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return the mean squared error of the clean latents, weighted by band and noise; one time for each set."""
    x = CODEC.to(batch.picture.device).encode(2 * batch.picture - 1)
    step = draw_steps(len(x) // batch.views, batch.views > 1, rng).repeat_interleave(batch.views).to(x.device)
    noised = torch.ones_like(step, dtype=torch.bool)
    if batch.prompted:
        noised[:: batch.views] = False
    alpha, sigma = SCHEDULE.to(x.device).broadcast(step.double() / 1000, 3, x.dtype)
    eps = torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
    shown = noised.view(-1, 1, 1, 1)
    x_t = torch.where(shown, alpha * x + sigma * eps, x).contiguous(memory_format=torch.channels_last)
    ids = model.ids(batch.texts).to(x.device)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half_precision(x.device)):
        answer = model(x_t, torch.where(noised, step, 0), ids, batch.camera, batch.views)
    each = (answer.float() - x).square().unflatten(1, (4, -1)).mean((2, 3, 4))
    weighted = each * torch.tensor(BANDS, device=x.device) / sigma.view(-1, 1).square().clamp(min=LEAST)
    return weighted[noised].mean()


def half_precision(device: torch.device) -> bool:
    """Return True if bfloat16 is the faster there: on a CUDA device, and on CPUs that multiply it natively."""
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
    """Return pictures by DDIM (Song et al., arXiv:2010.02502, eq. 12, eta = 0), with guidance; `prompt` is a picture for each set."""
    device, shape = camera.device, model.unet.config
    codec, schedule = CODEC.to(device), SCHEDULE.to(device)
    x = torch.randn(len(texts), shape.in_channels, shape.sample_size, shape.sample_size, generator=rng, device=rng.device).to(device)
    times = torch.linspace(0.999, 0, steps + 1, dtype=torch.float64, device=device)
    ids, empty = model.ids(texts).to(device), model.ids([""] * len(texts)).to(device)
    first = None if prompt is None else codec.encode(2 * prompt - 1).unsqueeze(1)
    for now, after in zip(times[:-1], times[1:]):
        (alpha, sigma), (alpha_s, sigma_s) = (schedule.broadcast(t.view(1), 3, x.dtype) for t in (now, after))
        told = [ids] if scale == 1 else [ids, empty]
        found = [to_eps("sample", _answer(model, x, int(1000 * now), words, camera, views, first), x, alpha, sigma) for words in told]
        eps = found[0] if scale == 1 else found[1] + scale * (found[0] - found[1])
        x = alpha_s * (x - sigma * eps) / alpha + sigma_s * eps
    return ((codec.decode(x) + 1) / 2).clamp(0, 1)


def _answer(model: WorldModel, x: Tensor, now: int, ids: Tensor, camera: Tensor, views: int, first: Tensor | None) -> Tensor:
    """Return the model's answer at one step; the prompt pictures go in first and are left out of the answer."""
    step = torch.full((len(x),), now, device=x.device)
    if first is not None:
        x = torch.cat([first, x.unflatten(0, (-1, views))], 1).flatten(0, 1)
        step = torch.cat([step.new_zeros(len(first), 1), step.view(-1, views)], 1).flatten()
        camera = torch.cat([camera.new_zeros(len(first), 1, NUMBERS), camera.unflatten(0, (-1, views))], 1).flatten(0, 1)
        ids = torch.cat([ids.unflatten(0, (-1, views))[:, :1], ids.unflatten(0, (-1, views))], 1).flatten(0, 1)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half_precision(x.device)):
        answer = model(x.contiguous(memory_format=torch.channels_last), step, ids, camera, views + (first is not None)).float()
    return answer if first is None else answer.unflatten(0, (-1, views + 1))[:, 1:].flatten(0, 1)
