"""A card is not waited for within a step, but once: shown on the meta device, whose tensors have no values that could be read.

Reading a number, copying to the CPU, or making a tensor of a size that values decide fails there, as it would stand still on CUDA. What
goes from the CPU to the device must be sent without waiting.
"""

import dataclasses
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from methods import forms, made
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from splatdistill.cameras import Cameras, Orbit
from splatdistill.gaussians import Gaussians
from splatdistill.guidance import GUIDANCES, SSD, Guidance, View
from splatdistill.priors import Condition
from splatdistill.priors.parts import Parts
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.schedule import TableSchedule
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.render import RenderOutput, Screen
from splatdistill.scene.initial import Ball
from splatdistill.train import step as training
from splatdistill.train.config import Background, Train
from splatdistill.train.losses import Regularisers
from splatdistill.train.session import Session

META = torch.device("meta")
WAITS = {"ssd", "dsd"}
"""Methods that read values of their own: SSD, whether its averages are finite; DSD, the text's, by which it names the paths that it keeps. CFD's
map of the surface, which has as many rows as are seen, is not asked for here, without a render.
"""


class Sent(TorchDispatchMode):
    """Count copies from the CPU to the meta device; those that a card would be waited for are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.waited = 0, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = kwargs.get("device")
        if func is torch.ops.aten._to_copy.default and to is not None and torch.device(to).type == "meta" and args[0].device.type == "cpu":
            self.count += 1
            if not kwargs.get("non_blocking"):
                self.waited.append(tuple(args[0].shape))
        return func(*args, **kwargs)


def prior() -> StableDiffusionPrior:
    """Return a small Stable Diffusion on the meta device."""
    with torch.device(META):
        unet: Any = UNet2DConditionModel(
            sample_size=8, layers_per_block=1, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
        )  # fmt: skip
        vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=8)
    made = StableDiffusionPrior(Parts(unet, vae, (), (), TableSchedule.scaled_linear(), "epsilon"), image_size=8, name="meta")
    made.read = lambda prompts: Condition(torch.empty(len(prompts), 7, 16, device=META))  # type: ignore[method-assign]
    made.encode = lambda rgb, rng=None: torch.cat([rgb, rgb[:, :1]], 1)  # type: ignore[method-assign]  # whose autocast meta has not
    return made


def variants() -> list[Any]:
    return [pytest.param(name, made(kind, v), id=f"{name}-{v}") for name, kind in GUIDANCES.items() for v in forms(kind)]


def evaluated(guidance: Guidance) -> tuple[View, Sent]:
    """Return the views of one evaluation, Perp-Neg on, and what was sent to the device in it."""
    asked = prior()
    cameras = Orbit().sample(2, 8, 8, torch.Generator().manual_seed(0))
    text = Prompts("a mug", negative="bad", perp_neg=True).conditions(asked, cameras)
    memory = guidance.init(asked)
    view = View(torch.empty(2, 4, 8, 8, device=META, requires_grad=True), text, asked, torch.Generator().manual_seed(0), 0.4)
    with Sent() as sent:
        guidance(view, memory).loss.backward()
    return view, sent


@pytest.mark.parametrize(("name", "guidance"), variants())
def test_no_guidance_reads_what_is_on_the_device(name: str, guidance: Guidance) -> None:
    if name in WAITS and guidance != SSD(variant="paper"):  # which has nothing to learn without baselines
        with pytest.raises((RuntimeError, NotImplementedError)):
            evaluated(guidance)
        return
    view, sent = evaluated(guidance)
    assert view.x.grad is not None and view.x.grad.is_meta and sent.count > 3
    assert sent.waited == []


def flat(g: Gaussians, cameras: Cameras, background: Tensor | None = None, **_: Any) -> RenderOutput:
    """Return pictures that depend on every parameter, of the right shapes: no rasteriser computes on meta."""
    b, h, w = len(cameras), cameras.height, cameras.width
    screen = Screen(torch.zeros(b, len(g.means), 2, device=META, requires_grad=True), torch.ones(b, len(g.means), dtype=torch.int32, device=META))
    grey = sum(v.mean() for v in (g.means, g.quats, g.scales, g.opacities, g.sh)) + screen.means.mean()
    image = torch.ones(b, 1, h, w, device=META) * grey
    return RenderOutput(image.expand(b, 3, h, w), image, image, None, screen, cameras)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"particles": 2}, {"background": Background("learned")}, {"background": Background("random")}], ids=str)
@pytest.mark.parametrize("name", ["sds", "sdi", "ism"])
def test_a_step_waits_for_its_device_once(name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    def read(values: list[Tensor]) -> list[float]:
        waited.append(len(values))
        assert all(v.ndim == 0 for v in values)
        return [1.0] * len(values)

    monkeypatch.setattr(training, "read", read)
    terms = Regularisers(sparsity=1.0, opaque=1.0, scale=1.0, position=1.0, smooth=1.0, smooth_depth=1.0, scale_sum=1.0, opacity_sum=1.0)
    settings = {"prompt": "a mug", "steps": 40, "batch": 2, "guidance": GUIDANCES[name](), "init": Ball(count=20), "background": Background("white"), "regularise": terms}
    session = Session(Train(**{**settings, **changes}), prior(), flat)
    session.step()  # texts are embedded and moments made
    waited.clear()
    with Sent() as sent:
        done = session.step()
    assert waited == [3 + 2 * changes.get("accumulate", 1)]  # two of each batch, the gradients, and two for the log
    assert done.refused == 0 and done.step == 2 and done.coverage == 1.0 and sent.waited == []


@pytest.mark.parametrize("bad", [0, 1])
def test_a_step_of_which_one_batch_is_not_finite_is_refused(bad: int) -> None:
    """The other batch's finite loss is not lost in it, and the splats stay."""
    from train.small import config, red_and_blue

    session = Session(config(accumulate=2), red_and_blue())
    before = session.gaussians().means.clone()
    guidance, calls = session.config.guidance, []

    class Broken(type(guidance)):  # type: ignore[misc]
        def residual(self, *args: Any) -> Tensor:
            calls.append(1)
            found = super().residual(*args)
            return found * float("nan") if len(calls) == bad + 1 else found

    session.config = dataclasses.replace(session.config, guidance=Broken(**{f.name: getattr(guidance, f.name) for f in dataclasses.fields(guidance)}))
    done = session.step()
    assert done.refused == 1 and done.step == 0 and len(calls) == 2 and torch.equal(session.gaussians().means, before)
    assert session.step().refused == 1 and session.state.step == 1 and not torch.equal(session.gaussians().means, before)
