"""Noise levels that are visited: bounds, shapes, and DreamTime against its definition."""

import math

import pytest
import torch

from splatdistill.errors import UserError
from splatdistill.guidance import Times
from splatdistill.priors.schedule import TableSchedule

SCHEDULES = ("uniform", "linear", "sqrt", "dreamtime", "dreamtime_v1")


def drawn(times: Times, progress: float, batch: int = 1) -> list[float]:
    return times.draw(batch, progress, torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_stay_within_bounds_and_beyond_the_end_as_at_it(schedule):
    times = Times(schedule, t_min=0.1, t_max=0.9)
    for p in (-0.5, 0.0, 0.2, 0.7, 1.0, 1.3, 40.0):
        t = drawn(times, p, 50)
        assert all(0.1 - 1e-12 <= v <= 0.9 + 1e-12 for v in t)
        assert t == drawn(times, min(max(p, 0.0), 1.0), 50)


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_walks_are_shared_by_the_batch_and_fall_from_high_to_low(schedule):
    times = Times(schedule, t_min=0.1, t_max=0.9)
    walk = [drawn(times, k / 200, 3) for k in range(201)]
    assert all(t[0] == t[1] == t[2] for t in walk)
    walk = [t[0] for t in walk]
    assert walk == sorted(walk, reverse=True) and abs(walk[0] - 0.9) < 1e-9 and abs(walk[-1] - 0.1) < 1e-9


def test_linear_and_square_root():
    assert drawn(Times("linear", t_min=0.2, t_max=1.0), 0.25)[0] == pytest.approx(0.8, abs=1e-12)
    hifa = Times("sqrt", t_min=0.3, t_max=0.98)  # hifa.yaml: p_max - (p_max - p_min) sqrt(step / 25000)
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
    two = Times(t_max_end=0.5, t_min_end=0.1, switch=0.2)
    assert two.ends(0.2) == (0.02, 0.98) and two.ends(0.2001) == two.ends(1.0) == (0.1, 0.5)
    line = Times(t_min=0.5, t_min_end=0.02, t_max=0.98, t_max_end=0.5, until=0.4)
    assert line.ends(0.0) == (0.5, 0.98)
    assert line.ends(0.2) == pytest.approx((0.26, 0.74)) and line.ends(0.4) == line.ends(9.0) == pytest.approx((0.02, 0.5))


def test_one_time_for_the_batch_or_one_for_each_view():
    rng = torch.Generator().manual_seed(0)
    shared = Times(shared=True).draw(500, 0.0, rng)
    assert (shared == shared[0]).all() and shared[0] != Times(shared=True).draw(1, 0.0, rng)[0]
    own = Times().draw(2000, 0.0, rng)
    assert abs(own.mean() - 0.5) < 0.02 and len(own.unique()) == 2000


def test_whole_steps_reach_both_ends_alike():
    times = Times(t_min=0.29, t_max=0.299, integer=True)
    t = times.draw(20_000, 0.0, torch.Generator().manual_seed(0))
    values, counts = t.unique(return_counts=True)
    assert [round(float(v) * 1000, 9) for v in values] == [float(k) for k in range(290, 300)]
    assert counts.min() > 1800
    shared = Times(t_min=0.29, t_max=0.299, integer=True, shared=True).draw(9, 0.0, torch.Generator().manual_seed(0))
    assert len(shared.unique()) == 1 and float(shared[0]) in values


def test_walks_in_whole_steps_are_rounded_down_as_the_codes_do():
    """hifa.yaml's p_max - (p_max - p_min) sqrt(step / N), N = 25000, as threestudio computes it, and DreamTime's own steps."""
    hifa = Times("sqrt", t_min=0.3, t_max=0.98, integer=True)
    for step in range(0, 25_001, 50):
        expected = int(1000 * ((0.98 - 0.3) * (1 - (step / 25_000) ** 0.5) + 0.3))
        assert round(drawn(hifa, step / 25_000)[0] * 1000) == expected
    assert drawn(Times("dreamtime", integer=True), 0.3) == drawn(Times("dreamtime"), 0.3)
    assert drawn(Times("linear", integer=True), 0.5, 2) == [0.5, 0.5]


OUT_OF_RANGE = [
    ({"t_max": 1.5}, "t-max must lie within 0 and 1, got 1.5"),
    ({"t_min": -0.1}, "t-min must lie within 0 and 1, got -0.1"),
    ({"t_min": 0.9, "t_max": 0.5}, "t-max must not be below t-min, 0.9, got 0.5"),
    ({"t_min": 0.6, "t_max_end": 0.5}, "t-max-end must not be below the least noise at the end, 0.6, got 0.5"),
    ({"t_min": math.nan}, "t-min must be finite, got nan"),
    ({"t_max_end": math.inf}, "t-max-end must be finite, got inf"),
    ({"switch": 2.0}, "switch must lie within 0 and 1, got 2.0"),
    ({"until": -0.5}, "until must lie within 0 and 1"),
]


@pytest.mark.parametrize("fields, about", OUT_OF_RANGE)
def test_levels_that_make_no_sense_are_refused(fields, about):
    with pytest.raises(UserError, match=about) as refused:
        Times(**fields)
    assert "\n" not in str(refused.value)
