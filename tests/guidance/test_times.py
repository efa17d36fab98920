"""Which noise levels are visited: bounds, shapes, and DreamTime against its definition."""

import math

import pytest
import torch

from splatdistill.guidance import Times
from splatdistill.priors.schedule import TableSchedule

SCHEDULES = ("uniform", "linear", "sqrt", "dreamtime", "dreamtime_v1")


def drawn(times: Times, progress: float, batch: int = 1) -> list[float]:
    return times.draw(batch, progress, torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_stay_within_bounds_and_beyond_the_end_as_at_it(schedule):
    times = Times(schedule, low=0.1, high=0.9)
    for p in (-0.5, 0.0, 0.2, 0.7, 1.0, 1.3, 40.0):
        t = drawn(times, p, 50)
        assert all(0.1 - 1e-12 <= v <= 0.9 + 1e-12 for v in t)
        assert t == drawn(times, min(max(p, 0.0), 1.0), 50)


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_walks_are_shared_by_the_batch_and_fall_from_high_to_low(schedule):
    times = Times(schedule, low=0.1, high=0.9)
    walk = [drawn(times, k / 200, 3) for k in range(201)]
    assert all(t[0] == t[1] == t[2] for t in walk)
    walk = [t[0] for t in walk]
    assert walk == sorted(walk, reverse=True) and abs(walk[0] - 0.9) < 1e-9 and abs(walk[-1] - 0.1) < 1e-9


def test_linear_and_square_root():
    assert drawn(Times("linear", low=0.2, high=1.0), 0.25)[0] == pytest.approx(0.8, abs=1e-12)
    hifa = Times("sqrt", low=0.3, high=0.98)  # hifa.yaml: p_max - (p_max - p_min) sqrt(step / 25000)
    for step in (0, 1, 6250, 25000, 30000):
        expected = 0.98 - (0.98 - 0.3) * math.sqrt(min(step, 25000) / 25000)
        assert drawn(hifa, step / 25000)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["dreamtime", "dreamtime_v1"])
def test_dreamtime_by_its_definition(schedule):
    """t(i) = argmin_t |sum_{t' >= t} p(t') - i/N|, by loops."""
    beta = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * k / 999) ** 2 for k in range(1000)]
    acp, product = [], 1.0
    for b in beta:
        product *= 1 - b
        acp.append(product)
    weights = []
    for t in range(20, 981):
        w = math.exp(-((t - 800) ** 2) / (2 * 300**2)) if t > 800 else 1.0 if t >= 500 else math.exp(-((t - 500) ** 2) / (2 * 100**2))
        weights.append(w * math.sqrt((1 - acp[t]) / acp[t]) if schedule == "dreamtime" else w)
    total = sum(weights)
    for p in (0.0, 0.013, 0.25, 0.5, 0.77, 0.99, 1.0):
        best = min(range(961), key=lambda k: (abs(sum(weights[k:]) / total - p), -k))
        assert drawn(Times(schedule), p)[0] == pytest.approx((20 + best) / 1000, abs=1e-12)


def test_dreamtime_spends_most_steps_where_content_is_made():
    """W_p is flat on [0.5, 0.8]; W_d moves the walk to more noise."""
    v1 = [drawn(Times("dreamtime_v1", 0.0, 1.0), k / 1000)[0] for k in range(1001)]
    full = [drawn(Times("dreamtime", 0.0, 1.0), k / 1000)[0] for k in range(1001)]
    assert sum(0.5 <= t <= 0.8 for t in v1) > 400 and sum(t < 0.3 for t in v1) < 60
    assert sum(full) / len(full) > sum(v1) / len(v1) + 0.05
    assert len(TableSchedule.scaled_linear()) == 1000


def test_two_stages_and_a_line_that_ends_early():
    two = Times(high_end=0.5, low_end=0.1, switch=0.2)
    assert two.ends(0.2) == (0.02, 0.98) and two.ends(0.2001) == two.ends(1.0) == (0.1, 0.5)
    line = Times(low=0.5, low_end=0.02, high=0.98, high_end=0.5, until=0.4)
    assert line.ends(0.0) == (0.5, 0.98)
    assert line.ends(0.2) == pytest.approx((0.26, 0.74)) and line.ends(0.4) == line.ends(9.0) == pytest.approx((0.02, 0.5))


def test_one_time_for_the_batch_or_one_for_each_view():
    rng = torch.Generator().manual_seed(0)
    shared = Times(shared=True).draw(500, 0.0, rng)
    assert (shared == shared[0]).all() and shared[0] != Times(shared=True).draw(1, 0.0, rng)[0]
    own = Times().draw(2000, 0.0, rng)
    assert abs(own.mean() - 0.5) < 0.02 and len(own.unique()) == 2000


def test_whole_steps_reach_both_ends_alike():
    times = Times(low=0.29, high=0.299)
    t = times.whole(times.draw(20_000, 0.0, torch.Generator().manual_seed(0)), 0.0)
    values, counts = t.unique(return_counts=True)
    assert [round(float(v) * 1000, 9) for v in values] == [float(k) for k in range(290, 300)]
    assert counts.min() > 1800
    walked = Times("linear").whole(torch.tensor([0.1234567]), 0.5)
    assert float(walked) == pytest.approx(0.123)
