"""Clips that come back from the models in any order become videos again: pure bookkeeping.

A video is done when its closing row is there and all clips of the attempt that the row names. Whatever comes of it
later or twice, since Ray ran a task again, changes nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, eq=False)
class ViewedVideo:
    """All that the model said of one video; no logits when it failed."""

    video_id: str
    receipt: dict[str, Any]
    logits: np.ndarray
    """(clips, crops, K) float32."""
    starts_s: np.ndarray
    ends_s: np.ndarray
    features: np.ndarray | None
    """(clips, D) float32."""


_Clip = tuple[float, float, np.ndarray, np.ndarray | None]


@dataclass
class _UnderWay:
    attempts: dict[int, dict[int, _Clip]] = field(default_factory=lambda: defaultdict(dict))
    closings: dict[int, dict[str, Any]] = field(default_factory=dict)


class Assembly:
    """The videos under way; holds their logits and nothing of those that are done but their ids."""

    def __init__(self, num_crops: int, num_labels: int) -> None:
        self._shape = num_crops, num_labels
        self._under_way: dict[str, _UnderWay] = defaultdict(_UnderWay)
        self.done: set[str] = set()

    @property
    def num_under_way(self) -> int:
        return len(self._under_way)

    def forget(self) -> None:
        """Drop the videos under way: they are about to be done again."""
        self._under_way.clear()

    def add(self, rows: pa.Table) -> list[ViewedVideo]:
        """Rows as a model returns them; the videos that they complete."""
        ids, attempts, indices = (rows[name].to_pylist() for name in ("video_id", "attempt", "clip_index"))
        logits, features = _matrix(rows["logits"]), _matrix(rows["features"])
        spans_s = list(zip(rows["start_s"].to_pylist(), rows["end_s"].to_pylist(), strict=True))
        finished, clip = [], 0
        for row, closing in enumerate(rows["closing"].to_pylist()):
            video_id = ids[row]
            if closing is None:
                place, clip = clip, clip + 1
            if video_id in self.done:
                continue
            video = self._under_way[video_id]
            if closing is None:
                assert logits is not None
                kept = None if features is None else features[place].copy()
                video.attempts[attempts[row]][indices[row]] = (*spans_s[row], logits[place].copy(), kept)
            else:
                video.closings[attempts[row]] = json.loads(closing)
            if self._is_complete(video, attempts[row]):
                finished.append(self._finish(video_id, video, attempts[row]))
        return finished

    def failed(self, video_id: str, receipt: dict[str, Any]) -> ViewedVideo:
        """A video that nothing more will come of."""
        self.done.add(video_id)
        empty = np.empty(0)
        return ViewedVideo(video_id, receipt, np.empty((0, *self._shape), np.float32), empty, empty, None)

    def _is_complete(self, video: _UnderWay, attempt: int) -> bool:
        closing = video.closings.get(attempt)
        if closing is None:
            return False
        return closing["status"] == "failed" or len(video.attempts[attempt]) == closing["num_clips"]

    def _finish(self, video_id: str, video: _UnderWay, attempt: int) -> ViewedVideo:
        self.done.add(video_id)
        del self._under_way[video_id]
        receipt = video.closings[attempt]
        if receipt["status"] == "failed":
            return self.failed(video_id, receipt)
        clips = [clip for _, clip in sorted(video.attempts[attempt].items())]
        starts_s, ends_s, logits, features = zip(*clips, strict=True)
        kept = None if features[0] is None else np.stack(features)
        shaped = np.stack(logits).reshape(len(clips), *self._shape)
        return ViewedVideo(video_id, receipt, shaped, np.array(starts_s), np.array(ends_s), kept)


def _matrix(column: pa.ChunkedArray) -> np.ndarray | None:
    """(N, width) of the lists that are there, None when there are none."""
    there = column.drop_null().combine_chunks()
    if isinstance(there, pa.ChunkedArray):
        there = pa.concat_arrays(there.chunks) if there.num_chunks else pa.array([], column.type)
    return there.flatten().to_numpy().reshape(len(there), -1) if len(there) else None
