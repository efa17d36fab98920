"""Published methods that are recipes of ours: SDS-Bridge of CSD, RFDS of SDS on a rectified flow."""

from dataclasses import replace

import pytest
import torch
from conftest import ROOT

from guidance.worlds import mixture, view
from splatdistill.cameras import orbit
from splatdistill.guidance import CSD, SDS, View
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prediction import target
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.schedule import FlowSchedule
from splatdistill.settings.commands import parse_train
from splatdistill.train.image2d import conditions

NOTHING = torch.nn.Module()


def recipe(name: str):
    """Return the configuration of a file in configs/extra above Stable Diffusion's recipes."""
    return parse_train(["--config", str(ROOT / "configs" / "extra" / f"{name}.yaml"), "--prompt", "mug"], lambda source: "sd").config


def test_sds_bridge_is_csd_from_its_source_prompt():
    """s (eps(target) - eps(source)), s = 1 and w = 1 at all times; the source is each view's prompt and the words."""
    config = recipe("sds-bridge")
    texts = [f"mug, {w} view" for w in ("front", "side", "back")]
    words = config.negative.removeprefix("{prompt}")
    assert words.startswith(", oversaturated, smooth") and isinstance(config.guidance, CSD)
    rng = torch.Generator().manual_seed(0)
    table = {text: torch.rand(3, generator=rng).tolist() for text in (*texts, *(t + words for t in texts), "mug")}
    prior = GaussianMixturePrior(torch.randn(3, 2, 3, 3, generator=rng, dtype=torch.float64), torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64), table)
    for progress in (0.0, 0.5, 1.0):
        x = torch.randn(3, 2, 3, 3, generator=rng, dtype=torch.float64).requires_grad_()
        text = Prompts("mug", config.negative).conditions(prior, orbit([0.0, 90.0, 180.0]))
        prior.calls = 0
        d = config.guidance(View(x, text, prior, rng, progress), NOTHING)
        assert prior.calls == 6
        wanted, source = (prior.eps(d.noised.x_t.detach(), d.noised.t, prior.embed(asked)) for asked in (texts, [t + words for t in texts]))
        torch.testing.assert_close(d.grad, wanted - source, rtol=1e-9, atol=1e-11)


def test_a_negative_prompt_may_name_the_prompt_in_2d_too():
    prior = mixture()
    text = conditions(prior, "ball", 2, "{prompt}")
    assert torch.equal(text.negative.tokens, text.positive.tokens)
    assert torch.equal(conditions(prior, "ball", 2, "cube").negative.tokens, prior.embed(["cube", "cube"]).tokens)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_rfds_is_sds_on_a_flow(progress):
    """U (v - (n - x)), v = v_neg + s (v_pos - v_neg), here with the mean of U; v of the exact score by its definition."""
    config, prior = recipe("rfds"), mixture()
    assert isinstance(config.guidance, SDS) and config.guidance_weight == 0.5
    prior.noise = FlowSchedule()
    v = view(prior, 3, progress=progress)
    d = config.guidance(v, NOTHING)
    assert ((d.noised.t >= 0.06) & (d.noised.t <= 0.88)).all()
    x_t, t, x = d.noised.x_t.detach(), d.noised.t, v.x.detach()

    def velocity(text):
        alpha, sigma = prior.schedule(t)
        eps = prior.eps(x_t, t, text)
        return target("flow", (x_t - sigma * eps) / alpha, eps, alpha, sigma)

    pos, neg = velocity(v.text.positive), velocity(v.text.negative)
    torch.testing.assert_close(d.grad, neg + 100.0 * (pos - neg) - (d.noised.eps.detach() - x), rtol=1e-8, atol=1e-9)


def test_their_scale_is_that_of_the_velocity_because_guidance_is_linear():
    prior = mixture()
    prior.noise = FlowSchedule()
    one, two = (replace(recipe("rfds").guidance, scale=s)(view(prior, 2), NOTHING) for s in (1.0, 2.0))
    three = replace(recipe("rfds").guidance, scale=3.0)(view(prior, 2), NOTHING)
    torch.testing.assert_close(three.grad - two.grad, two.grad - one.grad, rtol=1e-9, atol=1e-10)
