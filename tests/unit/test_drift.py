"""Two nights against each other."""

import numpy as np
import pytest

from vidpipe.metrics.drift import failure_drift, label_drift, score_drift


def test_the_label_mix_moved_by_the_share_that_would_have_to_change():
    found = label_drift(["a"] * 60 + ["b"] * 40, ["a"] * 80 + ["b"] * 20)
    assert found["total_variation"] == pytest.approx(0.2)
    psi = 0.2 * np.log((0.4 * 0.8) / (0.2 * 0.6))
    assert found["psi"] == pytest.approx(psi, rel=0.05)
    assert found["p"] == pytest.approx(0.00202, abs=1e-5)  # chi-squared 9.524 of one degree
    assert found["labels"][0] == {"label": "a", "now": 60, "before": 80, "share_now": 0.6, "share_before": 0.8}


def test_a_label_that_is_new_does_not_make_the_index_infinite():
    found = label_drift(["a"] * 10 + ["new"] * 10, ["a"] * 20)
    assert 0.25 < found["psi"] < 10
    assert found["total_variation"] == pytest.approx(0.5)


def test_the_same_night_has_not_drifted():
    labels, scores = ["a", "b"] * 50, np.linspace(0, 1, 100)
    assert label_drift(labels, labels)["total_variation"] == 0
    assert label_drift(labels, labels)["p"] == 1
    assert score_drift(scores, scores)["ks"] == 0
    assert failure_drift([None, "corrupt"], [None, "corrupt"])["p"] == 1


def test_scores_that_fell_are_seen():
    found = score_drift(np.full(50, 0.4), np.full(50, 0.9))
    assert found["ks"] == 1
    assert found["p"] < 1e-9
    assert (found["now"]["median"], found["before"]["median"]) == (0.4, 0.9)
    assert sum(found["now"]["histogram"]) == pytest.approx(1)


def test_failures_are_counted_by_code():
    found = failure_drift([None] * 8 + ["corrupt", "timeout"], [None] * 9 + ["corrupt"])
    assert found["now"]["rate"] == 0.2
    assert found["by_code"] == {"corrupt": {"now": 1, "before": 1}, "timeout": {"now": 1, "before": 0}}
    assert found["p"] == 1


def test_an_empty_night_has_no_test():
    assert label_drift([], ["a"])["p"] is None
    assert score_drift(np.array([]), np.array([0.5]))["p"] is None
    assert failure_drift([], [None])["now"]["rate"] is None
