"""Inversions on a network that answers the clean x with an error: its eps means nothing where there is no noise."""

import pytest
import torch

from guidance.worlds import mixture, view
from splatdistill.guidance import ISM, SDI
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.priors.prediction import trusted_from

ERROR = 0.2


class Erring(GaussianMixturePrior):
    """Exact prior, its estimate of x wrong by ERROR in every number."""

    begins = 0.0

    def answer(self, queries):
        """Return eps of the erring estimate: too small by alpha ERROR / sigma."""
        answers = super().answer(queries)
        return tuple(e - a / s * ERROR for e, (a, s) in zip(answers, (self.schedule(q.t) for q in queries), strict=True))


def erring(begins: float) -> Erring:
    prior = mixture()
    prior.__class__ = Erring
    prior.begins = begins
    return prior  # type: ignore[return-value]


METHODS = [SDI(), SDI(variant="code"), SDI(eta=1.0, scale=1.0, inversion_scale=1.0), ISM()]
IDS = ["paper", "code", "eta 1", "ISM"]


def noise(g, prior, count: int = 8) -> torch.Tensor:
    """Return the noise that an inversion finds, relative to sigma."""
    v = view(prior, count, progress=0.6)
    n = g.noise(v, torch.full((count,), 0.6, dtype=torch.float64), g.init(prior))
    return n.eps


@pytest.mark.parametrize("g", METHODS, ids=IDS)
def test_the_error_stays_of_the_size_that_the_prior_makes_at_its_lowest_level(g) -> None:
    begins = trusted_from(mixture().noise)
    assert noise(g, erring(begins)).square().mean().sqrt() < 4
    assert noise(g, erring(0.0)).square().mean().sqrt() > 1.5 * noise(g, erring(begins)).square().mean().sqrt()


@pytest.mark.parametrize("g", METHODS, ids=IDS)
def test_nothing_changes_where_a_prior_answers_noise(g) -> None:
    prior = mixture()
    assert prior.begins == 0 and torch.equal(noise(g, prior), noise(g, mixture()))


@pytest.mark.parametrize("g", METHODS, ids=IDS)
def test_no_more_images_are_asked_for(g) -> None:
    late, early = erring(trusted_from(mixture().noise)), erring(0.0)
    noise(g, late), noise(g, early)
    assert 0 < late.calls <= early.calls


def test_the_level_is_the_first_with_so_much_noise() -> None:
    schedule = mixture().noise
    for wanted in (0.1, 0.3, 0.7):
        t = trusted_from(schedule, wanted)
        sigma = schedule.at(torch.tensor([t - 0.001, t], dtype=torch.float64))[1]
        assert sigma[0] < wanted <= sigma[1]


