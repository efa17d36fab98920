"""A step of our guidances and one of threestudio's, on the same random networks of Stable Diffusion's shape."""

import copy
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmark_guidance import Tape
from threestudio_snapshot import Snapshot
from torch import Tensor, nn

from splatdistill.cameras import ViewWords, orbit, with_view
from splatdistill.guidance import Guidance, View
from splatdistill.guidance.sdi import SDI
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.sjc import SJC
from splatdistill.guidance.times import Times
from splatdistill.priors import Condition, Query
from splatdistill.priors.parts import Parts
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.schedule import TableSchedule
from splatdistill.priors.stable import StableDiffusionPrior

PROMPT, TOKENS, WIDTH = "a hamburger", 77, 1024
AZIMUTH, ELEVATION, DISTANCE = (30.0, 120.0, -150.0, -60.0), 15.0, 2.5
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}


@dataclass(frozen=True)
class Method:
    """Guidance of theirs, and ours with the same settings at one time t."""

    module: str
    ours: Guidance
    config: Mapping[str, Any] = field(default_factory=dict)
    perp_neg: bool = False
    t: float = 0.5


def walk(t: float) -> Times:
    """Return times of a run that is always at t, in whole steps."""
    return Times("linear", t_min=t, t_max=t, integer=True)


SDI_CONFIG = {"guidance_scale": 7.5, "inversion_guidance_scale": -7.5, "inversion_n_steps": 10, "inversion_eta": 0.3}  # its sdi.yaml
PLAIN, SDI_MODULE = "stable_diffusion_guidance", "stable_diffusion_sdi_guidance"
METHODS = {
    "sds": Method(PLAIN, SDS(variant="code", times=walk(0.5))),
    "sds, Perp-Neg": Method(PLAIN, SDS(variant="code", times=walk(0.5), scale=100.0), perp_neg=True),
    "sjc": Method(PLAIN, SJC(variant="code", times=walk(0.5)), {"use_sjc": True}),
    "sdi": Method(SDI_MODULE, SDI(variant="code", times=walk(0.5)), SDI_CONFIG),
    "sdi, Perp-Neg": Method(SDI_MODULE, SDI(variant="code", times=walk(0.5), scale=7.5, inversion_scale=-7.5), SDI_CONFIG, perp_neg=True),
}
"""Scales in the convention of each branch: without Perp-Neg theirs is pos + s (pos - neg), ours neg + s (pos - neg), one more."""


@dataclass(frozen=True)
class Networks:
    """Random networks that both sides ask."""

    unet: Any
    vae: Any
    text: dict[str, Tensor]  # by what is said, (tokens, width)

    def to(self, unet: torch.dtype, vae: torch.dtype) -> "Networks":
        """Return them in other precisions, copied where they differ."""

        def moved(network: Any, dtype: torch.dtype) -> Any:
            return network if next(network.parameters()).dtype == dtype else copy.deepcopy(network).to(dtype)

        return Networks(moved(self.unet, unet), moved(self.vae, vae), self.text)


def networks(size: int, vae: int, device: str) -> Networks:
    """Return Stable Diffusion 2.1's networks with random weights, with `size` channels in the place of 320 and `vae` in the place of 128."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(0)
    heads, groups = max(1, size // 64), min(32, size)
    said: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": WIDTH, "use_linear_projection": True, "norm_num_groups": groups}
    said |= {"block_out_channels": (size, 2 * size, 4 * size, 4 * size), "attention_head_dim": [heads, 2 * heads, 4 * heads, 4 * heads]}
    blocks: dict[str, Any] = {"block_out_channels": (vae, 2 * vae, 4 * vae, 4 * vae), "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device(device):
        unet: Any = UNet2DConditionModel.from_config(said)
        autoencoder = AutoencoderKL(layers_per_block=2, norm_num_groups=min(32, vae), latent_channels=4, **blocks)
    told = ["", PROMPT, *(with_view(PROMPT, word) for word in ("side", "front", "back", "overhead"))]
    text = {t: torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(k)).to(device) for k, t in enumerate(told)}
    return Networks(unet.eval().requires_grad_(False), autoencoder.eval().requires_grad_(False), text)


@dataclass
class Ours:
    """Our guidance on our prior."""

    method: Method
    networks: Networks
    batch: int
    low_memory: bool = False
    memory: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        n = self.networks
        parts = Parts(n.unet, n.vae, (), (), TableSchedule.scaled_linear(), "epsilon")
        self.prior = StableDiffusionPrior(parts, image_size=512, name="random SD 2.1", low_memory=self.low_memory, max_batch=4 if self.low_memory else 64)
        self.prior.read = lambda prompts: Condition(torch.stack([n.text[p] for p in prompts]).to(self.prior.dtype))  # type: ignore[method-assign]
        cameras = orbit(list(AZIMUTH[: self.batch]), [ELEVATION] * self.batch, DISTANCE, 60.0, 512)
        self.text = Prompts(PROMPT, words=ViewWords(), perp_neg=self.method.perp_neg).conditions(self.prior, cameras)
        self.memory = self.method.ours.init(self.prior)

    def view(self, x: Tensor) -> View:
        """Return the views of a step."""
        return View(x, self.text, self.prior, torch.Generator().manual_seed(0))

    def step(self, picture: Tensor) -> None:
        """Take one step: the gradient reaches the pictures."""
        x = self.prior.encode(picture, torch.Generator().manual_seed(0))
        self.method.ours(self.view(x), self.memory).loss.backward()

    def asked(self, picture: Tensor) -> list[tuple[Query, ...]]:
        """Take one step, and return what networks were asked in it."""
        tape = Tape(self.prior.answer)
        self.prior.answer = tape  # type: ignore[method-assign]
        try:
            self.step(picture)
        finally:
            del self.prior.answer
        return tape.asked

    def calls(self, picture: Tensor, asked: list[tuple[Query, ...]]) -> None:
        """Make only the calls of such a step: encoding with its gradient, and the UNet's."""
        x = self.prior.encode(picture, torch.Generator().manual_seed(0))
        for queries in asked:
            self.prior.answer(queries)
        x.backward(x.detach())


@dataclass
class Theirs:
    """threestudio's guidance on the same networks."""

    method: Method
    networks: Networks
    batch: int
    snapshot: Snapshot

    def __post_init__(self) -> None:
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        n, said = self.networks, self.method
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = DDIMScheduler(**SCHEDULE)
            scheduler.save_pretrained(Path(folder) / "scheduler")
            pipeline = StableDiffusionPipeline(n.vae, None, None, n.unet, scheduler, None, None, requires_safety_checker=False)  # type: ignore[arg-type]
            self.guidance = self.snapshot.guidance(said.module, pipeline, Path(folder), **said.config)
        self.guidance.weights_dtype = next(n.unet.parameters()).dtype
        self.guidance.set_min_max_steps(said.t, said.t)
        self.prompt = self.told()

    def with_exact_table(self) -> "Theirs":
        """Keep the schedule's alphas_cumprod in float64, from which its own table in float32 differs by rounding alone."""
        begin, end = (SCHEDULE[name] ** 0.5 for name in ("beta_start", "beta_end"))
        table = (1 - torch.linspace(begin, end, 1000, dtype=torch.float64) ** 2).cumprod(0)
        torch.testing.assert_close(self.guidance.alphas.double().cpu(), table, rtol=1e-5, atol=0)
        self.guidance.alphas = table.to(self.guidance.alphas.device)
        for scheduler in (self.guidance.scheduler, getattr(self.guidance, "inverse_scheduler", None)):
            if scheduler is not None:
                scheduler.alphas_cumprod = self.guidance.alphas
                for name in ("final_alpha_cumprod", "initial_alpha_cumprod"):
                    if hasattr(scheduler, name):
                        setattr(scheduler, name, self.guidance.alphas[0])
        if hasattr(self.guidance, "us"):
            self.guidance.us = ((1 - self.guidance.alphas) / self.guidance.alphas).sqrt()
        return self

    def told(self) -> Any:
        """Return the texts as its prompt processor would, by the view words of its defaults."""
        base = self.snapshot.module("models.prompt_processors.base")
        dtype, text = self.guidance.weights_dtype, self.networks.text
        turned = base.shift_azimuth_deg
        where = {
            "side": lambda e, a, d: torch.ones_like(e, dtype=torch.bool),
            "front": lambda e, a, d: turned(a).abs() < 45,
            "back": lambda e, a, d: turned(a).abs() > 135,
            "overhead": lambda e, a, d: e > 60,
        }
        directions = [base.DirectionConfig(name, None, None, condition) for name, condition in where.items()]
        views = torch.stack([text[with_view(PROMPT, name)] for name in where]).to(dtype)
        nothing = text[""].to(dtype)
        defaults = {f"perp_neg_f_{name}": getattr(base.PromptProcessor.Config, f"perp_neg_f_{name}") for name in ("sb", "fsb", "fs", "sf")}
        return base.PromptProcessorOutput(
            text_embeddings=text[PROMPT].to(dtype)[None], uncond_text_embeddings=nothing[None], text_embeddings_vd=views,
            uncond_text_embeddings_vd=nothing.expand_as(views), directions=directions, direction2idx={name: k for k, name in enumerate(where)},
            use_perp_neg=self.method.perp_neg, prompt=PROMPT, prompts_vd=[with_view(PROMPT, name) for name in where], **defaults,
        )  # fmt: skip

    def step(self, picture: Tensor) -> None:
        """Take one step: the gradient reaches the pictures."""
        place = picture.device
        azimuth, elevation = torch.tensor(AZIMUTH[: self.batch], device=place), torch.full((self.batch,), ELEVATION, device=place)
        distance = torch.full((self.batch,), DISTANCE, device=place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its code
            out = self.guidance(picture.permute(0, 2, 3, 1), self.prompt, elevation, azimuth, distance)
        next(v for k, v in out.items() if k.startswith("loss_")).backward()
