"""Thresholds that keep their word, against simulations whose truth is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from vidpipe.metrics.answers import Answers
from vidpipe.metrics.thresholds import precision_thresholds


def answers_of(scores: Sequence[float], right: Sequence[bool], groups: Sequence[int] | None = None) -> Answers:
    """Answers "run", of which those that are not right should have been "walk"."""
    nobody = np.zeros(len(scores), bool)
    given = np.zeros(len(scores), int)
    return Answers(
        labels=("run", "walk"),
        truth=np.where(right, 0, 1),
        given=given,
        best=given,
        score=np.asarray(scores, float),
        rank=np.where(right, 0, 1),
        num_listed=2,
        failed=nobody,
        missing=nobody,
        groups=None if groups is None else np.asarray(groups),
    )


def found(answers: Answers, precision: float = 0.95, confidence: float = 0.95, min_videos: int = 1) -> dict[str, Any]:
    return precision_thresholds(answers, precision, confidence, min_videos)["run"]


def falling(num: int) -> np.ndarray:
    return np.linspace(0.99, 0.5, num)


def test_59_faultless_answers_prove_95_percent_with_95_percent_confidence_and_58_do_not():
    limit = found(answers_of(falling(59), np.ones(59, bool)))
    assert (limit["threshold"], limit["num_videos"], limit["num_right"]) == (0.5, 59, 59)
    assert limit["precision_low"] == pytest.approx(0.05 ** (1 / 59))  # Clopper and Pearson
    assert limit["provable_precision"] is limit["num_more"] is None
    limit = found(answers_of(falling(58), np.ones(58, bool)))
    assert limit["threshold"] is limit["precision_low"] is None
    assert limit["num_more"] == 1


def test_a_label_without_a_threshold_says_what_its_answers_prove_and_how_many_more_it_would_take():
    limit = found(answers_of(falling(20), np.ones(20, bool)))
    assert limit == {
        "threshold": None,
        "num_videos": 20,
        "num_right": 20,
        "precision_low": None,
        "provable_precision": 0.86,  # 0.05 ** (1 / 20) = 0.8609
        "num_more": 39,
    }
    assert found(answers_of(falling(20), np.ones(20, bool)), precision=0.86)["threshold"] == 0.5
    nothing = found(answers_of([], []))
    assert (nothing["num_videos"], nothing["provable_precision"], nothing["num_more"]) == (0, None, 59)
    wrong = found(answers_of(falling(20), np.zeros(20, bool)))
    assert (wrong["num_right"], wrong["provable_precision"], wrong["num_more"]) == (0, None, 59)


def test_a_threshold_stands_where_the_precision_is_proven_for_the_last_time():
    """Faultless to rank 59 · 1.3 and beyond, then wrong: the cut at 76.7 passes, the one at 99.7 does not."""
    scores = falling(160)
    assert found(answers_of(scores, np.arange(160) < 80))["threshold"] == scores[76]
    assert found(answers_of(scores, np.arange(160) < 60))["threshold"] == scores[58]
    assert found(answers_of(scores, np.arange(160) < 58))["threshold"] is None


def test_of_equal_scores_all_count_or_none():
    scores = np.repeat([0.9, 0.8], [100, 20])
    limit = found(answers_of(scores, np.arange(120) < 100))
    assert (limit["threshold"], limit["num_videos"]) == (0.9, 100)
    assert found(answers_of(np.full(120, 0.9), np.arange(120) < 100))["threshold"] is None


def test_fewer_videos_than_asked_for_are_no_threshold():
    answers = answers_of(falling(80), np.ones(80, bool))
    assert found(answers, min_videos=80)["num_videos"] == 80
    limit = found(answers, min_videos=81)
    assert (limit["threshold"], limit["provable_precision"], limit["num_more"]) == (None, None, 1)


def test_one_wrong_answer_near_the_top_of_many_is_not_the_end():
    limit = found(answers_of(falling(1000), np.arange(1000) != 5))
    assert limit["num_videos"] == 1000
    assert limit["precision_low"] > 0.99


def test_a_group_counts_as_one_answer_and_lone_videos_as_themselves():
    right = np.ones(236, bool)
    limit = found(answers_of(falling(236), right, np.arange(236) // 4))  # 59 groups
    assert limit["num_videos"] == 236
    limit = found(answers_of(falling(236), right, np.arange(236) // 8))  # 29.5
    assert limit["threshold"] is None
    assert limit["provable_precision"] == 0.901  # as 29 answers do: 0.05 ** (1 / 29)
    assert found(answers_of(falling(59), right[:59], np.arange(59)[::-1]))["num_videos"] == 59


def beta_precision(score: np.ndarray | float, strength: int) -> np.ndarray | float:
    """Mean of scores of Beta(strength, 1) at or above one: what the precision there is, where scores are calibrated."""
    top = 1 - score ** (strength + 1)
    return strength / (strength + 1) * top / (1 - score**strength)


@pytest.mark.parametrize("num", [20, 50, 100, 300, 1000])
def test_calibrated_scores_fall_short_of_the_precision_no_more_often_than_the_confidence_says(num: int):
    """The luckiest of all cuts falls short for nearly every label of 20 or 50 answers that gets a threshold."""
    rng, num_trials, short = np.random.default_rng(num), 300, 0
    for _ in range(num_trials):
        scores = rng.beta(6, 1, num)
        threshold = found(answers_of(scores, rng.random(num) < scores), min_videos=10)["threshold"]
        short += threshold is not None and beta_precision(threshold, 6) < 0.95
    assert short / num_trials <= 0.064


@pytest.mark.parametrize("num", [100, 300, 1000])
@pytest.mark.parametrize("grouped", [False, True], ids=["each by itself", "in groups of 5 that are alike"])
def test_scores_that_say_nothing_reach_a_precision_just_missed_in_one_case_of_twenty(num: int, grouped: bool):
    """The hardest case: every answer is right in 94.9 %, whatever its score, so any threshold falls short."""
    rng, num_trials = np.random.default_rng(num), 300
    groups = np.arange(num * 5) // 5
    short = 0
    for _ in range(num_trials):
        right = rng.random(num) < 0.949
        scores = np.sort(rng.random(num))
        answers = answers_of(scores[groups], right[groups], groups) if grouped else answers_of(scores, right)
        short += found(answers)["threshold"] is not None
    assert short / num_trials <= 0.064 + 0.025  # two standard errors of 300 trials


def test_with_a_thousand_answers_there_is_a_threshold_and_it_covers_most_of_what_could_be():
    rng, num_trials, num_found, covered = np.random.default_rng(0), 100, 0, 0.0
    for _ in range(num_trials):
        scores = rng.beta(20, 0.8, 1000)  # 96 % right without any threshold
        limit = found(answers_of(scores, rng.random(1000) < scores))
        num_found += limit["threshold"] is not None
        covered += limit["num_videos"] / 1000 if limit["threshold"] else 0
    assert num_found >= 99
    assert covered / num_trials > 0.85
