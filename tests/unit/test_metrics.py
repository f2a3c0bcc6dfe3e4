"""Against scikit-learn, scipy and tables made by hand."""

import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, precision_recall_fscore_support, top_k_accuracy_score

from vidpipe.metrics import Views, evaluate, fit_temperature, join_views, wilson_interval
from vidpipe.metrics.intervals import share_interval

LABELS = ["walk", "run", "jump"]


def views_of(rows, num_labels=3) -> Views:
    """Rows are (video, clip, crop, truth, logits)."""
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), np.empty((0, num_labels))]
    return Views(*(np.array(column) for column in columns))


def single_views(probabilities, truth) -> Views:
    """One view a video, v00, v01, …, with these probabilities."""
    rows = [(f"v{i:02}", 0, 0, t, np.log(p)) for i, (p, t) in enumerate(zip(probabilities, truth, strict=True))]
    return views_of(rows)


def random_views(num_videos=60, num_clips=3, crops=2, num_labels=7, seed=0) -> Views:
    rng = np.random.default_rng(seed)
    truth = rng.integers(num_labels, size=num_videos)
    rows = [
        (f"v{rng.integers(1 << 40):x}-{video}", clip, crop, truth[video])
        for video in range(num_videos)
        for clip in range(num_clips)
        for crop in range(crops)
    ]
    ids = {video: f"{rng.integers(1 << 40):x}" for video in range(num_videos)}
    rows = [(ids[video // (num_clips * crops)], *row[1:]) for video, row in enumerate(rows)]
    logits = rng.normal(size=(len(rows), num_labels)).astype(np.float32) * 3
    logits[np.arange(len(rows)), [row[3] for row in rows]] += 2
    return views_of([(*row, logit) for row, logit in zip(rows, logits, strict=True)])


def softmax(logits):
    exponents = np.exp(np.asarray(logits, dtype=np.float64))
    return exponents / exponents.sum(-1, keepdims=True)


def means_by_video(views: Views, values) -> dict[str, np.ndarray]:
    return {video: np.mean(values[views.video_ids == video], axis=0) for video in sorted(set(views.video_ids))}


def test_the_mean_softmax_is_the_mean_of_the_views_probabilities():
    views = random_views()
    ids, probabilities = join_views(views, "mean_softmax")
    expected = means_by_video(views, softmax(views.logits))
    assert list(ids) == list(expected)
    np.testing.assert_allclose(probabilities, list(expected.values()), rtol=1e-12)


def test_the_mean_of_logits_is_joined_before_the_softmax():
    views = random_views()
    _, probabilities = join_views(views, "mean_logits")
    expected = means_by_video(views, views.logits.astype(np.float64))
    np.testing.assert_allclose(probabilities, softmax(list(expected.values())), rtol=1e-12)


def test_a_vote_counts_views_and_the_mean_softmax_breaks_ties():
    sure, unsure = [0.98, 0.01, 0.01], [0.2, 0.5, 0.3]
    rows = [("majority", i, 0, 0, np.log(p)) for i, p in enumerate([sure, unsure, unsure])]
    rows += [("tie", i, 0, 0, np.log(p)) for i, p in enumerate([sure, unsure])]
    ids, probabilities = join_views(views_of(rows), "vote")
    assert list(ids) == ["majority", "tie"]
    np.testing.assert_allclose(probabilities[0], [(1 + 1.38 / 3) / 4, (2 + 1.01 / 3) / 4, (0.61 / 3) / 4])
    np.testing.assert_allclose(probabilities[1], [(1 + 0.59) / 3, (1 + 0.255) / 3, 0.155 / 3])
    assert probabilities.argmax(1).tolist() == [1, 0]
    assert join_views(views_of(rows), "mean_softmax")[1].argmax(1).tolist() == [0, 0]


@pytest.mark.parametrize("join", ["mean_softmax", "mean_logits", "vote"])
def test_very_sure_logits_stay_finite(join):
    rows = [("a", clip, 0, 1, [2000.0 * (clip == 0), -3000.0, 0.0]) for clip in range(3)]
    metrics = evaluate(views_of(rows), LABELS, join)
    assert math.isfinite(metrics["nll"])
    assert metrics["nll"] > 100


@pytest.mark.parametrize("join", ["mean_softmax", "mean_logits", "vote"])
def test_metrics_are_the_same_to_the_last_digit_for_any_order_of_rows(join):
    views = random_views(seed=3)
    wanted = json.dumps(evaluate(views, [f"c{k}" for k in range(7)], join, failed_truth=[2, -1], temperature=1.3))
    rng = np.random.default_rng(1)
    for _ in range(5):
        order = rng.permutation(len(views.crops))
        columns = [getattr(views, name)[order] for name in ("video_ids", "clip_indices", "crops", "truth", "logits")]
        mixed = Views(*columns)
        metrics = evaluate(mixed, [f"c{k}" for k in range(7)], join, failed_truth=[-1, 2], temperature=1.3)
        assert json.dumps(metrics) == wanted
        assert fit_temperature(mixed, join) == fit_temperature(views, join)


def test_videos_are_the_same_in_small_blocks(monkeypatch):
    views = random_views()
    whole = join_views(views, "mean_softmax")[1]
    monkeypatch.setattr("vidpipe.metrics.views.BLOCK_VIEWS", 7)
    assert np.array_equal(join_views(views, "mean_softmax")[1], whole)
    monkeypatch.setattr("vidpipe.metrics.views.BLOCK_VIEWS", 1)
    assert np.array_equal(join_views(views, "mean_softmax")[1], whole)


@pytest.mark.parametrize("failed", [[], [0, 0, 4, 6]])
def test_numbers_by_class_are_scikit_learns_with_failed_videos_as_a_class_nobody_asks_for(failed):
    views = random_views(num_videos=90, crops=1)
    _, probabilities = join_views(views, "mean_softmax")
    truth = views.truth[views.starts]
    metrics = evaluate(views, [f"c{k}" for k in range(7)], "mean_softmax", failed_truth=failed)
    all_truth, named = np.append(truth, failed), np.append(probabilities.argmax(1), [7] * len(failed))
    precision, recall, f1, support = precision_recall_fscore_support(all_truth, named, labels=range(7))
    rows = list(metrics["per_class"].values())
    np.testing.assert_allclose([row["precision"] for row in rows], precision)
    np.testing.assert_allclose([row["recall"] for row in rows], recall)
    np.testing.assert_allclose([row["f1"] for row in rows], f1)
    assert [row["support"] for row in rows] == support.tolist()
    assert [row["num_failed"] for row in rows] == [failed.count(k) for k in range(7)]
    np.testing.assert_allclose(metrics["mean_class_accuracy"], recall.mean())
    np.testing.assert_allclose(metrics["macro_f1"], f1.mean())
    for k in (1, 5):
        right = top_k_accuracy_score(truth, probabilities, k=k, normalize=False, labels=range(7))
        np.testing.assert_allclose(metrics[f"top{k}"], right / len(all_truth))
    np.testing.assert_allclose(metrics["nll"], log_loss(truth, probabilities, labels=range(7)))
    assert np.sum(metrics["confusion"]) == 90


def test_failed_videos_count_as_wrong_and_the_report_says_how_many():
    views = single_views([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [0, 0, 1])
    metrics = evaluate(views, LABELS, "mean_softmax", failed_truth=[1, 2, -1])
    assert (metrics["num_videos"], metrics["num_failed"]) == (6, 3)
    assert metrics["top1"] == metrics["top5"] == metrics["clip_top1"] == metrics["clip_top5"] == 0.5
    assert metrics["top1_ci"] == list(wilson_interval(3, 6))
    assert [row["recall"] for row in metrics["per_class"].values()] == [1.0, 0.5, 0.0]
    assert metrics["mean_class_accuracy"] == 0.5
    assert metrics["confusion"] == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_when_all_videos_failed_there_are_numbers_all_the_same():
    metrics = evaluate(views_of([]), LABELS, "mean_softmax", failed_truth=[0, 1])
    assert metrics["top1"] == metrics["clip_top1"] == metrics["mean_class_accuracy"] == 0.0
    assert metrics["nll"] is None
    assert metrics["ece"] is None
    assert "NaN" not in json.dumps(metrics)


def test_a_class_without_videos_is_zero_and_no_part_of_the_means():
    metrics = evaluate(single_views([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7]], [0, 0]), LABELS, "mean_softmax")
    rows = metrics["per_class"]
    assert rows["run"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0, "num_failed": 0}
    assert rows["jump"]["support"] == 0
    assert metrics["mean_class_accuracy"] == 0.5
    np.testing.assert_allclose(metrics["macro_f1"], 2 / 3)
    assert "NaN" not in json.dumps(metrics)


def test_equal_scores_rank_in_the_order_of_the_labels():
    rows = [(f"v{truth}", 0, 0, truth, np.zeros(7)) for truth in range(7)]
    metrics = evaluate(views_of(rows), [f"c{k}" for k in range(7)], "mean_logits")
    assert (metrics["top1"], metrics["top5"]) == (1 / 7, 5 / 7)
    assert np.array(metrics["confusion"])[:, 0].tolist() == [1] * 7


def test_clip_accuracy_is_a_videos_share_of_right_clips_with_crops_joined():
    right, wrong, very_right = [0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.9, 0.05, 0.05]
    views = views_of(
        [
            *(("a", clip, crop, 0, np.log(p)) for clip, crop, p in [(0, 0, right), (0, 1, right)]),
            *(("b", clip, crop, 0, np.log(p)) for clip, crop, p in [(0, 0, very_right), (0, 1, wrong)]),
            *(("b", clip, crop, 0, np.log(p)) for clip, crop, p in [(1, 0, wrong), (1, 1, wrong)]),
            *(("b", clip, crop, 0, np.log(p)) for clip, crop, p in [(2, 0, wrong), (2, 1, wrong)]),
        ]
    )
    metrics = evaluate(views, LABELS, "mean_softmax", failed_truth=[1])
    np.testing.assert_allclose(metrics["clip_top1"], (1 + 1 / 3 + 0) / 3)
    np.testing.assert_allclose(metrics["clip_top5"], 2 / 3)
    assert metrics["top1"] == 2 / 3
    assert metrics["protocol"]["text"] == "1 to 3 clips x 2 crops, mean softmax"
    assert (metrics["protocol"]["least_clips"], metrics["protocol"]["num_clips"]) == (1, 3)


@pytest.mark.parametrize(
    ("num_clips", "crops", "join", "text"),
    [
        (1, 1, "mean_softmax", "1 clip x 1 crop, mean softmax"),
        (10, 3, "mean_logits", "10 clips x 3 crops, mean logits"),
        (1, 5, "vote", "1 clip x 5 crops, vote"),
    ],
)
def test_the_protocol_is_counted_not_told(num_clips, crops, join, text):
    metrics = evaluate(random_views(5, num_clips, crops), [f"c{k}" for k in range(7)], join)
    assert metrics["protocol"] == {
        "num_clips": num_clips,
        "least_clips": num_clips,
        "crops": crops,
        "join": join,
        "text": text,
    }


def test_the_calibration_error_of_a_table_made_by_hand():
    # Bins are thirds of a fifth: scores 0.5 and 0.51 in (7/15, 8/15], 0.9 in (13/15, 14/15], 1/3 in (4/15, 5/15].
    views = single_views(
        [[0.5, 0.3, 0.2], [0.3, 0.51, 0.19], [0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]],
        [0, 0, 0, 1],
    )
    metrics = evaluate(views, LABELS, "mean_softmax")
    expected = (2 * abs(0.505 - 0.5) + abs(0.9 - 1) + abs(1 / 3 - 0)) / 4
    np.testing.assert_allclose(metrics["ece"], expected)
    bins = metrics["reliability"]
    assert len(bins) == 15
    assert [each["num_videos"] for each in bins] == [0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0]
    assert (bins[7]["lower"], bins[7]["upper"], bins[7]["top1"]) == (7 / 15, 8 / 15, 0.5)
    assert bins[0]["mean_score"] is bins[0]["top1"] is None


def test_the_wilson_interval_is_the_textbooks():
    np.testing.assert_allclose(wilson_interval(8, 10), (0.4901625, 0.9433178), atol=1e-6)
    np.testing.assert_allclose(wilson_interval(0, 10), (0, 0.2775328), atol=1e-6)
    np.testing.assert_allclose(wilson_interval(10, 10), (0.7224672, 1), atol=1e-6)


@pytest.mark.parametrize("join", ["mean_softmax", "mean_logits", "vote"])
def test_the_temperature_is_the_one_that_scipy_finds_on_the_joined_logits(join):
    views = random_views(seed=5)
    _, probabilities = join_views(views, join)
    truth = views.truth[views.starts]

    def loss(log_temperature):
        scaled = probabilities ** (1 / np.exp(log_temperature))
        return log_loss(truth, scaled / scaled.sum(1, keepdims=True), labels=range(7))

    found = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    temperature = fit_temperature(views, join)
    np.testing.assert_allclose(temperature, np.exp(found.x), rtol=1e-5)
    metrics = evaluate(views, [f"c{k}" for k in range(7)], join, temperature=temperature)
    np.testing.assert_allclose(metrics["nll"], found.fun, rtol=1e-9)
    plain = evaluate(views, [f"c{k}" for k in range(7)], join)
    assert metrics["nll"] < plain["nll"]
    assert metrics["top1"] == plain["top1"]


def test_logits_that_are_ten_times_too_sure_get_ten_times_the_temperature():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 3)) * 2
    truth = [rng.choice(3, p=p) for p in softmax(logits)]
    rows = [(f"v{i}", 0, 0, t, z) for i, (z, t) in enumerate(zip(logits, truth, strict=True))]
    honest = fit_temperature(views_of(rows), "mean_softmax")
    boasting = fit_temperature(views_of([(*row[:4], 10 * row[4]) for row in rows]), "mean_softmax")
    np.testing.assert_allclose(boasting, 10 * honest, rtol=1e-9)
    assert 0.8 < honest < 1.25


def test_videos_that_are_all_right_tell_no_temperature():
    assert fit_temperature(single_views([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]], [0, 1]), "mean_softmax") == 1.0
    with pytest.raises(ValueError, match=r"got none.*take a split"):
        fit_temperature(views_of([]), "mean_softmax")


GOOD = [("a", 0, 0, 0, [1.0, 0.0, 0.0]), ("a", 0, 1, 0, [0.0, 1.0, 0.0]), ("b", 0, 0, 1, [1.0, 0, 0])]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([GOOD[0], GOOD[0]], ["once", "clip 0 crop 0 of video a", "twice", "pad"]),
        (GOOD, ["same crops", "1 to 2", "evaluate every crop"]),
        ([("a", 0, 1, 0, [1.0, 0, 0])], ["same crops", "[1]"]),
        ([GOOD[0], ("a", 1, 0, 2, [1.0, 0, 0])], ["one label", "a has several"]),
        ([("a", 0, 0, 3, [1.0, 0, 0])], ["3 labels", "got 3"]),
        ([("a", 0, 0, -1, [1.0, 0, 0])], ["3 labels", "got -1"]),
        ([GOOD[2], ("x", 0, 0, 0, [float("nan"), 0, 0])], ["finite", "1 of 2", "video x", "learning rate"]),
    ],
)
def test_rows_that_are_not_each_view_once_are_refused(rows, words):
    with pytest.raises(ValueError, match=r".") as caught:
        views_of(rows)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("rows", "labels", "failed", "words"),
    [
        (GOOD[:2], ["walk", "run"], [], ["3 classes", "2 labels"]),
        ([], LABELS, [], ["no videos", "not empty"]),
        (GOOD[:2], LABELS, [3], ["failed_truth", "3 labels", "-1", "3 to 3"]),
    ],
)
def test_what_cannot_be_evaluated_says_why(rows, labels, failed, words):
    with pytest.raises(ValueError, match=r".") as caught:
        evaluate(views_of(rows), labels, "mean_softmax", failed_truth=failed)
    assert all(word in str(caught.value) for word in words)


def test_videos_of_a_group_make_the_interval_of_top_1_as_wide_as_that_of_their_number_of_groups():
    """20 groups of 4 videos that are right or wrong together, a failed video among them."""
    right = np.repeat(np.arange(20) < 15, 4)
    probabilities = np.where(right[:-1, None], [[0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1]])
    views, groups = single_views(probabilities, np.zeros(79, int)), np.arange(80) // 4
    metrics = evaluate(views, LABELS, "mean_softmax", failed_truth=[0], groups=groups)
    assert metrics["top1"] == 60 / 80
    assert metrics["top1_ci"] == list(share_interval(right, groups))
    low, high = wilson_interval(15, 20)
    assert metrics["top1_ci"] == pytest.approx([low, high], abs=0.03)
    assert evaluate(views, LABELS, "mean_softmax", failed_truth=[0])["top1_ci"] == list(wilson_interval(60, 80))
