"""Stable Diffusion 1.x and 2.x, and the embedded prior: any folder of their diffusers layout, one class.

A folder holds tokenizer/, text_encoder/, unet/, scheduler/ and vae/, weights as safetensors; vae/config.json
may name an autoencoder of patches.py instead of AutoencoderKL, and the UNet may see several views (multiview.py). Finding and checking folders is weights.py's work.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTokenizer

from splatdistill.errors import UserError
from splatdistill.priors import Adapter, Condition, DiffusionPrior, Query, networks
from splatdistill.priors.apart import crowded, posterior, posterior_apart
from splatdistill.priors.batching import answer_grouped
from splatdistill.priors.layout import half_variant
from splatdistill.priors.lowrank import LowRank
from splatdistill.priors.multiview import NUMBERS, joint, pose_numbers
from splatdistill.priors.mvdream import camera_azimuth
from splatdistill.priors.patches import PatchAutoencoder, read_patches
from splatdistill.priors.precision import Precision, unet_dtype
from splatdistill.priors.prediction import Prediction, to_eps
from splatdistill.priors.random import normal
from splatdistill.priors.refusal import unusable
from splatdistill.priors.schedule import Schedule
from splatdistill.weight_files import read_object

FEW = 4
"""Pictures that the UNet sees at once where memory is to be spared."""


class StableDiffusionPrior(DiffusionPrior):
    """Text-to-image latent diffusion (Rombach et al., arXiv:2112.10752), frozen.

    The UNet may predict anything that prediction.py converts. It runs in its own precision; latents, schedule and
    answers are float32 (float64 with a float64 UNet). The network is told the nearest of its 1000 steps, the schedule
    is continuous; they agree at t = i/1000.
    """

    def __init__(
        self,
        unet: nn.Module,
        vae: AutoencoderKL | PatchAutoencoder,
        text_encoder: nn.Module,
        tokenizer: CLIPTokenizer,
        schedule: Schedule,
        prediction: Prediction,
        *,
        image_size: int,
        name: str = "",
        licence: str = "unknown, see the model card",
        max_batch: int = 64,
        views: int = 1,
        low_memory: bool = False,
        azimuth: float = 0.0,
    ):
        self.unet: Any = unet.eval().requires_grad_(False)
        self.views, self.azimuth = views, azimuth
        self.cameras = getattr(getattr(unet, "config", None), "class_embed_type", None) == "projection"
        if self.cameras:
            self.unet = joint(self.unet)
            self.wants = frozenset({"tokens", "camera"}) if views > 1 else self.wants
        self.vae: Any = vae.eval().requires_grad_(False)
        self.text_encoder: Any = text_encoder.eval().requires_grad_(False)
        # the encoder knows its length; a tokenizer without a configuration has none
        length = getattr(getattr(text_encoder, "config", None), "max_position_embeddings", 77)
        self.text_length = min(int(min(tokenizer.model_max_length, length)), length)
        self.tokenizer: Any = tokenizer
        self.prediction: Prediction = prediction
        self.max_batch = max(max_batch // views, 1) * views  # whole sets
        self.image_size, self.name, self.licence = image_size, name, licence
        self.perp_neg = not isinstance(vae, PatchAutoencoder)  # the embedded one knows its views
        first = next(unet.parameters())
        self.device, self.precision = first.device, first.dtype
        self.dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.noise = schedule.to(self.device)
        metric = getattr(vae, "metric", None)
        self.metric = None if metric is None else metric.to(self.device, self.dtype)
        self.low_memory = low_memory
        self._texts: dict[str, Tensor] = {}

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        *,
        name: str = "",
        licence: str = "unknown, see the model card",
        max_batch: int = 64,
        compile: bool = False,
        views: int = 1,
        low_memory: bool = False,
    ) -> "StableDiffusionPrior":
        """Load a folder that layout.problems finds nothing wrong with. Never asks the network. Raises WeightsError.

        max_batch: the most images that the UNet sees at once. compile: torch.compile the UNet, which takes
        minutes on the first call and pays off in long runs on a GPU. views: pictures of one object that it sees together,
        for a network that was taught to. low_memory: the text encoder stays on the CPU, pictures go through the autoencoder one
        at a time, and the UNet sees FEW of them at once.
        """
        folder, device, name = Path(folder), torch.device(device), name or str(folder)
        dtype = unet_dtype(precision, device)
        latents = torch.float64 if dtype == torch.float64 else torch.float32
        patches = read_patches(folder / "vae")
        dtypes = {"unet": dtype, "text_encoder": latents} | ({} if patches else {"vae": latents})
        variants = {k: half_variant(folder, k, prefer=d == torch.float16) for k, d in dtypes.items()}
        if faults := networks.faults(folder, variants):
            raise unusable(name, faults)
        if views > 1 and read_object(folder / "unet" / "config.json").get("class_embed_type") is None:
            raise UserError(f"The prior {name} sees one picture at a time; take --prior-views 1, or a multi-view prior instead of {views}.")
        places = {"text_encoder": torch.device("cpu")} if low_memory else {}
        parts = {k: networks.network(folder, k, variants[k], d, places.get(k, device), name) for k, d in dtypes.items()}
        unet, text_encoder = parts["unet"], parts["text_encoder"]
        if patches:
            vae, factor = patches, patches.patch
        else:
            vae = parts["vae"]
            factor = 2 ** (len(vae.config.block_out_channels) - 1)
        tokenizer = networks.tokenizer(folder, text_encoder.config.vocab_size, name)
        schedule, prediction = networks.read_schedule(folder / "scheduler" / "scheduler_config.json", name)
        image_size = factor * int(unet.config.sample_size)
        if device.type == "cuda":
            unet, vae = channels_last(unet), channels_last(vae)
        if compile:
            unet.compile()
        return cls(
            unet,
            vae,
            text_encoder,
            tokenizer,
            schedule,
            prediction,
            image_size=image_size,
            name=name,
            licence=licence,
            max_batch=min(max_batch, FEW) if low_memory else max_batch,
            views=views,
            low_memory=low_memory,
            azimuth=camera_azimuth(folder),
        )

    # -- text -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Condition:
        """Last hidden states of the text encoder, padded to the tokenizer's length; kept per distinct prompt. Warns about a prompt
        that is longer than the encoder reads.
        """
        new = [p for p in dict.fromkeys(prompts) if p not in self._texts]
        if new:
            ids = self._tokens(new).to(next(self.text_encoder.parameters()).device)
            embedded = self.text_encoder(input_ids=ids).last_hidden_state.to(self.device, self.dtype)
            self._texts |= dict(zip(new, embedded))
        return Condition(torch.stack([self._texts[p] for p in prompts]))

    def _tokens(self, prompts: list[str]) -> Tensor:
        length = self.text_length
        for prompt in prompts:
            ids = self.tokenizer(prompt, verbose=False).input_ids
            if len(ids) > length:
                lost = self.tokenizer.decode(ids[length - 1 : -1])
                warnings.warn(
                    f"The prompt has {len(ids)} tokens and {self.name} reads {length}; it will not see: {lost!r}",
                    stacklevel=4,
                )
        return self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids

    # -- images ---------------------------------------------------------------------------------------

    def encode(self, rgb: Float[Tensor, "b 3 h w"], rng: torch.Generator | None = None) -> Float[Tensor, "b *d"]:
        """Scaled latents of images in [0,1], (b, c, h/f, w/f); the gradient reaches the images.

        With an rng, a sample of the posterior N(mean, std^2), else its mean. PatchAutoencoder has no spread. Images go one at a
        time, with the same noise, where memory is to be spared or a card has too little of it for all.
        """
        image = 2 * rgb.to(self.device, self.dtype) - 1
        if isinstance(self.vae, PatchAutoencoder):
            return self.vae.encode(image)
        together = not (self.low_memory or crowded(self.vae, image))
        mean, std = self._posterior(image) if together else posterior_apart(self._posterior, image)
        x = mean.to(self.dtype)
        if rng is not None:
            x = x + std.to(self.dtype) * normal(x.shape, rng, x)
        return x * self.vae.config.scaling_factor

    def _posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        with self._vae_precision():
            return posterior(self.vae, image)

    def decode(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b 3 h w"]:
        """Images of scaled latents, not clamped; differentiable."""
        if isinstance(self.vae, PatchAutoencoder):
            return (self.vae.decode(x) + 1) / 2
        pieces = x.split(1) if self.low_memory and not torch.is_grad_enabled() else (x,)
        with self._vae_precision():
            image = torch.cat([self.vae.decode(piece / self.vae.config.scaling_factor).sample for piece in pieces])
        return (image.to(self.dtype) + 1) / 2

    def _vae_precision(self) -> torch.autocast:
        # On CUDA, beside a low-precision UNet: convolutions in bfloat16, whose range a gradient cannot leave as it
        # leaves float16's; weights, normalisations, image and latents stay float32.
        low = (
            self.device.type == "cuda"
            and self.precision in (torch.float16, torch.bfloat16)
            and torch.cuda.is_bf16_supported(False)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    # -- noise ----------------------------------------------------------------------------------------

    def schedule(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b *one"], Float[Tensor, "b *one"]]:
        """alpha_t and sigma_t, (b,1,1,1); see TableSchedule."""
        return self.noise.broadcast(t.to(self.device), 3, self.dtype)

    @torch.no_grad()
    def answer(self, queries: Sequence[Query]) -> tuple[Float[Tensor, "b *d"], ...]:
        """eps for every query. All queries of one network are one batch, cut at max_batch.

        An adapter (query.network) is called as network(x_t, t, condition) and answers eps itself.
        """
        return answer_grouped(queries, self._call)

    def _call(self, network: nn.Module | None, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.calls += len(x_t)
        pieces = zip(x_t.split(self.max_batch), t.to(self.device).split(self.max_batch), condition.split(self.max_batch))
        return torch.cat([(network or self.eps)(*piece).to(self.dtype) for piece in pieces])

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """The base network's eps for one batch, uncounted; with whatever gradient the caller has enabled."""
        return self.to_eps(self.predict(x_t, t, condition, self.unet), x_t, t)

    def predict(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition, unet: Callable
    ) -> Float[Tensor, "b *d"]:
        """The prediction of `unet`, the base network or a way to call it, in its own terms."""
        assert condition.tokens is not None
        x = x_t.to(self.precision)
        if self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        more: dict[str, Any] = {}
        if self.cameras:
            camera = x.new_zeros(len(x), NUMBERS) if condition.camera is None or self.views == 1 else pose_numbers(condition.camera, self.azimuth).to(x)
            more = {"class_labels": camera, "cross_attention_kwargs": {"views": self.views}}
        return unet(x, self.noise.timestep(t), encoder_hidden_states=condition.tokens.to(self.precision), **more).sample.to(self.dtype)

    def to_eps(
        self, predicted: Float[Tensor, "b *d"], x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b *d"]:
        """eps of a prediction."""
        return to_eps(self.prediction, predicted, x_t, *self.schedule(t))

    def adapter(self, rank: int, rng: torch.Generator, exact_start: bool = True) -> Adapter:
        """A low-rank adapter of the UNet, see lowrank.LowRank."""
        return LowRank(self, rank, rng, exact_start)


def channels_last(network: Any) -> Any:
    """The network with its convolutions in the order that tensor cores want."""
    return network.to(memory_format=torch.channels_last)
