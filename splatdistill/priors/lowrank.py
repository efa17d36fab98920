"""Low-rank adapters of a Stable Diffusion UNet, told where the camera stands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors import Adapter, Condition
from splatdistill.priors.multiview import before_each_set
from splatdistill.priors.prediction import Prediction, target
from splatdistill.priors.random import normal, sent

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@runtime_checkable
class Adaptable(Protocol):
    """Prior with a UNet, as its adapters see it."""

    unet: Any
    name: str
    prediction: Prediction
    calls: int
    views: int
    takes_picture: bool
    dtype: torch.dtype
    device: torch.device

    def schedule(self, t: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Return alpha_t and sigma_t, shaped to broadcast against latents."""
        ...

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition, unet: Callable) -> Tensor:
        """Return the prediction of a UNet, as eps, v or x."""
        ...

    def to_eps(self, predicted: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return eps of a prediction."""
        ...


class LowRank(Adapter):
    """LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, eq. 3) as in
    ProlificDreamer (arXiv:2305.16213): every query, key, value and output projection of every attention becomes

        W y + B A y,  A ~ N(0, 1/rank^2) of shape (rank, in),  B = 0 of shape (out, rank) at the start,

    and an MLP of the flattened camera-to-world matrix (unnormalised, all zeros when unknown) is added to the time
    embedding. Its last layer is zero at the start (exact_start), so that the adapter begins as the base network;
    threestudio draws it at random, which begins elsewhere.

    The base network keeps its weights and is the same object. Its layers are bent by hooks that exist only while an
    adapter is asked, so that without one every answer is what it was, bit by bit. Parameters are float32 beside a
    UNet of lower precision, and are cast to its type in use.
    """

    def __init__(self, prior: Adaptable, rank: int, rng: torch.Generator, exact_start: bool = True):
        super().__init__()
        self.prior = prior  # not a module, so that its networks are not in this one's state_dict
        self.layers = {  # parameters have no dots in their names
            name.replace(".", "_"): layer
            for name, layer in prior.unet.named_modules()
            if isinstance(layer, nn.Linear) and name.endswith(PROJECTIONS)
        }
        if not self.layers:
            raise UserError(
                f"The UNet of {prior.name} has no attention layers to adapt. Expected projections named {PROJECTIONS}."
            )
        like = torch.empty(0, dtype=prior.dtype, device=prior.device)
        self.down = nn.ParameterDict(
            {n: nn.Parameter(normal((rank, m.in_features), rng, like) / rank) for n, m in self.layers.items()}
        )
        self.up = nn.ParameterDict(
            {n: nn.Parameter(like.new_zeros(m.out_features, rank)) for n, m in self.layers.items()}
        )
        width = time_embedding(prior.unet).linear_2.out_features
        first, last = nn.Linear(16, width), nn.Linear(width, width)
        self.camera = nn.Sequential(first, nn.SiLU(), last).to(prior.device, prior.dtype)
        draw(first, rng)
        draw(last, rng)
        if exact_start:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @contextmanager
    def _bent(self, camera: Tensor) -> Iterator[None]:
        """Run the base network with this adapter's hooks."""
        first = next(self.camera.parameters())
        embedded = self.camera(sent(camera.flatten(1), first.device, first.dtype))

        def low_rank(name: str, y: Tensor, out: Any) -> Tensor:
            return out + F.linear(F.linear(y, self.down[name].to(y)), self.up[name].to(y))

        hooks = [
            layer.register_forward_hook(lambda _, args, out, name=name: low_rank(name, args[0], out))
            for name, layer in self.layers.items()
        ]
        hooks.append(time_embedding(self.prior.unet).register_forward_hook(lambda _, args, out: out + embedded.to(out)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the prediction of the network with this adapter."""
        camera = x_t.new_zeros(len(x_t), 4, 4) if condition.camera is None else condition.camera
        views = self.prior.views
        if self.prior.takes_picture and views > 1 and condition.image is not None:  # a frame more in each set
            camera = before_each_set(torch.zeros_like(camera[::views]), camera, views)
        with self._bent(camera):
            # forward, since a compiled __call__ would not notice the hooks
            return self.prior.predict(x_t, t, condition, self.prior.unet.forward)

    def forward(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """Return eps (b, *d), whatever the network predicts."""
        return self.prior.to_eps(self._predict(x_t, t, condition), x_t, t)

    def loss(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], eps: Float[Tensor, "b *d"], condition: Condition
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the network's own prediction, see prediction.target."""
        alpha, sigma = self.prior.schedule(t)
        self.prior.calls += len(x)
        wanted = target(self.prior.prediction, x, eps, alpha, sigma)
        return F.mse_loss(self._predict(alpha * x + sigma * eps, t, condition), wanted)


def time_embedding(network: Any) -> Any:
    """Return the module of a UNet, or of SD 3's transformer, whose output is the embedded time."""
    return network.time_embedding if hasattr(network, "time_embedding") else network.time_text_embed.timestep_embedder


@torch.no_grad()
def draw(layer: nn.Linear, rng: torch.Generator) -> None:
    """Initialise a linear layer as torch does, U(-1, 1) / sqrt(inputs), from rng."""
    for p in (layer.weight, layer.bias):
        u = torch.rand(p.shape, generator=rng, device=rng.device, dtype=p.dtype)
        p.copy_((2 * u - 1) / layer.in_features**0.5)
