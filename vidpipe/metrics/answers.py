"""Numbers of answers that were given earlier: a label and a score a video, as a table of predictions has them.

`vidpipe.metrics.evaluate` measures a model by all its logits; here there is what was written down, with the same rules:
every video counts once, and one that failed, that has no answer, or that was left `unknown`, is not right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpipe.errors import UsageError
from vidpipe.metrics.by_class import UNKNOWN, by_class
from vidpipe.metrics.calibration import calibration_error, reliability
from vidpipe.metrics.intervals import class_mean_interval, share_interval

NOT_LISTED = np.iinfo(np.int64).max
"""Rank of a true label that is not among those that the answer lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What was said of some videos, and what is true; all arrays (V,), labels as their index."""

    labels: tuple[str, ...]
    truth: np.ndarray
    """`UNKNOWN` where nobody knows."""
    given: np.ndarray
    """The label; `UNKNOWN` below a threshold, and where there is no answer."""
    best: np.ndarray
    """The most likely label, whatever its score; `UNKNOWN` where there is no answer."""
    score: np.ndarray
    """Of `best`; NaN where there is no answer."""
    rank: np.ndarray
    """How many labels are likelier than the true one; `NOT_LISTED` where the answer does not say."""
    num_listed: int
    """Labels that every answer lists."""
    failed: np.ndarray
    """Videos that the run could not read."""
    missing: np.ndarray
    """Videos that the run did not see."""
    groups: np.ndarray | None = None
    """Whole numbers, equal for videos that belong together."""

    @property
    def answered(self) -> np.ndarray:
        return ~(self.failed | self.missing)

    @property
    def right(self) -> np.ndarray:
        return (self.given == self.truth) & (self.given != UNKNOWN)

    @property
    def num_groups(self) -> int | None:
        return None if self.groups is None else len(np.unique(self.groups))


def evaluate_answers(answers: Answers) -> dict[str, Any]:
    """Numbers of videos whose truth is known, ready for JSON, under the names of `evaluate`.

    `coverage` is the share of videos that got a label, `top1_covered` the share of these that is right. top-5 asks for
    five labels a video (or all, of fewer): it is None where answers list fewer. In `per_class`, `num_failed` counts
    videos without an answer, failed or missing. ECE and reliability are of the answered ones, `unknown` or not.

    Raises UsageError when there are no videos.
    """
    num_videos = len(answers.truth)
    if not num_videos:
        raise UsageError("there are no videos with a label to evaluate; take a split that is not empty")
    answered, right, groups = answers.answered, answers.right, answers.groups
    covered = answers.given != UNKNOWN
    bins = reliability(answers.score[answered], (answers.best == answers.truth)[answered])
    in_five = answers.rank < 5 if answers.num_listed >= min(5, len(answers.labels)) else None
    return {
        "num_videos": num_videos,
        "num_failed": int(answers.failed.sum()),
        "num_missing": int(answers.missing.sum()),
        "num_unknown": int((answered & ~covered).sum()),
        "coverage": float(covered.mean()),
        "top1": float(right.mean()),
        "top1_ci": list(share_interval(right, groups)),
        "top1_covered": float(right[covered].mean()) if covered.any() else None,
        "top1_covered_ci": list(share_interval(right[covered], _of(groups, covered))) if covered.any() else None,
        "top5": None if in_five is None else float(in_five.mean()),
        "top5_ci": None if in_five is None else list(share_interval(in_five, groups)),
        "mean_class_accuracy_ci": list(class_mean_interval(right, answers.truth, groups)),
        **by_class(answers.given[answered], answers.truth[answered], answers.truth[~answered], answers.labels),
        "ece": calibration_error(bins),
        "reliability": bins,
        "num_groups": answers.num_groups,
        "interval": _interval_text(answers),
    }


def precision_curve(answers: Answers, max_points: int = 200) -> dict[str, list[float]]:
    """What a threshold on the score would give, all labels together: at each score the precision of the answers at or
    above it, and the share of all videos that they are."""
    answered = answers.answered
    scores, num, num_right = from_the_top(answers.score[answered], (answers.best == answers.truth)[answered])
    shown = np.unique(np.linspace(0, max(len(scores) - 1, 0), max_points).round().astype(int))[: len(scores)]
    return {
        "score": [float(scores[index]) for index in shown],
        "precision": [float(num_right[index] / num[index]) for index in shown],
        "coverage": [float(num[index] / len(answers.truth)) for index in shown],
    }


def from_the_top(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each score once, highest first; how many videos reach it, and how many of them are right."""
    order = np.argsort(-scores, kind="stable")
    scores, num_right = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], [True] * bool(len(scores))))
    return scores[last], last + 1, num_right[last]


def _of(groups: np.ndarray | None, chosen: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[chosen]


def _interval_text(answers: Answers) -> str:
    if answers.groups is None:
        return "95 % intervals: Wilson, videos taken as independent (the manifest has no groups)"
    return (
        f"95 % intervals: Wilson, of the number of independent videos that would vary as much as these in their "
        f"{answers.num_groups} groups"
    )
