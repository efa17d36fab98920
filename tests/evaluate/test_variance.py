"""The variance figures against closed forms: linear-Gaussian draws, and SDS under an exact Gaussian prior."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from splatdistill.evaluate.variance import statistics as v
from splatdistill.evaluate.variance.statistics import Design, MethodDraws, gradient_statistics, jackknife, moments, reduce

DESIGN = Design(cameras=12, encodings=2, times=3, noises=4)
SIGMAS = {"noise": 1.5, "time": 0.7, "encoder": 0.5, "camera": 0.9}


def linear(design: Design, seed: int, d: int = 40, scale: float = 1.0, mean: Tensor | None = None) -> MethodDraws:
    """Return draws of g = mean + camera + encoder + time + noise, independent Gaussians of known variance."""
    rng = torch.Generator().manual_seed(seed)

    def draw(source: str) -> Tensor:
        return SIGMAS[source] * torch.randn(d, generator=rng, dtype=torch.float64)

    mean = torch.ones(d, dtype=torch.float64) if mean is None else mean
    samples = []
    for _ in range(design.cameras):
        encodings, camera = [], draw("camera")
        for _ in range(design.encodings):
            encoding = draw("encoder")
            times = [draw("time") for _ in range(design.times)]
            encodings.append([scale * torch.stack([mean + camera + encoding + t + draw("noise") for _ in range(design.noises)]) for t in times])
        samples.append(reduce(encodings))
    return MethodDraws.of(design, samples)


EVERY = list(range(DESIGN.cameras))


def test_components_and_signal_are_unbiased():
    """Over 40 repetitions the mean estimate meets the truth within 4 standard errors, in both spaces."""
    d = 40
    for space in ("parameters", "latents"):
        found = [moments(linear(DESIGN, seed, d), space, EVERY) for seed in range(40)]
        truth = {s: d * SIGMAS[s] ** 2 for s in v.SOURCES}
        wanted = [*truth.values(), float(d)]
        if space == "latents":  # at one camera: nothing between cameras, whose own mean has more energy
            wanted = [truth["noise"], truth["time"], truth["encoder"], 0.0, d + truth["camera"]]
        for k, want in enumerate(wanted):
            values = torch.tensor([(*m.parts, m.signal)[k] for m in found], dtype=torch.float64)
            assert abs(float(values.mean()) - want) <= 4 * float(values.std()) / math.sqrt(40) + 1e-12, (space, k)


def test_the_naive_squared_mean_is_biased_and_ours_is_not():
    """At 12 cameras |mean|^2 is too large by tr Cov of the mean; without signal ours is 0 on average."""
    d, small = 40, Design(4, 1, 2, 2)
    found = [linear(small, seed, d, mean=torch.zeros(d, dtype=torch.float64)) for seed in range(80)]
    naive = torch.tensor([float(x.gram.mean()) for x in found])
    ours = torch.tensor([moments(x, "parameters", list(range(4))).signal for x in found])
    assert naive.mean() > 10 * naive.std() / math.sqrt(80)
    assert abs(ours.mean()) < 4 * ours.std() / math.sqrt(80)


@pytest.mark.parametrize("space", v.SPACES)
def test_the_split_sums_to_the_total(space):
    f = gradient_statistics(linear(DESIGN, 0), linear(DESIGN, 1), linear(DESIGN, 2), space, 2)
    assert sum(i.value for i in f.shares.values()) == pytest.approx(1, abs=1e-12)
    # one draw per camera: the sample variance over cameras is that of single draws, an independent estimate of it
    flat = linear(Design(400, 1, 2, 2), 3)
    total = moments(flat, "parameters", list(range(400))).total
    assert total == pytest.approx(40 * sum(s**2 for s in SIGMAS.values()), rel=0.05)


@pytest.mark.parametrize("space", v.SPACES)
def test_shrinking_the_gradient_changes_no_figure(space):
    first, reference = linear(DESIGN, 1), linear(DESIGN, 2)
    one, tenth = (gradient_statistics(linear(DESIGN, 0, scale=s), first, reference, space, 3) for s in (1.0, 0.1))
    for name in ("ratio", "per_call", "against_first", "cosine", "bias"):
        for end in ("value", "low", "high"):
            assert getattr(getattr(one, name), end) == pytest.approx(getattr(getattr(tenth, name), end), rel=1e-9)
    for s in v.SOURCES:
        assert one.shares[s].value == pytest.approx(tenth.shares[s].value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("space", v.SPACES)
def test_intervals_cover_the_truth_about_as_often_as_they_say(space):
    d, small = 10, Design(10, 1, 2, 2)
    truth = d * (SIGMAS["noise"] ** 2 + SIGMAS["time"] ** 2) / (d * (1 + SIGMAS["camera"] ** 2 + SIGMAS["encoder"] ** 2))
    if space == "parameters":
        truth = sum(s**2 for s in SIGMAS.values())
    hits = 0
    for seed in range(60):
        drawn = linear(small, seed, d)

        def ratio(cameras: list[int], drawn: MethodDraws = drawn) -> float:
            m = moments(drawn, space, cameras)
            return m.total / m.signal if m.signal > 0 else math.nan

        i = jackknife(ratio, 10, log=True)
        hits += i.value is not None and (i.low is None or i.low <= truth <= i.high)
    assert hits >= 50  # 57 expected; fewer than 50 has a chance of about 1 in 1,000 at true coverage 0.95


@pytest.mark.parametrize("space", v.SPACES)
def test_cosine_is_that_of_the_means_and_not_of_noisy_averages(space):
    """Two means at 60 degrees; methods share cameras' seeds only in the sense of independence here."""
    d = 40
    a, b = torch.zeros(2, d, dtype=torch.float64)
    a[0], b[0], b[1] = 12.0, 6.0, 6 * math.sqrt(3)
    wanted = 72.0 / 144.0
    if space == "latents":  # each camera's own mean counts
        wanted = 72.0 / (144.0 + d * SIGMAS["camera"] ** 2)
    pairs = [(linear(DESIGN, s, mean=a), linear(DESIGN, 900 + s, mean=b)) for s in range(16)]
    found = torch.tensor([gradient_statistics(m, m, r, space, 1).cosine.value for m, r in pairs])
    assert abs(float(found.mean()) - wanted) < 4 * float(found.std()) / math.sqrt(16) + 0.01
    same = gradient_statistics(linear(DESIGN, 0), linear(DESIGN, 0), linear(DESIGN, 0, scale=0.1), "latents", 1)
    assert same.bias.value < 1.0


def test_without_a_signal_the_ratio_is_unresolved_and_says_so():
    zero = torch.zeros(40, dtype=torch.float64)
    small = Design(3, 1, 2, 2)
    seeds = [s for s in range(40) if moments(linear(small, s, mean=zero), "parameters", [0, 1, 2]).signal < 0]
    drawn = linear(small, seeds[0], mean=zero)
    f = gradient_statistics(drawn, drawn, drawn, "parameters", 1)
    assert f.ratio.value is None and str(f.ratio) == "?" and f.cosine.value is None


def test_the_jackknife_of_a_mean_is_the_usual_interval():
    x = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    i = jackknife(lambda kept: float(x[kept].mean()), 9)
    assert i.high - i.value == pytest.approx(2.306004 * float(x.std()) / 3, rel=1e-4)


def test_a_jackknifed_mean_has_students_interval():
    """Of a plain mean the jackknife's error is the standard error, so its interval is that of the t test."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 7)
    found = v.jackknife(lambda kept: float(values[kept].mean()), len(values))
    wanted = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
