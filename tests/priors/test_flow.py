"""Rectified flow, alpha = 1 - t and sigma = t: nothing may take alpha^2 + sigma^2 for one.

The same mixture under both schedules is one family of distributions at other noise levels: with s = sigma / alpha equal,
eps(alpha z) is the same function of z = x + s eps, whatever alpha^2 + sigma^2 is.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from guidance.test_all import ALL, midway
from guidance.worlds import mixture, view
from methods import made

from splatdistill.guidance import CFG, SDS, View
from splatdistill.guidance.noising import Noised, ddim, invert
from splatdistill.priors import Condition, Query
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prediction import PREDICTIONS, target, to_eps
from splatdistill.priors.sampling import ddim as sample_ddim
from splatdistill.priors.schedule import FlowSchedule, TableSchedule


def flowing() -> GaussianMixturePrior:
    """Return the mixture of the guidance tests under a flow schedule."""
    prior = mixture()
    prior.noise = FlowSchedule()
    return prior


def test_the_schedule_is_a_straight_line_and_both_ends_can_be_divided_by():
    schedule, t = FlowSchedule(), torch.tensor([-0.1, 0.0, 0.25, 0.5, 1.0, 1.5], dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    torch.testing.assert_close(alpha + sigma, torch.ones_like(t))
    assert alpha.tolist()[2:4] == [0.75, 0.5] and (alpha > 0).all() and (sigma > 0).all()
    torch.testing.assert_close(schedule.log_snr_at(t), 2 * (alpha / sigma).log())
    torch.testing.assert_close(schedule.timestep(t[2:4]), torch.tensor([250.0, 500.0], dtype=torch.float64))


def test_log_snr_of_a_table_is_that_of_its_alpha_and_sigma():
    schedule, t = TableSchedule.scaled_linear(), torch.rand(50, dtype=torch.float64)
    alpha, sigma = schedule.at(t)
    torch.testing.assert_close(schedule.log_snr_at(t), 2 * (alpha / sigma).log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [TableSchedule.scaled_linear(), FlowSchedule()])
def test_variance_added_between_two_times_is_that_of_the_forward_process(schedule):
    """x_s, scaled and with the added noise, has the variance of x_t: for data of any variance."""
    s, t = torch.tensor([0.0, 0.2, 0.5]).double(), torch.tensor([0.1, 0.7, 0.9]).double()
    (a0, s0), (a1, s1) = schedule.at(s), schedule.at(t)
    for data in (0.3, 2.0):
        carried = (a1 / a0) ** 2 * (a0**2 * data + s0**2) + schedule.added(a0, s0, a1, s1)
        torch.testing.assert_close(carried, a1**2 * data + s1**2)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("schedule", [TableSchedule.scaled_linear(), FlowSchedule()])
def test_the_right_prediction_is_the_right_eps(kind, schedule):
    if kind == "v_prediction" and isinstance(schedule, FlowSchedule):
        pytest.skip("v is defined where alpha^2 + sigma^2 = 1")
    x, eps = torch.randn(2, 4, 3, dtype=torch.float64).unbind(0)
    alpha, sigma = schedule.broadcast(torch.tensor([0.05, 0.4, 0.7, 0.95], dtype=torch.float64), 1, torch.float64)
    found = to_eps(kind, target(kind, x, eps, alpha, sigma), alpha * x + sigma * eps, alpha, sigma)
    torch.testing.assert_close(found, eps)


def test_the_velocity_is_the_derivative_of_the_path():
    x, eps = torch.randn(2, 5, dtype=torch.float64)
    t = torch.tensor(0.37, dtype=torch.float64)
    _, slope = torch.func.jvp(lambda t: (1 - t) * x + t * eps, (t,), (torch.ones_like(t),))
    torch.testing.assert_close(target("flow", x, eps, 1 - t, t), slope)


def test_eps_of_the_flow_is_the_score_and_that_of_the_table_at_equal_signal_to_noise():
    flow, table = flowing(), mixture()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = flow.schedule(t)
    condition, z = flow.embed(["ball"] * 3), torch.randn(3, 2, 3, 3, dtype=torch.float64)
    x_t = (alpha * z).requires_grad_()
    (eps,) = flow.answer([Query(x_t, t, condition)])
    (score,) = torch.autograd.grad(flow.log_prob(x_t, t, condition).sum(), x_t)
    torch.testing.assert_close(eps, -sigma * score, rtol=0, atol=1e-10)
    times = torch.linspace(0, 1, 200001, dtype=torch.float64)  # the table's times of the same signal to noise
    level = table.noise.log_snr_at(times)
    same = times[torch.stack([(level - s).abs().argmin() for s in flow.noise.log_snr_at(t)])]
    torch.testing.assert_close(table.answer([Query(table.schedule(same)[0] * z, same, condition)])[0], eps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("cls, variant", ALL)
def test_every_guidance_works_on_a_flow(cls, variant):
    """Finite, with consistent latents; and the mean of the change goes to the prompt's mode."""
    prior, guidance = flowing(), made(cls, variant)
    for progress in (0.0, 0.3, 1.0):
        v = view(prior, 2, progress=progress)
        d = guidance(v, guidance.init(prior))
        assert d.grad.isfinite().all() and d.grad.abs().max() > 0
        if not (cls.__name__ == "SDI" and variant == "code"):
            alpha, sigma = prior.schedule(d.noised.t)
            torch.testing.assert_close(d.noised.x_t, (alpha * v.x + sigma * d.noised.eps).detach(), rtol=1e-9, atol=1e-10)
    guidance, x = midway(cls, variant), torch.zeros(64, 2, 3, 3, dtype=torch.float64).requires_grad_()
    text = replace(view(prior, 1).text, cameras=None)
    text = replace(text, **{k: getattr(text, k).expand(64) for k in ("positive", "negative", "null", "plain")})
    grad = guidance(View(x, text, prior, torch.Generator().manual_seed(0), 0.3), guidance.init(prior)).grad.mean(0)
    to_the_mode = prior.means[0].view(2, 3, 3)
    assert (-grad * to_the_mode).sum() > 0.2 * grad.norm() * to_the_mode.norm()


def test_rescale_on_a_flow_gives_the_contrast_of_the_prompt_alone():
    v = replace(view(mixture(), 3), prior=flowing())
    d = SDS(scale=30.0, rescale=1.0)(v, torch.nn.Module())
    (pos,) = v.prior.answer([Query(d.noised.x_t, d.noised.t, v.text.positive)])
    torch.testing.assert_close(d.eps_hat.flatten(1).std(1), pos.flatten(1).std(1))


def test_sds_on_a_flow_is_the_gradient_of_the_kl_divergence():
    """E[eps_hat - eps] = -sigma E[score] at scale 1."""
    prior, count = flowing(), 4000
    x = torch.full((1, 2, 3, 3), 0.3, dtype=torch.float64)
    t = torch.full((count,), 0.6, dtype=torch.float64)
    condition = prior.embed(["ball"]).expand(count)
    text = replace(view(prior, 1).text, positive=condition, negative=condition, null=condition, plain=condition, cameras=None)
    v = View(x.expand(count, 2, 3, 3).clone().requires_grad_(), text, prior, torch.Generator().manual_seed(0))
    base = SDS(scale=1.0, weight="one")
    d = replace(base, times=replace(base.times, t_min=0.6, t_max=0.6))(v, torch.nn.Module())
    rng = torch.Generator().manual_seed(1)
    alpha, sigma = prior.schedule(t)
    x_t = (alpha * x + sigma * torch.randn(count, 2, 3, 3, generator=rng, dtype=torch.float64)).requires_grad_()
    (score,) = torch.autograd.grad(prior.log_prob(x_t, t, condition).sum(), x_t)
    error = ((d.grad.var(0) + (sigma * score).var(0)) / count).sqrt()
    assert ((d.grad.mean(0) + (sigma * score).mean(0)).abs() < 5 * error).all()


def test_sampling_a_flow_draws_from_the_mixture():
    prior = flowing()
    noise = torch.randn(4000, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = sample_ddim(prior, noise, prior.embed(["ball"]).expand(4000), prior.embed([""]).expand(4000), 1.0, 200)
    true = prior.draw("ball", 4000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(x.mean(0), true.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(x.std(0), true.std(0), rtol=0.1, atol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_inversion_of_a_flow_keeps_the_marginal_distribution(eta):
    prior, count = flowing(), 3000
    x = prior.draw("ball", count, torch.Generator().manual_seed(0)).requires_grad_()
    condition = prior.embed(["ball"]).expand(count)
    text = replace(view(prior, 1).text, positive=condition, negative=condition, null=condition, plain=condition, cameras=None)
    v, t = View(x, text, prior, torch.Generator().manual_seed(1)), torch.full((count,), 0.6, dtype=torch.float64)
    n = invert(v, t, 100, CFG(1.0), eta)
    alpha, sigma = prior.schedule(t)
    true = alpha * x.detach() + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    torch.testing.assert_close(n.x_t.mean(0), true.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(n.x_t.var(0), true.var(0), rtol=0.2, atol=0)


def test_one_move_to_the_same_place_changes_nothing():
    prior, v = flowing(), view(mixture(), 2)
    v, t = replace(v, prior=prior), torch.full((2,), 0.4, dtype=torch.float64)
    n = Noised(torch.randn(2, 2, 3, 3, dtype=torch.float64), t, torch.zeros(2, 2, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(ddim(v, n, t, torch.randn_like(n.x_t), 0.7).x_t, n.x_t)


class Velocity(torch.nn.Module):
    """Mixture, stated as the velocity that a flow network predicts."""

    def __init__(self, mixture: GaussianMixturePrior):
        super().__init__()
        self.mixture, self.anchor = mixture, torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, timestep, encoder_hidden_states):
        t = timestep / 1000
        eps = self.mixture.eps(x, t, Condition(encoder_hidden_states))
        alpha, sigma = self.mixture.schedule(t)
        return SimpleNamespace(sample=eps - (x - sigma * eps) / alpha)


def test_a_network_that_predicts_velocity_answers_eps():
    from torch import nn
    from transformers import CLIPTokenizer

    from splatdistill.priors.parts import Parts
    from splatdistill.priors.patches import PatchAutoencoder
    from splatdistill.priors.stable import StableDiffusionPrior
    from splatdistill.priors.weights import TINY

    exact, tokenizer = flowing(), CLIPTokenizer.from_pretrained(TINY / "tokenizer", local_files_only=True)
    prior = StableDiffusionPrior(Parts(Velocity(exact), PatchAutoencoder(), (nn.Identity(),), (tokenizer,), FlowSchedule(), "flow"), image_size=12)
    t, x_t = torch.tensor([0.003, 0.2, 0.8, 0.98], dtype=torch.float64), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    query = Query(x_t, t, exact.embed(["ball"] * 4))
    torch.testing.assert_close(prior.answer([query]), exact.answer([query]), rtol=1e-9, atol=1e-9)
