"""Particles against the mixture they came from."""

import pytest
import torch

from splatdistill.evaluate.particles import components, coverage, diversity
from splatdistill.guidance import SDS, Times
from splatdistill.priors.plane import plane
from splatdistill.train.image2d import Image2D, Image2DSession


@pytest.mark.parametrize("prompt", ["ring", "grid", "pair", "one"])
def test_draws_from_the_density_cover_it(prompt, rng):
    prior = plane()
    c = coverage(prior.draw(prompt, 2048, rng), prior, prompt, torch.Generator().manual_seed(1))
    assert c.spread == pytest.approx(1, abs=0.06) and c.within == pytest.approx(1, abs=0.06)
    assert c.missed < 0.06 and c.likelihood == pytest.approx(1, abs=0.1)


def test_points_on_some_peaks_have_no_spread_inside_and_miss_the_rest():
    prior = plane()
    c = coverage(prior.means[:4].repeat(10, 1), prior, "ring", torch.Generator().manual_seed(1))
    assert c.within < 1e-6 and c.missed == pytest.approx(0.5, abs=0.03) and c.likelihood > 2


def test_components_are_bayes_choice():
    prior = plane()
    assert torch.equal(components(prior.means[:8], prior, "ring"), torch.arange(8))
    # between two means the heavier one wins, and a component of weight 0 never
    assert components(torch.zeros(1, 2, dtype=torch.float64), prior, "ring").item() < 8


def test_diversity_is_the_rms_difference_over_pairs(rng):
    x = torch.rand(5, 3, 4, 4, generator=rng)
    pairs = torch.stack([(x[i] - x[j]).square().mean() for i in range(5) for j in range(i)])
    assert diversity(x) == pytest.approx(float(pairs.mean().sqrt()), rel=1e-6) and diversity(x[:1]) == 0


def test_sds_goes_to_the_mean_of_a_single_gaussian():
    """The gradient's zero: E[w sigma (alpha^2 C + sigma^2)^-1 alpha (x - m)] = 0 only at x = m."""
    guidance = SDS(scale=1.0, weight="one", times=Times(t_min=0.02, t_max=0.4))
    prior = plane()
    pictures = Image2DSession(Image2D(prompt="one", prior="exact", particles=64, steps=250, rate=0.05, init=1.0, guidance=guidance), prior)
    while pictures.step():
        pass
    off = pictures.latents() - prior.means[17]
    assert off.norm(dim=1).mean() < 0.12
    c = coverage(pictures.latents(), prior, "one", torch.Generator().manual_seed(0))
    assert c.within < 0.3 and c.likelihood > 1.5
