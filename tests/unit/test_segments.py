"""Segments of a long video: arithmetic on the scores of windows."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pytest

from vidpipe.predictions.decisions import make_decision
from vidpipe.predictions.segments import Segment, cell_scores, segments_of
from vidpipe.sampling import counted_s, window_starts_s
from vidpipe.spec import ClipSpec

LABELS = ("down", "left", "up")
ANY = make_decision(LABELS)


def windows(
    duration_s: float, window_s: float, hop_s: float, window_end: Literal["shifted", "repeat"] = "shifted"
) -> tuple[np.ndarray, np.ndarray, ClipSpec]:
    """Starts and ends, as `sampling windows` cuts them."""
    spec = ClipSpec(sampling="windows", window_s=window_s, hop_s=hop_s, window_end=window_end)
    starts_s = window_starts_s(duration_s, spec)
    return starts_s, np.minimum(starts_s + window_s, duration_s), spec


def sure(*indices: int) -> np.ndarray:
    """Scores of windows that name these labels."""
    return np.eye(3)[list(indices)] * 0.7 + 0.1


def test_neighbours_that_agree_are_one_segment_and_the_whole_video_is_covered():
    starts_s, ends_s, spec = windows(23, 5, 5)
    found = segments_of(starts_s, ends_s, 23, sure(0, 0, 1, 1, 0), ANY, spec)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [
        (0, 10, "down"), (10, 20, "left"), (20, 23, "down"),
    ]  # fmt: skip
    # The last window begins at 18 s: of the two seconds until 20 it has one, and so has the one before.
    assert [one.score for one in found] == pytest.approx([0.8, np.mean([0.8, (4 * 0.8 + 0.1) / 5]), 0.8])


def test_a_cell_has_the_mean_of_the_windows_that_cover_it():
    starts_s, ends_s, _ = windows(20, 10, 5)
    scores = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    cells = cell_scores(starts_s, ends_s, np.array([0, 5, 10, 15, 20]), scores, np.asarray)
    np.testing.assert_allclose(cells, [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]])


def test_windows_that_reach_into_a_cell_count_by_their_seconds_in_it():
    starts_s, ends_s, _ = windows(17, 7, 5)  # window 0 is on screen for 2 of the 5 s of the second cell
    scores, edges_s = np.array([[1, 0], [0, 1], [0, 1]], float), np.array([0, 5, 10, 17])
    cells = cell_scores(starts_s, ends_s, edges_s, scores, np.asarray)
    np.testing.assert_allclose(cells[1], [2 / 7, 5 / 7])
    # Where each second counts once, the two that both are on screen for count half for each.
    cells = cell_scores(starts_s, ends_s, edges_s, scores, partial(counted_s, starts_s, ends_s))
    np.testing.assert_allclose(cells[1], [1 / 5, 4 / 5])


def test_windows_with_gaps_between_them_leave_no_gap_in_the_segments():
    starts_s, ends_s, spec = windows(12, 2, 5)
    found = segments_of(starts_s, ends_s, 12, sure(0, 1, 1), ANY, spec)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [(0, 5, "down"), (5, 12, "left")]


def test_a_segment_below_its_threshold_is_unknown_and_joins_its_neighbours():
    strict = make_decision(LABELS, threshold=0.75, thresholds={"left": 0.9, "up": None})
    starts_s, ends_s, spec = windows(30, 5, 5)
    found = segments_of(starts_s, ends_s, 30, sure(0, 1, 1, 2, 0, 0), strict, spec)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [
        (0, 5, "down"), (5, 20, "unknown"), (20, 30, "down"),
    ]  # fmt: skip
    assert found[1].score == pytest.approx(0.8)


def test_labels_that_may_not_be_given_are_not_given():
    starts_s, ends_s, spec = windows(10, 5, 5)
    (only,) = segments_of(starts_s, ends_s, 10, sure(1, 0), make_decision(LABELS, exclude=["left", "up"]), spec)
    assert only == Segment(0, 10, "down", pytest.approx(0.45))


def test_changes_of_class_are_found_within_one_window():
    """Windows that lie across a change see both classes; those on either side of it agree with the truth."""
    duration_s, change_s = 600.0, 203.0
    starts_s, ends_s, spec = windows(duration_s, 10, 5)
    before = np.clip((change_s - starts_s) / (ends_s - starts_s), 0, 1)
    scores = np.stack([before, 1 - before, np.zeros(len(before))], axis=1)
    first, second = segments_of(starts_s, ends_s, duration_s, scores, ANY, spec)
    assert (first.label, second.label) == ("down", "left")
    assert abs(first.end_s - change_s) <= 10
    assert second.end_s == duration_s


def test_the_last_cells_have_the_label_of_windows_that_are_whole():
    """Two windows look at 12 s, from 0 and (moved back) from 2: the end belongs to the second, and none is frozen."""
    starts_s, ends_s, spec = windows(12, 10, 5)
    assert starts_s.tolist() == [0, 2]
    found = segments_of(starts_s, ends_s, 12, sure(1, 0), ANY, spec)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [(0, 5, "left"), (5, 12, "down")]
    assert [one.score for one in found] == pytest.approx([(3.5 * 0.8 + 1.5 * 0.1) / 5, np.mean([0.45, 0.8])])


def test_windows_that_repeat_begin_a_cell_each_as_they_always_did():
    starts_s, ends_s, spec = windows(12, 10, 5, "repeat")
    assert starts_s.tolist() == [0, 5, 10]
    found = segments_of(starts_s, ends_s, 12, sure(1, 0, 0), ANY, spec)
    assert [(one.start_s, one.end_s, one.label) for one in found] == [(0, 5, "left"), (5, 12, "down")]
    assert [one.score for one in found] == pytest.approx([0.8, np.mean([0.45, 0.8])])
