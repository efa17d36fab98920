"""Intervals and corrections against what is known of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.bench import statistics
from splatdistill.bench.statistics import Comparison, compare, comparisons, holm, mean_and_spread


def drawn(rng, prompts: int, seeds: int, gap: float, noise: float = 1.0):
    """Return two methods whose true difference is `gap`, with what prompts and seeds add to both alike or apart."""
    base = {(f"p{p}", s): rng.normal() * 5 for p in range(prompts) for s in range(seeds)}
    return {k: v + gap + noise * rng.normal() for k, v in base.items()}, base


def test_pairs_are_what_counts():
    """The spread between prompts is five times the difference, and no matter."""
    mine, theirs = drawn(np.random.default_rng(0), 20, 3, 1.0, 0.5)
    found = compare("clip_score", "a", mine, "b", theirs)
    assert (
        found.low < 1.0 < found.high
        and found.low > 0.5
        and found.p < 0.001
        and (found.prompts, found.pairs) == (20, 60)
    )
    assert found.difference == pytest.approx(np.mean([mine[k] - theirs[k] for k in mine]))


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(60):
        found = compare("clip_score", "a", *interleave(*drawn(rng, 25, 2, 0.3)))
        inside.append(found.low <= 0.3 <= found.high)
    assert 0.83 <= np.mean(inside) <= 1.0  # 95 % but for what a bootstrap of 25 loses; six of sixty is 0.9


def interleave(mine, theirs):
    return mine, "b", theirs


@pytest.mark.parametrize("seeds", [(1, 1, 1, 1, 1, 1, 1), (3, 1, 4, 2, 2), (5,)])
def test_the_bootstrap_is_that_of_two_plain_loops(seeds):
    """Draw prompts with replacement, and of each its seeds with replacement; the mean of the means."""
    rng = np.random.default_rng(4)
    gaps = [rng.normal(0.4, 1.0, n) for n in seeds]
    mine = {(f"p{k}", s): float(g) for k, own in enumerate(gaps) for s, g in enumerate(own)}
    found = compare("iou", "a", mine, "b", dict.fromkeys(mine, 0.0))
    means = []
    for _ in range(6000):
        drawn = [gaps[k] for k in rng.integers(len(gaps), size=len(gaps))]
        means.append(np.mean([rng.choice(g, len(g)).mean() for g in drawn]))
    means, spread = np.array(means), np.std(means)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.08 * spread)
    assert found.p == pytest.approx(min(1.0, 2 * min((means <= 0).mean(), (means >= 0).mean())), abs=0.03)


def test_swapping_methods_swaps_signs():
    mine, theirs = drawn(np.random.default_rng(2), 8, 2, 0.4)
    a, b = compare("iou", "a", mine, "b", theirs), compare("iou", "b", theirs, "a", mine)
    assert (a.difference, a.low, a.high, a.p) == pytest.approx((-b.difference, -b.high, -b.low, b.p))


def test_unequal_seeds_weigh_prompts_alike_and_only_shared_pairs_count():
    mine = {("p", 0): 1.0, ("p", 1): 3.0, ("q", 0): 5.0, ("r", 0): 9.0}
    theirs = {("p", 0): 0.0, ("p", 1): 0.0, ("q", 0): 0.0, ("s", 0): 1.0}
    found = compare("iou", "a", mine, "b", theirs)
    assert found.difference == pytest.approx((2.0 + 5.0) / 2) and found.pairs == 3
    assert compare("iou", "a", {("p", 0): 1.0}, "b", {("q", 0): 1.0}) is None


def test_one_pair_has_no_interval():
    found = compare("iou", "a", {("p", 0): 1.0}, "b", {("p", 0): 0.5})
    assert (found.difference, found.low, found.high, found.p, found.verdict) == (0.5, None, None, None, "too few prompts")


def blank(p, metric="iou", difference=1.0):
    return Comparison(metric, "a", "b", 9, 9, difference, 0.0, 1.0, p)


def test_holm_of_a_known_family():
    """Holm's own example: m p_(1), (m-1) p_(2), ..., made monotone."""
    found = [c.holm for c in holm([blank(p) for p in (0.01, 0.04, 0.03, 0.005)])]
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_p_value_and_bonferronis(values):
    corrected = [c.holm for c in holm([blank(p) for p in values])]
    for p, h in zip(values, corrected):
        assert p <= h <= min(1.0, len(values) * p) + 1e-12
    order = np.argsort(values, kind="stable")
    assert all(corrected[i] <= corrected[j] + 1e-12 for i, j in zip(order, order[1:]))


def test_verdicts_know_which_side_is_better():
    assert [
        holm([blank(0.01, m, d)])[0].verdict
        for m, d in (("iou", 1.0), ("iou", -1.0), ("seconds", 1.0), ("seconds", -1.0))
    ] == [
        "better",
        "worse",
        "worse",
        "better",
    ]
    assert holm([blank(0.2)])[0].verdict == "undecided" == holm([blank(0.001, "saturation")])[0].verdict


def test_each_metric_is_a_family_of_its_own():
    rng = np.random.default_rng(3)
    by = {m: {a: drawn(rng, 6, 1, 0.0)[0] for a in ("sds", "sdi", "vsd")} for m in ("iou", "psnr", "saturation")}
    found = comparisons(by, "sds")
    assert {(c.metric, c.arm) for c in found} == {(m, a) for m in ("iou", "psnr") for a in ("sdi", "vsd")}
    assert all(c.holm >= c.p for c in found) and comparisons(by, "nobody") == []


def test_means_are_over_prompts_first():
    mean, spread, count = mean_and_spread({("p", 0): 1.0, ("p", 1): 3.0, ("q", 0): 6.0})
    assert (mean, spread, count) == pytest.approx((4.0, np.std([2.0, 6.0], ddof=1), 2))
    assert np.isnan(mean_and_spread({("p", 0): 1.0})[1])
