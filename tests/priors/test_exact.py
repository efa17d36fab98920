"""The exact prior against autograd, against Bayes' rule on its components, and against its own samples."""

import pytest
import torch
from torch import Tensor

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.priors import Query, guided
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.sampling import ddim, sample

WEIGHTS = {"ball": [3.0, 1.0, 0.0], "cube": [0.0, 0.0, 1.0]}


def covariance(kind: str, shape: tuple[int, ...]) -> Tensor:
    n = torch.Size(shape).numel()
    if kind == "isotropic":
        return torch.tensor([0.2, 0.5, 0.1], dtype=torch.float64)
    if kind == "diagonal":
        return 0.1 + torch.rand(3, *shape, dtype=torch.float64)
    root = torch.randn(3, n, n, dtype=torch.float64)
    return 0.05 * torch.eye(n, dtype=torch.float64) + root @ root.mT / n


def prior(kind: str = "full", shape: tuple[int, ...] = (2, 3)) -> GaussianMixturePrior:
    return GaussianMixturePrior(torch.randn(3, *shape, dtype=torch.float64), covariance(kind, shape), WEIGHTS)


def matrices(mixture: GaussianMixturePrior) -> Tensor:
    """Return the covariances (k,n,n), from axes and variances."""
    diagonal = torch.diag_embed(mixture.variances)
    return diagonal if mixture.axes is None else mixture.axes @ diagonal @ mixture.axes.mT


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("prompt", ["", "ball", "cube"])
def test_eps_is_the_score_of_the_diffused_mixture(kind: str, prompt: str) -> None:
    p = prior(kind)
    t = torch.tensor([0.0, 0.02, 0.5, 0.7777, 1.0], dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    text = p.embed([prompt] * 5)
    (score,) = torch.autograd.grad(p.log_prob(x, t, text).sum(), x)
    (eps,) = p.answer([Query(x, t, text)])
    assert not eps.requires_grad
    torch.testing.assert_close(eps, -p.schedule(t)[1] * score, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_log_prob_is_torchs_mixture(kind: str) -> None:
    p = prior(kind)
    x, t = torch.randn(4, 2, 3, dtype=torch.float64), torch.full((4,), 0.4, dtype=torch.float64)
    text = p.embed(["ball"] * 4)
    for time in (t, None):
        alpha, sigma = (
            (a.flatten()[0] for a in p.schedule(t)) if time is not None else (torch.tensor(1.0), torch.tensor(0.0))
        )
        noisy = alpha**2 * matrices(p) + sigma**2 * torch.eye(6, dtype=torch.float64)
        normals = torch.distributions.MultivariateNormal(alpha * p.means[:2], noisy[:2])
        expected = (
            normals.log_prob(x.flatten(1)[:, None]) + torch.tensor([0.75, 0.25], dtype=torch.float64).log()
        ).logsumexp(1)
        torch.testing.assert_close(p.log_prob(x, time, text), expected, rtol=1e-9, atol=1e-9)


def test_tweedie_gives_the_posterior_mean() -> None:
    p = prior("full")
    t = torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    (eps,) = p.answer([Query(x, t, p.embed(["ball"] * 3))])
    alpha, sigma = p.schedule(t)
    tweedie = ((x - sigma * eps) / alpha).flatten(1)
    for i, (a, s) in enumerate(zip(alpha.flatten(), sigma.flatten())):  # Bayes, component by component
        noisy = a**2 * matrices(p)[:2] + s**2 * torch.eye(6, dtype=torch.float64)
        shift = x[i].flatten() - a * p.means[:2]
        means = p.means[:2] + a * (matrices(p)[:2] @ torch.linalg.solve(noisy, shift[..., None]))[..., 0]
        log_n = torch.distributions.MultivariateNormal(a * p.means[:2], noisy).log_prob(x[i].flatten())
        belief = (log_n + torch.tensor([0.75, 0.25], dtype=torch.float64).log()).softmax(0)
        torch.testing.assert_close(tweedie[i], belief @ means, rtol=1e-8, atol=1e-9)


def test_guidance_adds_the_classifiers_gradient() -> None:
    """guided(pos, neg, s) - neg = -s sigma grad log (p(x_t | pos) / p(x_t | neg)), with s scaling the classifier."""
    p = prior("diagonal")
    t = torch.full((4,), 0.6, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    pos, neg = p.embed(["ball"] * 4), p.embed([""] * 4)
    (classifier,) = torch.autograd.grad((p.log_prob(x, t, pos) - p.log_prob(x, t, neg)).sum(), x)
    answers = p.answer([Query(x, t, pos), Query(x, t, neg)])
    assert p.calls == 8
    torch.testing.assert_close(
        guided(*answers, 7.5) - answers[1], -7.5 * p.schedule(t)[1] * classifier, rtol=0, atol=1e-10
    )
    torch.testing.assert_close(guided(*answers, 1.0), answers[0])


def test_draws_have_the_mixtures_moments(rng: torch.Generator) -> None:
    p = prior("full")
    x = p.draw("ball", 200_000, rng).flatten(1)
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    mean = weights @ p.means[:2]
    spread = p.means[:2] - mean
    second = (weights[:, None, None] * (matrices(p)[:2] + spread[:, :, None] * spread[:, None])).sum(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(x.T.cov(), second, rtol=0, atol=0.04)


def test_ddim_on_the_exact_prior_samples_the_mixture(rng: torch.Generator) -> None:
    means = torch.tensor([[-1.0, 0.5], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    full = torch.tensor(
        [[[0.05, 0.02], [0.02, 0.05]], [[0.04, 0.0], [0.0, 0.02]], [[0.3, 0.0], [0.0, 0.3]]], dtype=torch.float64
    )
    p = GaussianMixturePrior(means, full, WEIGHTS)
    noise = torch.randn(4000, 2, generator=rng, dtype=torch.float64)
    x = ddim(p, noise, p.embed(["ball"] * 4000), p.embed([""] * 4000), 1.0, 200)
    drawn = p.draw("ball", 4000, rng)
    assert (x[:, 0] < 0).double().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(x.mean(0), drawn.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(x.T.cov(), drawn.T.cov(), rtol=0, atol=0.05)
    left, left_drawn = x[x[:, 0] < 0], drawn[drawn[:, 0] < 0]
    torch.testing.assert_close(left.T.cov(), left_drawn.T.cov(), rtol=0, atol=0.01)
    assert p.calls == 200 * 4000


def test_pictures_are_sampled_through_the_same_interface(rng: torch.Generator) -> None:
    colours = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    p = GaussianMixturePrior(
        2 * colours - 1, torch.full((3,), 1e-4, dtype=torch.float64), WEIGHTS, gain=2.0, offset=-1.0
    )
    image = sample(p, ["cube", "cube"], scale=2.0, steps=20, rng=rng)
    assert image.shape == (2, 3, 4, 4)
    torch.testing.assert_close(image, colours[2:].expand(2, 3, 4, 4), rtol=0, atol=0.05)
    rgb = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(p.decode(p.encode(rgb)), rgb)
    torch.testing.assert_close(p.encode(rgb), 2 * rgb - 1)


def test_view_words_are_optional_and_unknown_prompts_are_refused() -> None:
    p = prior()
    conditions = Prompts("ball").conditions(p, orbit([0.0, 90.0]))
    torch.testing.assert_close(conditions.positive.tokens, conditions.plain.tokens)
    torch.testing.assert_close(conditions.null.tokens[0, 0].exp(), torch.full((3,), 1 / 3, dtype=torch.float64))
    with pytest.raises(UserError, match="'teapot'.*'ball'"):
        p.embed(["teapot"])


@pytest.mark.parametrize(
    ("covariances", "weights", "message"),
    [
        (torch.ones(3, 2), WEIGHTS, "do not fit"),
        (torch.tensor([1.0, -1.0, 1.0]), WEIGHTS, "positive"),
        (torch.ones(3), {"ball": [1.0]}, "'ball'"),
        (torch.ones(3), {"ball": [0.0, 0.0, 0.0]}, "'ball'"),
    ],
)
def test_impossible_mixtures_are_refused(covariances: Tensor, weights: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GaussianMixturePrior(torch.zeros(3, 4), covariances, weights)
