"""VSD's small U-Net: it begins as the score of white noise, learns that of what it is shown, and stands beside any prior."""

import pytest
import torch
from safetensors.torch import load, save

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import VSD, View
from splatdistill.guidance.learning import Learning
from splatdistill.priors import Conditions
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.plane import plane
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.schedule import FlowSchedule
from splatdistill.priors.small_unet import SmallUNet

SHAPE = (2, 8, 8)


def gaussian(means: torch.Tensor, variance: float, **options) -> GaussianMixturePrior:
    return GaussianMixturePrior(means.double(), torch.full((len(means),), variance, dtype=torch.float64), {"ball": [1.0] * len(means)}, **options)


def white(**options) -> GaussianMixturePrior:
    """Return the prior whose latents are white noise."""
    return gaussian(torch.zeros(1, *SHAPE), 1.0, **options)


def small(prior: GaussianMixturePrior, seed: int = 0) -> SmallUNet:
    return SmallUNet(prior, 16, torch.Generator().manual_seed(seed))


def seen(prior: GaussianMixturePrior, count: int, seed: int = 0) -> View:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *SHAPE, generator=rng, dtype=torch.float64).requires_grad_()
    return View(x, Prompts("ball").conditions(prior, orbit(torch.arange(count) * 80.0)), prior, rng, 0.3)


@pytest.mark.parametrize("count", [1, 3])
def test_it_begins_as_the_score_of_white_noise(count):
    """So VSD at scale 1 has nothing to say where that is the prior, and its residual is the prior's difference from it elsewhere."""
    prior = white()
    guidance = VSD(scale=1.0, adapter="unet", adapter_width=16)
    assert float(guidance(seen(prior, count), guidance.init(prior)).grad.abs().max()) < 1e-9
    other = gaussian(torch.full((1, *SHAPE), 0.5), 0.1)
    v = seen(other, count)
    d = guidance(v, guidance.init(other))
    expected = other.eps(d.noised.x_t, d.noised.t, v.text.positive) - prior.eps(d.noised.x_t, d.noised.t, prior.embed(["ball"]).expand(count))
    torch.testing.assert_close(d.residual, expected, rtol=1e-9, atol=1e-9)


def test_it_learns_the_score_of_what_each_camera_shows():
    """Latents of two cameras, each its own Gaussian: the exact score of either is learned, and not told the camera, none of both."""
    means = torch.stack([torch.full(SHAPE, 1.5), torch.full(SHAPE, -1.5)])
    both, rng = gaussian(means, 0.05), torch.Generator().manual_seed(0)
    network = small(both)
    learning = Learning(network, 3e-3, (0.9, 0.99), 1e-8, 0.01)
    cameras = orbit([0.0, 180.0])
    text = Prompts("ball").conditions(both, cameras).plain
    which = torch.arange(8) % 2
    poses = cameras.camera_to_world.double()[which]
    condition = type(text)(tokens=text.tokens[which], camera=poses)

    def draw() -> torch.Tensor:
        return means.double()[which] + 0.05**0.5 * torch.randn(8, *SHAPE, generator=rng, dtype=torch.float64)

    for _ in range(120):
        t = torch.rand(8, generator=rng, dtype=torch.float64)
        learning.update(network.loss(draw(), t, torch.randn(8, *SHAPE, generator=rng, dtype=torch.float64), condition), 3e-3)
    t = torch.full((8,), 0.5, dtype=torch.float64)
    alpha, sigma = both.schedule(t)
    x_t = alpha * draw() + sigma * torch.randn(8, *SHAPE, generator=rng, dtype=torch.float64)
    one = gaussian(torch.zeros(1, *SHAPE), 0.05)  # of either camera, moved to its mean
    exact = one.eps(x_t - alpha * means.double()[which], t, one.embed(["ball"]).expand(8))
    with torch.no_grad():
        told, turned = network(x_t, t, condition), network(x_t, t, type(text)(tokens=condition.tokens, camera=poses.flip(0)))
        begun = small(both)(x_t, t, condition)
    errors = [float((e - exact).square().mean()) for e in (told, turned, begun)]
    assert errors[0] < 0.1 * errors[2] and errors[0] < 0.3 * errors[1], errors


def test_what_it_has_learned_is_in_a_checkpoint():
    prior = gaussian(torch.full((1, *SHAPE), 0.5), 0.1)
    guidance = VSD(adapter="unet", adapter_width=16, adapter_rate=1e-2)
    memory = guidance.init(prior)
    first = guidance(seen(prior, 2), memory).grad
    calls = prior.calls
    guidance.learn(seen(prior, 2), memory)
    assert prior.calls - calls == 2
    again = guidance.init(prior)
    assert torch.equal(guidance(seen(prior, 2), again).grad, first)  # begins as before, whatever was drawn in between
    again.load_state_dict(load(save(memory.state_dict())))
    one, two = (guidance(seen(prior, 2), m).grad for m in (memory, again))
    assert torch.equal(one, two) and not torch.equal(one, first)


def test_beside_a_flow_it_predicts_the_velocity():
    prior = white(schedule=FlowSchedule())
    network = small(prior)
    x_t, t = torch.randn(2, *SHAPE, dtype=torch.float64), torch.tensor([0.3, 0.8], dtype=torch.float64)
    condition = prior.embed(["ball"]).expand(2)
    torch.testing.assert_close(network(x_t, t, condition), x_t)  # u = 0 where alpha + sigma = 1
    torch.testing.assert_close(network.loss(x_t, t, 0 * x_t, condition), x_t.square().mean())  # the velocity eps - x


def test_what_it_cannot_read_is_refused():
    with pytest.raises(UserError, match=r"latents of shape \(2,\); take --guidance.adapter lora"):
        VSD(adapter="unet").init(plane())
    with pytest.raises(UserError, match="multiple of 8"):
        VSD(adapter="unet", adapter_width=12)
    with pytest.raises(UserError, match="adapts no other network"):
        VSD(adapter="unet", adapter_prior="some/folder")


def test_it_takes_one_text_for_each_view():
    """Conditions are Query's: words of each view by its own, cameras unknown where the adapter's dropout hides them."""
    prior = gaussian(torch.zeros(2, *SHAPE), 0.1)
    e = prior.embed(["ball"]).expand(3)
    v = View(torch.randn(3, *SHAPE, dtype=torch.float64).requires_grad_(), Conditions(e, e, e, e), prior, torch.Generator().manual_seed(0))
    guidance = VSD(adapter="unet", adapter_width=16)
    assert guidance(v, guidance.init(prior)).grad.isfinite().all()
