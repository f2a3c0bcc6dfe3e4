"""Predictions joined to the truth, and their numbers, against tables made by hand."""

import numpy as np
import pytest
from prediction_tables import answer, failure, manifest_table, write_predictions
from sklearn.metrics import precision_recall_fscore_support

from vidpipe.answers import OUTCOMES, choose_split, join_truth
from vidpipe.metrics.answers import evaluate_answers, precision_curve
from vidpipe.metrics.thresholds import precision_thresholds
from vidpipe.predictions import read_predictions

LABELS = ("run", "walk", "jump")


@pytest.fixture
def joined(tmp_path):
    def join(rows, truth, labels=LABELS):
        table = read_predictions(write_predictions(tmp_path, labels, rows))
        return join_truth(table, labels, None if truth is None else manifest_table(truth))

    return join


def truth_of(*labels, group=None):
    return [{"url": f"v{index}", "label": label, "group": group and group[index]} for index, label in enumerate(labels)]


def test_a_video_that_failed_has_no_prediction_or_is_unknown_is_not_right(joined):
    rows = [
        answer("v0", "run", 0.9, ["run", "walk", "jump"]),
        answer("v1", "walk", 0.5, ["walk", "run", "jump"]),
        failure("v2"),
        answer("v4", "unknown", 0.4, ["jump", "run", "walk"]),
    ]
    videos = joined(rows, truth_of("run", "run", "walk", "walk", "jump"))
    numbers = evaluate_answers(videos.answers)
    assert [OUTCOMES[index] for index in videos.outcomes] == ["right", "wrong", "failed", "missing", "unknown"]
    assert numbers["top1"] == 1 / 5
    assert numbers["coverage"] == 2 / 5
    assert numbers["top1_covered"] == 1 / 2
    assert [numbers[f"num_{name}"] for name in ("videos", "failed", "missing", "unknown")] == [5, 1, 1, 1]
    # run: 1 of 2, walk: 0 of 2, jump: 0 of 1
    assert numbers["mean_class_accuracy"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert numbers["per_class"]["walk"] == {"precision": 0, "recall": 0, "f1": 0, "support": 2, "num_failed": 2}
    assert numbers["confusion"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    # All three labels are listed: of the answered ones the true label is among them.
    assert numbers["top5"] == 3 / 5


def test_numbers_by_class_are_those_of_scikit_learn(joined):
    rng = np.random.default_rng(0)
    truth, said = rng.choice(LABELS, 60), rng.choice(LABELS, 60)
    videos = joined([answer(f"v{index}", label, 0.5) for index, label in enumerate(said)], truth_of(*truth))
    numbers = evaluate_answers(videos.answers)
    expected = precision_recall_fscore_support(truth, said, labels=LABELS)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([numbers["per_class"][label][name] for label in LABELS], values)


def test_top_5_needs_five_listed_labels(joined):
    labels = tuple("abcdefg")
    rows = [answer("v0", "a", 0.4, "abcde"), answer("v1", "a", 0.4, "abcdf")]
    assert evaluate_answers(joined(rows, truth_of("e", "e"), labels).answers)["top5"] == 1 / 2
    rows[1] = answer("v1", "a", 0.4, "abc")
    assert evaluate_answers(joined(rows, truth_of("e", "e"), labels).answers)["top5"] is None


def test_a_label_that_the_checkpoint_does_not_know_is_never_right(joined):
    numbers = evaluate_answers(joined([answer("v0", "run", 0.9)], truth_of("swim")).answers)
    assert numbers["labels"] == [*LABELS, "swim"]
    assert numbers["top1"] == 0
    assert numbers["confusion"][3][0] == 1


def test_calibration_is_of_the_likeliest_label_whether_it_was_given_or_not(joined):
    rows = [answer("v0", "unknown", 0.6, ["run"]), answer("v1", "run", 0.6), failure("v2")]
    numbers = evaluate_answers(joined(rows, truth_of("run", "walk", "run")).answers)
    assert numbers["ece"] == pytest.approx(0.1)  # score 0.6, half of them right


def test_without_a_manifest_all_predictions_are_videos_without_truth(joined):
    videos = joined([answer("v0", "run", 0.9), failure("v1")], None)
    assert [OUTCOMES[index] for index in videos.outcomes] == ["labelled", "failed"]


def test_of_equal_scores_all_count_or_none(joined):
    rows = [answer(f"v{index}", "run", 0.5) for index in range(4)]
    answers = joined(rows, truth_of("run", "run", "run", "walk")).answers
    assert precision_curve(answers) == {"score": [0.5], "precision": [0.75], "coverage": [1.0]}


def test_an_answer_that_was_left_unknown_counts_for_thresholds_by_its_likeliest_label(joined):
    rows = [answer("v0", "unknown", 0.3, ["run", "walk"]), answer("v1", "run", 0.8)]
    found = precision_thresholds(joined(rows, truth_of("run", "run")).answers, 0.2, 0.95, min_videos=2)
    assert found["run"]["threshold"] == 0.3


def test_the_split_is_test_then_val_then_all():
    rows = truth_of("run", "run", "run")
    for splits, expected in (
        (("train", "val", "test"), ("test", 1)),
        (("train", "val", "val"), ("val", 2)),
        ((None, None, "train"), ("all", 3)),
    ):
        table = manifest_table([{**row, "split": split} for row, split in zip(rows, splits, strict=True)])
        name, chosen = choose_split(table, None)
        assert (name, len(chosen)) == expected
    with pytest.raises(ValueError, match="no video in split val"):
        choose_split(manifest_table(rows), "val")
