"""From what a model said of every view to numbers that say how they came about.

    views = Views(video_ids, clip_indices, crops, truth, logits)     # the rows of all ranks, in any order
    temperature = fit_temperature(views, "mean_softmax")             # on validation
    metrics = evaluate(views, labels, "mean_softmax", failed_truth=[3, -1], temperature=temperature)

A video that failed has no prediction and counts as wrong: in top-1, top-5, recall, F1 and mean class accuracy.
Plain numpy in float64, not torchmetrics: that knows no failed videos, works in float32, and leaves ties to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidpipe.errors import UsageError
from vidpipe.metrics.by_class import UNKNOWN, by_class
from vidpipe.metrics.calibration import calibration_error, fit_temperature, reliability
from vidpipe.metrics.intervals import share_interval, wilson_interval
from vidpipe.metrics.views import Views, join_logits, join_views, joined, log_softmax, views_of
from vidpipe.transform_spec import Join

__all__ = ["Views", "evaluate", "fit_temperature", "join_views", "views_of", "wilson_interval"]


def evaluate(
    views: Views,
    labels: Sequence[str],
    join: Join,
    *,
    failed_truth: Sequence[int] = (),
    temperature: float = 1.0,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """All metrics of a split, ready for JSON: no NaN, and None only where there is nothing to measure.

    `failed_truth` has one entry a failed video: the index of its label, or -1 where that is not known, which counts
    everywhere but in the numbers by class. `top1_ci` is the 95 % interval of top-1, see `share_interval`; `groups`
    (V + F,) are its whole numbers, equal for videos that belong together: of the videos in the order of their ids, then
    of the failed ones. Clip accuracy, `clip_top1` and `clip_top5`, is the mean over videos of the share of their clips
    (crops joined) that are right; failed videos count as 0. `nll`, `ece` and `reliability` are of the videos that have
    a prediction, after the temperature. In `confusion` rows are the truth, columns the predictions.

    Raises UsageError when there are no videos at all, or when the labels are not those of the model.
    """
    failed = np.asarray(failed_truth, dtype=int)
    _check(views, labels, failed)
    logits, truth = join_logits(views, join), views.truth[views.starts]
    ranks = _ranks(logits, truth)
    num_videos = len(truth) + len(failed)
    right = int((ranks == 0).sum())
    logs = log_softmax(logits / temperature)
    bins = reliability(np.exp(logs.max(axis=1)), ranks == 0)
    return {
        "num_videos": num_videos,
        "num_failed": len(failed),
        "top1": right / num_videos,
        "top5": int((ranks < 5).sum()) / num_videos,
        "top1_ci": list(share_interval(np.append(ranks == 0, np.zeros(len(failed), bool)), groups)),
        **_clip_accuracy(views, join, num_videos),
        **by_class(logits.argmax(axis=1), truth, failed, labels),
        "nll": float(-logs[np.arange(len(truth)), truth].mean()) if len(truth) else None,
        "ece": calibration_error(bins),
        "reliability": bins,
        "temperature": float(temperature),
        "protocol": _protocol(views, join),
    }


def _check(views: Views, labels: Sequence[str], failed: np.ndarray) -> None:
    if views.logits.shape[1] != len(labels):
        raise UsageError(f"logits have {views.logits.shape[1]} classes, but there are {len(labels)} labels")
    if not len(views.truth) and not len(failed):
        raise UsageError("there are no videos to evaluate; take a split that is not empty")
    if len(failed) and not (failed.min() >= UNKNOWN and failed.max() < len(labels)):
        raise UsageError(
            f"failed_truth must be indices of the {len(labels)} labels, or -1 where the label is not known, "
            f"got {failed.min()} to {failed.max()}"
        )


def _ranks(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many classes come before the true one (V,): those with a higher score, and of equals those listed first."""
    true_logits = logits[np.arange(len(truth)), truth][:, None]
    is_before = np.arange(logits.shape[1]) < truth[:, None]
    return ((logits > true_logits) | ((logits == true_logits) & is_before)).sum(axis=1)


def _clip_accuracy(views: Views, join: Join, num_videos: int) -> dict[str, float]:
    clip_starts = views.clip_starts
    ranks = _ranks(joined(views, clip_starts, join), views.truth[clip_starts])
    first_clips = np.searchsorted(clip_starts, views.starts)
    num_clips = np.diff(np.append(first_clips, len(clip_starts)))
    return {
        f"clip_top{k}": float((np.add.reduceat((ranks < k).astype(float), first_clips) / num_clips).sum() / num_videos)
        if len(ranks)
        else 0.0
        for k in (1, 5)
    }


def _protocol(views: Views, join: Join) -> dict[str, Any]:
    """How many views each video had, as counted, and how they were joined."""
    crops = int(views.crops.max()) + 1 if len(views.crops) else 0
    clips = views.num_views // max(crops, 1)
    least, most = (int(clips.min()), int(clips.max())) if len(clips) else (0, 0)
    num = f"{most}" if least == most else f"{least} to {most}"
    text = f"{num} clip{'s' * (most != 1)} x {crops} crop{'s' * (crops != 1)}, {join.replace('_', ' ')}"
    return {"num_clips": most, "least_clips": least, "crops": crops, "join": join, "text": text}
