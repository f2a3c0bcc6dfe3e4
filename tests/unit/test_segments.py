"""Segments of a long video: arithmetic on the scores of windows."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.predictions.decisions import make_decision
from vidpipe.predictions.segments import Segment, cell_scores, segments_of

LABELS = ("down", "left", "up")
ANY = make_decision(LABELS)


def windows(duration_s: float, window_s: float, hop_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends, as `sampling windows` cuts them."""
    starts_s = np.arange(0, duration_s, hop_s)
    return starts_s, np.minimum(starts_s + window_s, duration_s)


def sure(*indices: int) -> np.ndarray:
    """Scores of windows that name these labels."""
    return np.eye(3)[list(indices)] * 0.7 + 0.1


def test_neighbours_that_agree_are_one_segment_and_the_whole_video_is_covered():
    starts_s, ends_s = windows(23, 5, 5)
    found = segments_of(starts_s, ends_s, 23, sure(0, 0, 1, 1, 0), ANY)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [
        (0, 10, "down"), (10, 20, "left"), (20, 23, "down"),
    ]  # fmt: skip
    assert [one.score for one in found] == pytest.approx([0.8] * 3)


def test_a_cell_has_the_mean_of_the_windows_that_cover_it():
    starts_s, ends_s = windows(20, 10, 5)
    scores = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], float)
    cells = cell_scores(starts_s, ends_s, np.append(starts_s[1:], 20), scores)
    np.testing.assert_allclose(cells, [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]])


def test_windows_that_reach_into_a_cell_count_by_their_seconds_in_it():
    starts_s, ends_s = windows(15, 7, 5)  # window 0 is on screen for 2 of the 5 s of the second cell
    cells = cell_scores(starts_s, ends_s, np.append(starts_s[1:], 15), np.array([[1, 0], [0, 1], [0, 1]], float))
    np.testing.assert_allclose(cells[1], [2 / 7, 5 / 7])


def test_windows_with_gaps_between_them_leave_no_gap_in_the_segments():
    starts_s, ends_s = windows(12, 2, 5)
    found = segments_of(starts_s, ends_s, 12, sure(0, 1, 1), ANY)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [(0, 5, "down"), (5, 12, "left")]


def test_a_segment_below_its_threshold_is_unknown_and_joins_its_neighbours():
    strict = make_decision(LABELS, threshold=0.75, thresholds={"left": 0.9, "up": None})
    starts_s, ends_s = windows(30, 5, 5)
    found = segments_of(starts_s, ends_s, 30, sure(0, 1, 1, 2, 0, 0), strict)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [
        (0, 5, "down"), (5, 20, "unknown"), (20, 30, "down"),
    ]  # fmt: skip
    assert found[1].score == pytest.approx(0.8)


def test_labels_that_may_not_be_given_are_not_given():
    starts_s, ends_s = windows(10, 5, 5)
    (only,) = segments_of(starts_s, ends_s, 10, sure(1, 0), make_decision(LABELS, exclude=["left", "up"]))
    assert only == Segment(0, 10, "down", pytest.approx(0.45))


def test_changes_of_class_are_found_within_one_window():
    """Windows that lie across a change see both classes; those on either side of it agree with the truth."""
    duration_s, change_s = 600.0, 203.0
    starts_s, ends_s = windows(duration_s, 10, 5)
    before = np.clip((change_s - starts_s) / (ends_s - starts_s), 0, 1)
    scores = np.stack([before, 1 - before, np.zeros(len(before))], axis=1)
    first, second = segments_of(starts_s, ends_s, duration_s, scores, ANY)
    assert (first.label, second.label) == ("down", "left")
    assert abs(first.end_s - change_s) <= 10
    assert second.end_s == duration_s
