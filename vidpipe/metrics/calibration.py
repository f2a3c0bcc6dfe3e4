"""Are scores what they say? The reliability of top-1 scores, and the temperature that makes them honest."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidpipe.errors import UsageError
from vidpipe.metrics.views import Views, join_logits, log_softmax
from vidpipe.transform_spec import Join

NUM_BINS = 15
MAX_TEMPERATURE = 100.0


def reliability(scores: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """The reliability diagram of top-1 scores (V,): for each of 15 equal bins of the score, (lower, upper], how many
    videos, their mean score and the share that is right; None for both where there are none."""
    bins = np.clip(np.ceil(scores * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    num = np.bincount(bins, minlength=NUM_BINS)
    sums = np.bincount(bins, weights=scores, minlength=NUM_BINS), np.bincount(bins, weights=right, minlength=NUM_BINS)
    return [
        {
            "lower": index / NUM_BINS,
            "upper": (index + 1) / NUM_BINS,
            "num_videos": int(num[index]),
            "mean_score": float(sums[0][index] / num[index]) if num[index] else None,
            "top1": float(sums[1][index] / num[index]) if num[index] else None,
        }
        for index in range(NUM_BINS)
    ]


def calibration_error(bins: list[dict[str, Any]]) -> float | None:
    """Expected calibration error (Guo et al. 2017): the mean over videos of |score - share right| in their bin."""
    full = [each for each in bins if each["num_videos"]]
    num_videos = sum(each["num_videos"] for each in full)
    if not num_videos:
        return None
    return float(sum(each["num_videos"] * abs(each["mean_score"] - each["top1"]) for each in full) / num_videos)


def fit_temperature(views: Views, join: Join) -> float:
    """The temperature that makes the true labels of validation videos likeliest (Guo et al. 2017), from 0.01 to 100.

    It is fitted on the joined logits of whole videos, `join_logits`, and has to be used on the same: with other views
    or another join it would be another one. Where every video is right no temperature is the best, the lower the
    better: then 1.0, since such videos don't tell how often the model errs.

    Raises UsageError when there are no videos.
    """
    logits, truth = join_logits(views, join), views.truth[views.starts]
    if not len(truth):
        raise UsageError("the temperature is fitted on videos, got none; take a split in which videos did not fail")
    true_logits = logits[np.arange(len(truth)), truth]
    if (true_logits == logits.max(axis=1)).all():
        return 1.0

    def slope(inverse: float) -> float:
        """Of the negative log-likelihood over 1 / temperature, in which it is convex: the slope only ever grows."""
        return float((np.exp(log_softmax(logits * inverse)) * logits).sum(axis=1).mean() - true_logits.mean())

    low, high = 1 / MAX_TEMPERATURE, MAX_TEMPERATURE
    while (middle := (low * high) ** 0.5) not in (low, high) and high / low > 1 + 1e-12:
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / middle
