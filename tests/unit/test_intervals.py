"""Intervals against simulations and published tables, the tests against scipy."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from vidpipe.metrics.intervals import (
    class_mean_interval,
    mcnemar_p,
    paired_difference,
    share_interval,
    wilson_interval,
)


def test_independent_videos_have_wilsons_interval():
    right = np.array([True] * 8 + [False] * 2)
    assert share_interval(right) == pytest.approx(wilson_interval(8, 10))
    exact = binomtest(8, 10).proportion_ci(method="wilson")
    assert share_interval(right) == pytest.approx((exact.low, exact.high))


def test_videos_that_are_copies_of_each_other_count_once():
    """20 groups of 10 equal videos: the interval of 20 videos, a little wider by Student's t."""
    right = np.repeat([True] * 15 + [False] * 5, 10)
    low, high = share_interval(right, np.repeat(np.arange(20), 10))
    alone_low, alone_high = wilson_interval(15, 20)
    assert low < alone_low < alone_high < high
    assert high - low < 1.15 * (alone_high - alone_low)


def test_groups_of_one_say_what_no_groups_say_but_for_students_t():
    right = np.random.default_rng(0).random(400) < 0.7
    assert share_interval(right, np.arange(400)) == pytest.approx(share_interval(right), abs=2e-3)


def test_all_right_is_not_certain():
    low, high = share_interval(np.ones(60, bool), np.repeat(np.arange(6), 10))
    assert high == 1
    assert low < 0.6  # of six groups, not of sixty videos
    assert share_interval(np.ones(1, bool), np.zeros(1, int))[0] < 0.25


@pytest.mark.parametrize("kinship", [0.0, 0.5])
def test_the_interval_of_grouped_videos_holds_the_truth_in_95_percent(kinship):
    """Groups whose own share varies; without counting them the interval holds it in 62 % of the trials."""
    rng, hits, hits_alone, num_trials = np.random.default_rng(1), 0, 0, 600
    groups = np.repeat(np.arange(30), 8)
    for _ in range(num_trials):
        shares = 0.7 if kinship == 0 else rng.beta(0.7 / kinship - 0.7, 0.3 / kinship - 0.3, 30)[groups]
        right = rng.random(len(groups)) < shares
        low, high = share_interval(right, groups)
        hits += low <= 0.7 <= high
        low, high = share_interval(right)
        hits_alone += low <= 0.7 <= high
    assert 0.93 <= hits / num_trials <= 0.99
    if kinship:
        assert hits_alone / num_trials < 0.8


def test_the_mean_over_classes_is_as_wide_as_its_rarest_class_makes_it():
    truth = np.array([0] * 1000 + [1] * 10)
    right = np.array([True] * 900 + [False] * 100 + [True] * 5 + [False] * 5)
    low, high = class_mean_interval(right, truth)
    deviation = np.sqrt(0.9 * 0.1 / 1000 + 0.25 / 10) / 2
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert low < 0.7 < high


SIZES = {
    "25 of 1, 25 of 20": [1] * 25 + [20] * 25,
    "10 of 1, 10 of 50": [1] * 10 + [50] * 10,
    "5 of 2, 5 of 100": [2] * 5 + [100] * 5,
    "20 of 1 to 14": np.linspace(1, 14, 20).round().astype(int).tolist(),
    "10 of 20": [20] * 10,
}


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95, 0.99, None], ids=str)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_interval_of_the_mean_over_classes_holds_the_truth_where_classes_are_rare(
    sizes: str, accuracy: float | None
):
    """In 36 to 98 % of the cases where a class of one video adds no variance; without an accuracy each has its own."""
    rng, num_trials, hits, width, known = np.random.default_rng(0), 500, 0, 0.0, 0.0
    support = np.array(SIZES[sizes])
    truth = np.repeat(np.arange(len(support)), support)
    for _ in range(num_trials):
        accuracies = rng.beta(8, 2, len(support)) if accuracy is None else np.full(len(support), accuracy)
        low, high = class_mean_interval(rng.random(len(truth)) < accuracies[truth], truth)
        hits += low <= accuracies.mean() <= high
        width += high - low
        known += 2 * 1.96 * np.sqrt((accuracies * (1 - accuracies) / support).sum()) / len(support)
    assert hits / num_trials >= 0.93 - 0.011  # a standard error of 500 trials
    assert width / known <= 1.5


@pytest.mark.parametrize("kinship", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("groups_a_class", [1, 3])
def test_the_interval_of_the_mean_over_classes_heeds_groups(kinship: float, groups_a_class: int):
    """Groups of 8 within a class, which may have no other; without counting them it holds the truth in 46 to 76 %."""
    rng, num_trials, hits = np.random.default_rng(0), 300, 0
    groups = np.repeat(np.arange(30), 8)
    for _ in range(num_trials):
        is_shared = rng.random(240) < np.sqrt(kinship)
        right = np.where(is_shared, rng.random(30)[groups], rng.random(240)) < 0.8
        low, high = class_mean_interval(right, groups // groups_a_class, groups)
        hits += low <= 0.8 <= high
    assert hits / num_trials >= 0.93


def test_classes_of_one_video_that_are_all_right_prove_little():
    low, high = class_mean_interval(np.ones(5, bool), np.arange(5))
    assert high == 1
    assert low < 0.7
    assert class_mean_interval(np.ones(40, bool), np.arange(40) % 5, np.zeros(40, int))[0] < 0.4  # one group


def test_mcnemar_counts_the_videos_on_which_just_one_is_right():
    now = np.array([True] * 10 + [False] * 2 + [True] * 30 + [False] * 8)
    before = np.array([False] * 10 + [True] * 2 + [True] * 30 + [False] * 8)
    found = paired_difference(now, before)
    assert (found["num_better"], found["num_worse"]) == (10, 2)
    assert (found["num_both_right"], found["num_both_wrong"]) == (30, 8)
    assert found["mcnemar_p"] == pytest.approx(binomtest(2, 12).pvalue)  # 0.0386
    assert found["difference"] == pytest.approx(8 / 50)
    # Bonett and Price: p12 = 11/52, p21 = 3/52
    half = 1.959964 * np.sqrt((14 / 52 - (8 / 52) ** 2) / 52)
    assert found["difference_ci"] == pytest.approx([8 / 52 - half, 8 / 52 + half], abs=1e-6)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (7, 7), (60, 31), (3000, 2900)])
def test_mcnemar_without_groups_is_the_binomial_test(better: int, worse: int):
    differences = np.array([1] * better + [-1] * worse + [0] * 5)
    expected = binomtest(better, better + worse, 0.5).pvalue if better else 1.0
    assert mcnemar_p(differences) == pytest.approx(expected, rel=1e-6)
    assert mcnemar_p(differences, np.arange(len(differences))) == pytest.approx(expected, rel=1e-6)


def test_mcnemar_of_groups_equals_the_count_of_all_ways_in_which_their_coins_can_fall():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 12, 60)
    differences = rng.integers(-1, 2, 60)
    sums = np.bincount(groups, weights=differences, minlength=12)
    ways = np.array(list(product((-1, 1), repeat=12))) @ sums
    assert mcnemar_p(differences, groups) == pytest.approx((np.abs(ways) >= abs(sums.sum())).mean())


def test_mcnemar_of_groups_errs_as_often_as_it_says_where_that_of_videos_errs_more():
    """30 groups of 8 that are right or wrong together, two answers equally good: p below 0.05 in 5 % of the cases."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 8)
    cases = [np.repeat(rng.integers(-1, 2, 30), 8) for _ in range(400)]
    assert np.mean([mcnemar_p(case, groups) < 0.05 for case in cases]) < 0.07
    assert np.mean([mcnemar_p(case) < 0.05 for case in cases]) > 0.3


def test_groups_make_the_difference_less_certain():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    before, now = rng.random(200) < 0.5, np.repeat(rng.random(20) < 0.6, 10)
    low, high = paired_difference(now, before)["difference_ci"]
    wide_low, wide_high = paired_difference(now, before, groups)["difference_ci"]
    assert wide_high - wide_low > 1.3 * (high - low)


def test_two_equal_answers_differ_by_nothing_with_an_interval_that_is_not_empty():
    right = np.array([True, False] * 10)
    found = paired_difference(right, right, np.arange(20) // 4)
    assert found["difference"] == 0
    assert found["mcnemar_p"] == 1
    assert found["difference_ci"][0] < 0 < found["difference_ci"][1]
