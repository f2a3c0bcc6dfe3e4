"""From scores to an answer: thresholds, labels that may be given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vidpipe.predictions.decisions import make_decision, read_thresholds

LABELS = ("down", "left", "up")
SCORES = np.array([0.2, 0.5, 0.3])


def test_the_most_likely_comes_first_and_of_equals_the_one_listed_first():
    assert make_decision(LABELS).ranked(SCORES).tolist() == [1, 2, 0]
    assert make_decision(LABELS).ranked(np.array([0.25, 0.5, 0.25])).tolist() == [1, 0, 2]


def test_labels_that_are_left_out_are_never_given():
    assert make_decision(LABELS, exclude=["left"]).ranked(SCORES).tolist() == [2, 0]
    assert make_decision(LABELS, include=["down"]).ranked(SCORES).tolist() == [0]


def test_below_its_threshold_a_label_is_unknown():
    decision = make_decision(LABELS, threshold=0.5, thresholds={"up": 0.25, "down": None})
    assert [decision.label(index, float(SCORES[index])) for index in range(3)] == ["unknown", "left", "up"]
    assert decision.label(0, 1.0) == "unknown"  # no score of it reaches the precision


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"include": ["dwon"]}, r"include_labels names 'dwon'.*down, left, up"),
        ({"exclude": ["x"]}, "exclude_labels names 'x'"),
        ({"thresholds": {"x": 0.5}}, "thresholds names 'x'"),
        ({"exclude": LABELS}, "leaves none of the 3 labels"),
    ],
)
def test_labels_that_the_checkpoint_does_not_have_are_refused(given: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make_decision(LABELS, **given)


def test_thresholds_are_of_one_checkpoint(tmp_path: Path):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"precision": 0.95, "checkpoint_id": "abc", "thresholds": {"up": 0.8, "down": None}}))
    assert read_thresholds(str(path), "abc") == {"up": 0.8, "down": None}
    with pytest.raises(ValueError, match=r"of checkpoint abc, and this one is xyz.*evaluate"):
        read_thresholds(str(path), "xyz")
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"not a thresholds\.json"):
        read_thresholds(str(path), "abc")
    with pytest.raises(ValueError, match="is not there"):
        read_thresholds(str(tmp_path / "nowhere.json"), "abc")
