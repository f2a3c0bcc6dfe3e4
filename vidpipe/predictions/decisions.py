"""From the scores of all labels to an answer: which labels may be given, and from which score on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.predictions.schema import UNKNOWN
from vidpipe.storage import storage_errors
from vidpipe.transfer import read_buffer

NEVER = float("inf")


@dataclass(frozen=True, eq=False)
class Decision:
    """How a label is chosen. Scores stay those of the checkpoint: leaving labels out makes the others no likelier."""

    labels: tuple[str, ...]
    is_allowed: np.ndarray
    """(K,) whether a label may be given."""
    thresholds: np.ndarray
    """(K,) the score that a label needs; `NEVER` where none is enough."""

    def ranked(self, scores: np.ndarray) -> np.ndarray:
        """(..., A) indices of the allowed labels, the most likely first; of equals the one that is listed first."""
        order = np.argsort(-np.where(self.is_allowed, scores, -1.0), axis=-1, kind="stable")
        return order[..., : int(self.is_allowed.sum())]

    def label(self, index: int, score: float) -> str:
        """The label's name, or `UNKNOWN`."""
        return self.labels[index] if score >= self.thresholds[index] else UNKNOWN


def make_decision(
    labels: Sequence[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threshold: float = 0.0,
    thresholds: Mapping[str, float | None] | None = None,
) -> Decision:
    """Raises UsageError for labels that the checkpoint does not have."""
    names = {"include_labels": include, "exclude_labels": exclude, "thresholds": thresholds or {}}
    for name, given in names.items():
        strangers = sorted({*given} - {*labels})
        if strangers:
            raise UsageError(
                f"{name} names {strangers[0]!r}, which the checkpoint does not know; its {len(labels)} labels are "
                f"{', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}"
            )
    is_allowed = np.array([(not include or label in include) and label not in exclude for label in labels])
    if not is_allowed.any():
        raise UsageError(f"exclude_labels leaves none of the {len(labels)} labels; exclude fewer")
    wanted = [(thresholds or {}).get(label, threshold) for label in labels]
    return Decision(tuple(labels), is_allowed, np.array([NEVER if value is None else value for value in wanted]))


def read_thresholds(url: str, checkpoint_id: str) -> dict[str, float | None]:
    """The thresholds of jobs/evaluate.py: label to score, None where no score reaches the precision."""
    with storage_errors(url):
        text = read_buffer(url).to_pybytes()
    way_out = "make one with jobs/evaluate.py"
    with given_file(url, way_out, "is not a thresholds.json"):
        content = json.loads(text)
    thresholds = content.get("thresholds") if isinstance(content, dict) else None
    if not isinstance(thresholds, dict) or "checkpoint_id" not in content:
        raise UsageError(f"{url} is not a thresholds.json (it lacks checkpoint_id or thresholds); {way_out}")
    known: dict[str, float | None] = {}
    for label, score in thresholds.items():
        if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
            raise UsageError(f"{url} is not a thresholds.json (threshold of {label!r} is {score!r}); {way_out}")
        known[label] = None if score is None else float(score)
    of_checkpoint = content["checkpoint_id"]
    if of_checkpoint != checkpoint_id:
        raise UsageError(
            f"{url} holds thresholds of checkpoint {of_checkpoint}, and this one is {checkpoint_id}: other scores mean "
            "other precisions; evaluate this checkpoint's predictions with jobs/evaluate.py"
        )
    return known
