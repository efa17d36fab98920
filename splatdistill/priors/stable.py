"""Stable Diffusion 1.x and 2.x, and the embedded prior: any folder of their diffusers layout, one class.

A folder holds tokenizer/, text_encoder/, unet/, scheduler/ and vae/, weights as safetensors; vae/config.json
may name an autoencoder of patches.py instead of AutoencoderKL, and the UNet may see several views (multiview.py). Finding and checking folders is weights.py's work.
SDXL and SD 3 change how text is read and what the network is told (stable_xl.py, stable_3.py).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors import Adapter, Condition, DiffusionPrior, Query
from splatdistill.priors.apart import crowded, posterior, posterior_apart
from splatdistill.priors.batching import answer_grouped
from splatdistill.priors.families import SD, ModelFamily
from splatdistill.priors.kept_texts import KeptTexts
from splatdistill.priors.lora import add as add_lora
from splatdistill.priors.lora_files import with_scales
from splatdistill.priors.lowrank import LowRank
from splatdistill.priors.multiview import NUMBERS, before_each_set, joint, no_camera, pose_numbers, without_first
from splatdistill.priors.mvdream import camera_azimuth, taught
from splatdistill.priors.parts import Parts, read_parts
from splatdistill.priors.patches import PatchAutoencoder
from splatdistill.priors.precision import Precision, VaePrecision
from splatdistill.priors.prediction import Prediction, to_eps, trusted_from
from splatdistill.priors.random import normal, sent
from splatdistill.weight_files import read_object

FEW = 4
"""Pictures that the UNet sees at once where memory is to be spared."""


class StableDiffusionPrior(DiffusionPrior):
    """Text-to-image latent diffusion (Rombach et al., arXiv:2112.10752), frozen.

    The UNet may predict anything that prediction.py converts. It runs in its own precision; latents, schedule and
    answers are float32 (float64 with a float64 UNet). The network is told the nearest of its 1000 steps, the schedule
    is continuous; they agree at t = i/1000.
    """

    family: ModelFamily = SD

    def __init__(
        self,
        parts: Parts,
        *,
        image_size: int | None = None,
        name: str = "",
        licence: str = "unknown, see the model card",
        max_batch: int = 64,
        views: int = 1,
        low_memory: bool = False,
        azimuth: float = 0.0,
        takes_picture: bool = False,
        camera_guidance: bool = False,
    ):
        unet, vae = parts.network, parts.vae
        self.unet: Any = unet.eval().requires_grad_(False)
        self.views, self.azimuth = views, azimuth
        self.cameras = getattr(getattr(unet, "config", None), "class_embed_type", None) == "projection"
        if self.cameras:
            self.unet = joint(self.unet)
            self.wants = frozenset({"tokens", "camera"}) if views > 1 else self.wants
        self.takes_picture = takes_picture and self.cameras and views > 1
        self.camera_guidance = camera_guidance and self.cameras and views > 1
        self.vae: Any = vae.eval().requires_grad_(False)
        self.vae_dtype: torch.dtype | None = next((p.dtype for p in vae.parameters()), None)
        self.text_encoders = tuple(e.eval().requires_grad_(False) for e in parts.encoders)
        self.tokenizers = parts.tokenizers
        self.prediction: Prediction = parts.prediction
        self.max_batch = max(max_batch // views, 1) * views  # whole sets
        self.image_size, self.name, self.licence = image_size or parts.image_size, name, licence
        self.perp_neg = not isinstance(vae, PatchAutoencoder)  # the embedded one knows its views
        first = next(unet.parameters())
        self.device, self.precision = first.device, first.dtype
        self.dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.noise = parts.schedule.to("cpu")  # where times are
        self.begins = trusted_from(parts.schedule) if parts.prediction == "sample" else 0.0
        metric = getattr(vae, "metric", None)
        self.metric = None if metric is None else metric.to(self.device, self.dtype)
        self.low_memory = low_memory
        self._texts = KeptTexts(lambda prompts: self.read(prompts))  # read may be replaced, as by scripts/benchmark_guidance.py

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
        vae_precision: VaePrecision = "auto",
        lora: Path | Sequence[Path] | None = None,
        lora_scale: float | Sequence[float] = 1.0,
        file: Path | None = None,
    ) -> "StableDiffusionPrior":
        """Load a folder that layout.problems finds nothing wrong with. Never asks the network. Raises WeightsError.

        max_batch: the most images that the UNet sees at once. compile: torch.compile the UNet, which takes
        minutes on the first call and pays off in long runs on a GPU. views: pictures of one object that it sees together,
        for a network that was taught to. low_memory: the text encoder stays on the CPU, pictures go through the autoencoder one
        at a time, and the UNet sees FEW of them at once. lora: files of changes to the networks, added with the factors lora_scale, one for each or one for all. vae_precision:
        bfloat16 for all of the autoencoder. file: a single file that holds the weights; the folder then only has the configurations.
        """
        folder, device, name = Path(folder), torch.device(device), name or str(folder)
        if views > 1 and read_object(folder / cls.family.network / "config.json").get("class_embed_type") is None:
            raise UserError(f"The prior {name} sees one picture at a time; take --prior-views 1, or a multi-view prior instead of {views}.")
        parts = read_parts(folder, cls.family, device, precision, name, low_memory, file, vae_precision)
        for change, scale in with_scales(lora, lora_scale):
            add_lora(parts, cls.family, change, scale)
            name = f"{name} + {scale:g} {change.stem}"
        if device.type == "cuda":
            parts = replace(parts, network=channels_last(parts.network), vae=channels_last(parts.vae))
        if compile:
            parts.network.compile()
        batch = min(max_batch, FEW) if low_memory else max_batch
        said = {"azimuth": camera_azimuth(folder), "takes_picture": taught(folder, "picture_prompt"), "camera_guidance": taught(folder, "camera_guidance")}
        return cls(parts, name=name, licence=licence, max_batch=batch, views=views, low_memory=low_memory, **said)

    # -- text -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's output, padded to the tokenizer's length; kept for each distinct prompt, as long as there is
        room. Warns about a prompt that is longer than the encoder reads.
        """
        return self._texts(prompts)

    def read(self, prompts: list[str]) -> Condition:
        """Return the condition of distinct prompts that are not kept yet: here the last hidden states."""
        return Condition(self._encoded(0, prompts).last_hidden_state.to(self.device, self.dtype))

    def _encoded(self, which: int, prompts: list[str], **options: Any) -> Any:
        """Return the output of one text encoder."""
        encoder, tokenizer = self.text_encoders[which], self.tokenizers[which]
        # the encoder knows its length; a tokenizer without a configuration has none
        longest = getattr(getattr(encoder, "config", None), "max_position_embeddings", 77)
        length = min(int(min(tokenizer.model_max_length, longest)), longest)
        for prompt in () if which else prompts:
            ids = tokenizer(prompt, verbose=False).input_ids
            if len(ids) > length:
                lost = tokenizer.decode(ids[length - 1 : -1])
                warnings.warn(f"The prompt has {len(ids)} tokens and {self.name} reads {length}; it will not see: {lost!r}", stacklevel=7)
        ids = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        return encoder(input_ids=ids.to(next(encoder.parameters()).device), **options)

    # -- images ---------------------------------------------------------------------------------------

    def encode(self, rgb: Float[Tensor, "b 3 h w"], rng: torch.Generator | None = None) -> Float[Tensor, "b *d"]:
        """Return scaled latents (b, c, h/f, w/f) of images in [0,1]; the gradient reaches the images.

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
        return (x - self._shift) * self.vae.config.scaling_factor

    @property
    def _shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)

    def _posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        with self._vae_precision():
            return posterior(self.vae, image.to(self.vae_dtype))

    def decode(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b 3 h w"]:
        """Return the images (b,3,h,w) of scaled latents, not clamped; differentiable."""
        if isinstance(self.vae, PatchAutoencoder):
            return (self.vae.decode(x) + 1) / 2
        pieces = x.split(1) if self.low_memory and not torch.is_grad_enabled() else (x,)
        with self._vae_precision():
            image = torch.cat([self.vae.decode((piece / self.vae.config.scaling_factor + self._shift).to(self.vae_dtype)).sample for piece in pieces])
        return (image.to(self.dtype) + 1) / 2

    def _vae_precision(self) -> torch.autocast:
        # On CUDA, beside a low-precision UNet: convolutions in bfloat16, whose range a gradient cannot leave as it
        # leaves float16's; weights, normalisations, image and latents stay float32.
        low = (
            self.device.type == "cuda"
            and self.vae_dtype == torch.float32
            and self.precision in (torch.float16, torch.bfloat16)
            and torch.cuda.is_bf16_supported(False)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=low)

    # -- noise ----------------------------------------------------------------------------------------

    def schedule(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b *one"], Float[Tensor, "b *one"]]:
        """Return alpha_t and sigma_t, (b,1,1,1); see TableSchedule. Times on the CPU are not waited for, others are fetched."""
        alpha, sigma = self.noise.broadcast(t.cpu(), 3, self.dtype)
        return sent(alpha, self.device), sent(sigma, self.device)

    @torch.no_grad()
    def answer(self, queries: Sequence[Query]) -> tuple[Float[Tensor, "b *d"], ...]:
        """Return eps for every query. All queries of one network are one batch, cut at max_batch.

        An adapter (query.network) is called as network(x_t, t, condition) and answers eps itself.
        """
        return answer_grouped(queries, self._call)

    def _call(self, network: nn.Module | None, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.calls += len(x_t) if condition.image is None or self.views == 1 else len(x_t) // self.views * (self.views + 1)
        pieces = zip(x_t.split(self.max_batch), t.split(self.max_batch), condition.split(self.max_batch))
        return torch.cat([(network or self.eps)(*piece).to(self.dtype) for piece in pieces])

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """Return the base network's eps for one batch, uncounted, with the gradient mode of the caller."""
        return self.to_eps(self.predict(x_t, t, condition, self.unet), x_t, t)

    def predict(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition, unet: Callable
    ) -> Float[Tensor, "b *d"]:
        """Return the prediction of `unet`, the base network or a wrapper of it, as eps, v or x."""
        assert condition.tokens is not None
        x, steps = x_t.to(self.precision), sent(self.noise.timestep(t), self.device)
        told = {"encoder_hidden_states": condition.tokens.to(self.precision), **self._inputs(x, condition)}
        image = condition.image if self.takes_picture else None
        if image is not None:
            x, steps, told = self._after_picture(image, x, steps, told)
        if self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        predicted = unet(x, steps, **told).sample
        return (predicted if image is None else without_first(predicted, self.views)).to(self.dtype)

    def _inputs(self, x: Tensor, condition: Condition) -> dict[str, Any]:
        """Return the UNet's inputs besides noise, time and tokens."""
        if not self.cameras:
            return {}
        camera = x.new_zeros(len(x), NUMBERS) if condition.camera is None or self.views == 1 else pose_numbers(condition.camera, self.azimuth).to(x)
        return {"class_labels": camera, "cross_attention_kwargs": {"views": self.views}}

    def _after_picture(self, image: Tensor, x: Tensor, steps: Tensor, told: dict[str, Any]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Return what the UNet is told with a clean frame before each set, whose picture is that of the set's first view, and whose
        text is that view's: time 0, no camera (multiview.py).
        """
        views = self.views
        with torch.no_grad():
            clean = self.encode(image[::views]).to(x)
        tokens, camera = told["encoder_hidden_states"], told["class_labels"]
        more = {
            "encoder_hidden_states": before_each_set(tokens[::views], tokens, views),
            "class_labels": before_each_set(no_camera(len(clean), camera), camera, views),
            "cross_attention_kwargs": {"views": views + 1},
        }
        return before_each_set(clean, x, views), before_each_set(torch.zeros_like(steps[::views]), steps, views), told | more

    def to_eps(
        self, predicted: Float[Tensor, "b *d"], x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "b *d"]:
        """Return eps of a prediction."""
        return to_eps(self.prediction, predicted, x_t, *self.schedule(t))

    def adapter(self, rank: int, rng: torch.Generator, exact_start: bool = True) -> Adapter:
        """Return a low-rank adapter of the UNet, see lowrank.LowRank."""
        return LowRank(self, rank, rng, exact_start)


def channels_last(network: Any) -> Any:
    """Return the network with its convolutions in channels-last order, which tensor cores need."""
    return network.to(memory_format=torch.channels_last)
