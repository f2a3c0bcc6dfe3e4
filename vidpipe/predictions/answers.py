"""From the logits of a video's views to its rows: the prediction, its segments, its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.metrics import Views, join_views, views_of
from vidpipe.metrics.views import joined, log_softmax
from vidpipe.predictions.assembly import ViewedVideo
from vidpipe.predictions.question import Question
from vidpipe.predictions.schema import PREDICTION_COLUMNS, SEGMENT_COLUMNS, feature_columns
from vidpipe.predictions.segments import segments_of
from vidpipe.sampling import clip_weights
from vidpipe.video_facts import VIDEO_FACT_NAMES

RECEIPT_COLUMNS = ("status", "error_code", "error", *VIDEO_FACT_NAMES, "decode_s", "bytes_read", "num_requests")


@dataclass(frozen=True)
class Answers:
    """Rows of some videos, ready to be written; `segments` and `features` only where they were asked for."""

    rows: list[dict[str, Any]]
    segments: pa.Table | None
    features: pa.Table | None


def answers_of(videos: Sequence[ViewedVideo], listed: pa.Table, question: Question) -> Answers:
    """One row for each video, failed ones too; `listed` are manifest rows, these videos among them."""
    viewed = [video for video in videos if len(video.logits)]
    scores: dict[str, np.ndarray] = {}
    clips = None
    if viewed:
        weights = [clip_weights(video.starts_s, video.ends_s, question.facts.clip_spec) for video in viewed]
        views = views_of([video.video_id for video in viewed], [video.logits for video in viewed], weights)
        clips = clip_scores(views, question)
        scores = dict(zip(views.video_ids[views.starts].tolist(), video_scores(views, clips, question), strict=True))
    known = _listed_columns(videos, listed)
    now = datetime.now(timezone.utc)
    rows = [
        _row(video, known[number], scores.get(video.video_id), question, now) for number, video in enumerate(videos)
    ]
    return Answers(
        rows,
        _segments(viewed, clips, question) if question.with_segments and viewed else None,
        _features(viewed, rows) if question.with_features and viewed else None,
    )


def video_scores(views: Views, clips: np.ndarray, question: Question) -> np.ndarray:
    """(V, K) probabilities of the videos, in the order of their sorted ids; `clips` are those of `clip_scores`."""
    if question.join != "max":
        return join_views(views, question.join, question.temperature)[1]
    largest = np.maximum.reduceat(clips, np.searchsorted(views.clip_starts, views.starts))
    return largest / largest.sum(axis=1, keepdims=True)


def clip_scores(views: Views, question: Question) -> np.ndarray:
    """(C, K) probabilities of each clip, its crops joined as the checkpoint says."""
    return np.exp(log_softmax(joined(views, views.clip_starts, question.facts.views.join) / question.temperature))


def _listed_columns(videos: Sequence[ViewedVideo], listed: pa.Table) -> list[dict[str, str]]:
    ids = pa.array([video.video_id for video in videos], pa.string())
    # The few are hashed, not the many: `listed` may have millions of rows, and this is asked every few seconds.
    theirs = listed.select(["video_id", "url", "version"]).filter(pc.is_in(listed["video_id"], value_set=ids))
    place = pc.index_in(ids, value_set=theirs["video_id"])
    return theirs.select(["url", "version"]).take(place).to_pylist()


def _row(
    video: ViewedVideo, listed: dict[str, str], scores: np.ndarray | None, question: Question, now: datetime
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(PREDICTION_COLUMNS)
    row |= {name: video.receipt.get(name) for name in RECEIPT_COLUMNS}
    row |= {"video_id": video.video_id, **listed, "is_deleted": False, "predicted_at": now}
    row |= {"checkpoint_id": question.facts.checkpoint_id, "settings_key": question.facts.settings_key}
    if scores is None:
        return row
    ranked = question.decision.ranked(scores)
    top = ranked[: question.top]
    best = float(scores[ranked[0]])
    row |= {"label": question.decision.label(int(ranked[0]), best), "score": best}
    row |= {"top_labels": [question.facts.labels[index] for index in top], "top_scores": scores[top].tolist()}
    if question.all_scores:
        row["scores"] = scores.tolist()
    return row


def _segments(videos: Sequence[ViewedVideo], clips: np.ndarray | None, question: Question) -> pa.Table:
    """`clips` are the scores of all clips of the videos, sorted by video."""
    assert clips is not None
    rows, first = [], 0
    for video in sorted(videos, key=lambda video: video.video_id):
        stop = first + len(video.logits)
        found = segments_of(
            video.starts_s,
            video.ends_s,
            video.receipt["duration_s"],
            clips[first:stop],
            question.decision,
            question.facts.clip_spec,
        )
        rows += [(video.video_id, one.start_s, one.end_s, one.label, one.score) for one in found]
        first = stop
    columns = zip(*rows, strict=True)
    return pa.table(dict(zip(SEGMENT_COLUMNS, map(list, columns), strict=True)), schema=pa.schema(SEGMENT_COLUMNS))


def _features(videos: Sequence[ViewedVideo], rows: list[dict[str, Any]]) -> pa.Table:
    of_id = {row["video_id"]: row for row in rows}
    num_clips = [len(video.logits) for video in videos]
    values = np.concatenate([video.features for video in videos if video.features is not None])
    columns: dict[str, Any] = {
        name: np.repeat(np.array([of_id[video.video_id][name] for video in videos], object), num_clips)
        for name in ("video_id", "url", "version")
    }
    columns["clip_index"] = np.concatenate([np.arange(number, dtype=np.int32) for number in num_clips])
    columns["start_s"] = np.concatenate([video.starts_s for video in videos])
    columns["end_s"] = np.concatenate([video.ends_s for video in videos])
    columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return pa.table(columns, schema=pa.schema(feature_columns(values.shape[1])))
