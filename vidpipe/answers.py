"""Predictions joined to the truth: one row a video that was asked for, whether it was answered or not.

    videos = join_truth(predictions, facts.labels, manifest)     # a video of the manifest without a row is `missing`
    evaluate_answers(videos.answers)

Knows nothing of models and pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.errors import UsageError
from vidpipe.metrics.answers import NOT_LISTED, Answers
from vidpipe.metrics.by_class import UNKNOWN

OUTCOMES = ("right", "wrong", "unknown", "failed", "missing", "labelled")
"""What became of a video: the last one where the truth is not known."""


@dataclass(frozen=True, eq=False)
class JoinedVideos:
    """Some videos, row by row in both."""

    table: pa.Table
    """The predictions' columns, with `truth`, `split` and `group`; nulls where there is no row."""
    answers: Answers

    def __len__(self) -> int:
        return len(self.table)

    def take(self, chosen: np.ndarray) -> JoinedVideos:
        """Some of the rows, by number or by mask."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in vars(self.answers).items() if isinstance(value, np.ndarray)
        }
        return JoinedVideos(self.table.take(pa.array(rows)), replace(self.answers, **arrays))

    @property
    def outcomes(self) -> np.ndarray:
        """(V,) the index of one of `OUTCOMES`."""
        answers = self.answers
        labelled = answers.given != UNKNOWN
        conditions = [answers.missing, answers.failed, ~labelled, answers.truth == UNKNOWN, answers.right]
        names = ["missing", "failed", "unknown", "labelled", "right"]
        return np.select(conditions, [OUTCOMES.index(name) for name in names], OUTCOMES.index("wrong"))


def join_truth(predictions: pa.Table, labels: Sequence[str], manifest: pa.Table | None) -> JoinedVideos:
    """The videos of the manifest with what was said of them; without a manifest all predictions, and no truth.

    Labels of the manifest that the checkpoint does not know come after its own: such videos cannot be right.
    """
    if manifest is None:
        nothing = pa.nulls(len(predictions), pa.string())
        table = predictions
        for name in ("truth", "split", "group"):
            table = table.append_column(name, nothing)
    else:
        position = pc.index_in(manifest["video_id"], value_set=predictions["video_id"].combine_chunks())
        table = predictions.take(position)
        for name in ("video_id", "url"):  # of a video that has no row, too
            table = table.set_column(table.schema.get_field_index(name), name, manifest[name])
        for name, column in (("truth", "label"), ("split", "split"), ("group", "group")):
            table = table.append_column(name, manifest[column])
        table = table.append_column("listed_version", manifest["version"])
    own = set(labels)
    strangers = sorted({label for label in pc.unique(table["truth"]).to_pylist() if label is not None} - own)
    return JoinedVideos(table, _answers(table, (*labels, *strangers), len(labels)))


def _answers(table: pa.Table, labels: tuple[str, ...], num_known: int) -> Answers:
    truth = codes(table["truth"], labels)
    status = table["status"].to_numpy(zero_copy_only=False)
    missing = np.array([value is None for value in status], bool)
    failed = status == "failed"
    answered = ~(missing | failed)
    # The lists one behind the other, with whose they are: (N,) of all videos together.
    lists = table["top_labels"].combine_chunks()
    owners = pc.list_parent_indices(lists).to_numpy()
    listed = codes(pc.list_flatten(lists), labels)
    lengths = np.bincount(owners, minlength=len(table))
    places = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    best = np.full(len(table), UNKNOWN)
    best[owners[places == 0]] = listed[places == 0]
    best[~answered] = UNKNOWN
    rank = np.full(len(table), NOT_LISTED)
    hits = (listed == truth[owners]) & (listed != UNKNOWN) & answered[owners]
    rank[owners[hits]] = places[hits]
    score = pc.fill_null(table["score"].cast(pa.float64()), float("nan")).to_numpy()
    num_listed = int(lengths[answered].min()) if answered.any() else len(labels)
    return Answers(
        labels=labels,
        truth=truth,
        given=np.where(answered, codes(table["label"], labels), UNKNOWN),
        best=best,
        score=np.where(answered, score, np.nan),
        rank=rank,
        num_listed=len(labels) if num_listed >= num_known else num_listed,
        failed=failed,
        missing=missing,
        groups=group_codes(table["group"]),
    )


def codes(column: pa.ChunkedArray | pa.Array, labels: Sequence[str]) -> np.ndarray:
    """The index of each label, `UNKNOWN` for null and for what is none of them."""
    found = pc.index_in(column, value_set=pa.array(labels, pa.string()))
    return pc.fill_null(found, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)


def group_codes(group: pa.ChunkedArray) -> np.ndarray | None:
    """Equal whole numbers for videos of one group; a video without a group is one by itself. None without groups."""
    if group.null_count == len(group):
        return None
    indices = group.combine_chunks().dictionary_encode().indices
    found = pc.fill_null(indices, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = found == UNKNOWN
    found[alone] = found.max() + 1 + np.arange(alone.sum())
    return found


def choose_split(manifest: pa.Table, split: str | None) -> tuple[str, pa.Table]:
    """The videos of a split and its name: the one that is asked for, else test, else val, else all.

    Raises UsageError when the manifest has no video in it.
    """
    names = pc.unique(manifest["split"]).to_pylist()
    chosen = split or next((name for name in ("test", "val") if name in names), "all")
    videos = manifest if chosen == "all" else manifest.filter(pc.fill_null(pc.equal(manifest["split"], chosen), False))
    if not len(videos):
        have = ", ".join(sorted(str(name) for name in names if name is not None)) or "none"
        raise UsageError(
            f"the manifest has no video in split {chosen} (its splits: {have}); name one of them with --split, "
            "or all videos with --split all"
        )
    return chosen, videos
