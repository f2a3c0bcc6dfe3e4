"""What report.json says: plain numbers, lists and sentences, from predictions joined to the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.answers import OUTCOMES, JoinedVideos
from vidpipe.errors import UsageError
from vidpipe.metrics.answers import Answers
from vidpipe.metrics.by_class import UNKNOWN
from vidpipe.metrics.drift import failure_drift, label_drift, score_drift
from vidpipe.metrics.intervals import paired_difference, wilson_interval
from vidpipe.metrics.thresholds import precision_thresholds

MAX_PAIRS = 20
MAX_EXAMPLES = 5
WRONG = OUTCOMES.index("wrong")


def entries(videos: JoinedVideos, rows: np.ndarray, other: JoinedVideos | None = None) -> list[dict[str, Any]]:
    """Some videos one by one; `other` are the same videos in the same order, by another checkpoint."""
    answers, outcomes = videos.answers, videos.outcomes
    table = videos.table.select(["video_id", "url", "version", "error_code"]).take(pa.array(rows)).to_pylist()
    found = []
    for row, video in zip(rows.tolist(), table, strict=True):
        truth, best = int(answers.truth[row]), int(answers.best[row])
        entry = {
            **video,
            "truth": _label(answers, truth),
            "label": _label(answers, best),
            "score": None if np.isnan(answers.score[row]) else float(answers.score[row]),
            "outcome": OUTCOMES[outcomes[row]],
            "truth_index": truth,
            "label_index": best,
        }
        if other is not None:
            entry["before"] = _label(other.answers, int(other.answers.best[row]))
        found.append(entry)
    return found


def _label(answers: Answers, index: int) -> str | None:
    return None if index == UNKNOWN else answers.labels[index]


def worth_looking_at(videos: JoinedVideos, num: int) -> dict[str, list[dict[str, Any]]]:
    """The most confident mistakes and the least confident answers; where no truth is known, the surest of each label
    instead of the first."""
    answers, outcomes = videos.answers, videos.outcomes
    answered = np.flatnonzero(answers.answered)
    by_score = answered[np.argsort(answers.score[answered], kind="stable")]
    lists = {"least_confident": by_score[:num]}
    if (answers.truth != UNKNOWN).any():
        wrong = by_score[outcomes[by_score] == WRONG]
        lists["mistakes"] = wrong[::-1][:num]
    else:
        surest = by_score[::-1]
        _, first = np.unique(answers.best[surest], return_index=True)
        lists["surest"] = surest[np.sort(first)][:num]
    return {name: entries(videos, rows) for name, rows in lists.items()}


def confused_pairs(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Which classes are taken for which others, the most frequent first."""
    labels, counts = metrics["labels"], np.array(metrics["confusion"])
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [(int(place) // len(labels), int(place) % len(labels)) for place in order]
    return [
        {
            "truth": labels[truth],
            "truth_index": truth,
            "label": labels[label],
            "num_videos": int(counts[truth, label]),
            "support": metrics["per_class"][labels[truth]]["support"],
        }
        for truth, label in pairs
        if counts[truth, label]
    ]


def thresholds(answers: Answers, precision: float, confidence: float, min_videos: int) -> dict[str, Any]:
    return {
        "precision": precision,
        "confidence": confidence,
        "min_videos": min_videos,
        "rule": (
            f"From a label's threshold on its answers are right in {100 * precision:g} % of new videos like these or "
            f"more, with {100 * confidence:g} % confidence, on the evidence of at least {min_videos} videos. A label "
            "whose answers cannot show that has none."
        ),
        "labels": precision_thresholds(answers, precision, confidence, min_videos),
    }


def counts(videos: JoinedVideos) -> dict[str, Any]:
    """What became of the videos, truth or not."""
    answers = videos.answers
    given = answers.given[answers.given != UNKNOWN]
    mix = np.bincount(given, minlength=len(answers.labels))
    seen = ~answers.missing
    scores = answers.score[answers.answered]
    num_failed = int(answers.failed.sum())
    return {
        "num_videos": len(videos),
        "num_labelled": len(given),
        "num_unknown": int((answers.answered & (answers.given == UNKNOWN)).sum()),
        "num_failed": num_failed,
        "num_missing": int(answers.missing.sum()),
        "failure_rate": float(num_failed / seen.sum()) if seen.any() else None,
        "failure_rate_ci": list(wilson_interval(num_failed, int(seen.sum()))) if seen.any() else None,
        "score_median": float(np.median(scores)) if len(scores) else None,
        "label_mix": [
            {"label": answers.labels[index], "num_videos": int(mix[index]), "share": float(mix[index] / len(given))}
            for index in np.argsort(-mix, kind="stable")
            if mix[index]
        ],
    }


def failures(table: pa.Table) -> list[dict[str, Any]]:
    """Failed videos by code, with examples."""
    failed = table.filter(pc.fill_null(pc.equal(table["status"], "failed"), False)).sort_by("url")
    codes = sorted(
        pc.value_counts(failed["error_code"]).to_pylist(), key=lambda each: (-each["counts"], str(each["values"]))
    )
    found = []
    for each in codes:
        mine = failed.filter(pc.fill_null(pc.equal(failed["error_code"], each["values"]), each["values"] is None))
        examples = mine.select(["url", "error"]).slice(0, MAX_EXAMPLES).to_pylist()
        found.append({"code": each["values"] or "none", "num_videos": each["counts"], "examples": examples})
    return found


def comparison(now: JoinedVideos, before: JoinedVideos, num: int) -> dict[str, Any]:
    """Two checkpoints on the same videos, those that both have a row for; a failed video is not right."""
    both = ~(now.answers.missing | before.answers.missing)
    num_left_out = int((~both).sum())
    if not both.any():
        raise UsageError("the two predictions have no labelled video in common; predict the same videos with both")
    now, before = now.take(both), before.take(both)
    right, was_right = now.answers.right, before.answers.right
    lists = {}
    for name, mask, score in (
        ("better", right & ~was_right, now.answers.score),
        ("worse", ~right & was_right, before.answers.score),
    ):
        rows = np.flatnonzero(mask)
        lists[name] = entries(now, rows[np.argsort(-np.nan_to_num(score[rows]), kind="stable")][:num], before)
    return {
        "num_videos": len(now),
        "num_left_out": num_left_out,
        "top1": float(right.mean()),
        "top1_before": float(was_right.mean()),
        **paired_difference(right, was_right, now.answers.groups),
        **lists,
    }


def drift(now: pa.Table, before: pa.Table) -> dict[str, Any]:
    """Two tables of predictions; rows of the earlier one that stand in the later one as they were are not new."""
    old = pc.is_in(_row_keys(now), value_set=_row_keys(before).combine_chunks())
    fresh = now.filter(pc.invert(old))
    if not len(fresh):
        raise UsageError("every prediction is in --drift-from already: nothing is new; give those of an earlier night")
    return {
        "num_now": len(fresh),
        "num_before": len(before),
        "num_left_out": len(now) - len(fresh),
        "labels": label_drift(*(table["label"].drop_null().to_pylist() for table in (fresh, before))),
        "scores": score_drift(*(table["score"].drop_null().to_numpy() for table in (fresh, before))),
        "failures": failure_drift(
            *(
                pc.if_else(pc.equal(t["status"], "failed"), pc.fill_null(t["error_code"], "none"), None).to_pylist()
                for t in (fresh, before)
            )
        ),
    }


def _row_keys(table: pa.Table) -> pa.ChunkedArray:
    """Who was asked of which video, and when."""
    at = table["predicted_at"].cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(table["video_id"], table["checkpoint_id"], at, " ")
