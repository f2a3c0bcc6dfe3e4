"""Numbers by class: precision, recall, F1, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

UNKNOWN = -1
"""The truth of a failed video whose label is not known; the answer to a video that was left without a label."""


def by_class(predicted: np.ndarray, truth: np.ndarray, failed: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Of videos with an answer (`predicted` and `truth`, (V,)) and the truth of failed ones.

    A class without videos has 0 everywhere, as scikit-learn has it, and no part in the means over classes. A video
    that was answered with `UNKNOWN` is in no column of the confusion matrix, and counts as not right.
    """
    named = predicted != UNKNOWN
    confusion = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(confusion, (truth[named], predicted[named]), 1)
    num_failed = np.bincount(failed[failed != UNKNOWN], minlength=len(labels))
    num_unknown = np.bincount(truth[~named], minlength=len(labels))
    support = confusion.sum(axis=1) + num_unknown + num_failed
    num_predicted, right = confusion.sum(axis=0), confusion.diagonal()
    recall = right / np.maximum(support, 1)
    precision = right / np.maximum(num_predicted, 1)
    f1 = 2 * right / np.maximum(support + num_predicted, 1)
    has_videos = support > 0
    return {
        "mean_class_accuracy": float(recall[has_videos].mean()) if has_videos.any() else 0.0,
        "macro_f1": float(f1[has_videos].mean()) if has_videos.any() else 0.0,
        "labels": list(labels),
        "per_class": {
            label: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
                "num_failed": int(num_failed[index]),
            }
            for index, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }
