"""What a model said of every view, and how the views of a video become one answer. Knows nothing of models or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from vidpipe.transform_spec import Join

BLOCK_VIEWS = 4096
DTYPES = {"video_ids": np.str_, "clip_indices": np.int64, "crops": np.int64, "truth": np.int64}


@dataclass(frozen=True, eq=False)
class Views:
    """One row a view, whatever rank it comes from; sorted when built by video, clip and crop, so that nothing computed
    from it depends on the order of the rows, to the last digit."""

    video_ids: np.ndarray
    """(N,) strings."""
    clip_indices: np.ndarray
    """(N,) whole numbers, the clip's place in its video."""
    crops: np.ndarray
    """(N,) whole numbers, the crop's place in `ViewSpec.crops`."""
    truth: np.ndarray
    """(N,) index of the video's label."""
    logits: np.ndarray
    """(N, K) what the model said."""
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))
    """(N,) above 0: how much the view counts among those of its video. Alike where none are given."""

    def __post_init__(self) -> None:
        """Raises ValueError for rows that are not one view each of whole videos: these would not be exact metrics."""
        columns = {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}
        if len(columns["weights"]) == 1:
            columns["weights"] = np.repeat(columns["weights"], len(columns["truth"]))
        columns = {name: column.astype(DTYPES.get(name, column.dtype)) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or columns["logits"].ndim != 2:
            raise ValueError(f"views must have as many rows in each column, and logits (N, K), got {lengths}")
        order = np.lexsort((columns["crops"], columns["clip_indices"], columns["video_ids"]))
        for name, column in columns.items():
            object.__setattr__(self, name, column[order])
        if len(order):
            self._check_values()
            self._check_once_each()

    def _check_values(self) -> None:
        broken = ~np.isfinite(self.logits).all(axis=1)
        if broken.any():
            raise ValueError(
                f"logits must be finite, {broken.sum()} of {len(broken)} views have others (first: video "
                f"{self.video_ids[broken][0]}); the model diverged: lower the learning rate, or leave fp16 for bf16"
            )
        num_labels = self.logits.shape[1]
        if self.truth.min() < 0 or self.truth.max() >= num_labels:
            wrong = self.truth[(self.truth < 0) | (self.truth >= num_labels)][0]
            raise ValueError(f"truth must be the index of one of the model's {num_labels} labels, got {wrong}")
        mixed = self.truth != np.repeat(self.truth[self.starts], self.num_views)
        if mixed.any():
            raise ValueError(
                f"a video has one label, {self.video_ids[mixed][0]} has several; look at the clips' labels"
            )

    def _check_once_each(self) -> None:
        """A row that comes twice, as samplers that pad a batch make it, or not at all would change the metrics."""
        same_clip = (self.video_ids[1:] == self.video_ids[:-1]) & (self.clip_indices[1:] == self.clip_indices[:-1])
        twice = same_clip & (self.crops[1:] == self.crops[:-1])
        if twice.any():
            row = int(np.flatnonzero(twice)[0])
            raise ValueError(
                f"each view counts once, clip {self.clip_indices[row]} crop {self.crops[row]} of video "
                f"{self.video_ids[row]} is there twice ({twice.sum()} such rows); leave out rows that pad a batch"
            )
        counts = np.diff(np.append(self.clip_starts, len(self.crops)))
        wanted = np.arange(len(self.crops)) - np.repeat(self.clip_starts, counts)
        if counts.min() != counts.max() or (self.crops != wanted).any():
            raise ValueError(
                f"all clips must have the same crops, 0 and up, got {counts.min()} to {counts.max()} a clip, "
                f"crops {np.unique(self.crops).tolist()}; evaluate every crop of every clip"
            )

    @property
    def starts(self) -> np.ndarray:
        """(V,) the first row of each video."""
        return _changes(self.video_ids)

    @property
    def clip_starts(self) -> np.ndarray:
        """The first row of each clip."""
        return np.union1d(self.starts, _changes(self.clip_indices))

    @property
    def num_views(self) -> np.ndarray:
        """(V,) views of each video."""
        return np.diff(np.append(self.starts, len(self.video_ids)))


def views_of(
    video_ids: Sequence[str], logits: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None = None
) -> Views:
    """The views of videos whose label is not known (joining does not ask): of each, logits (clips, crops, K), and
    weights (clips,) where the clips do not count alike."""
    rows = [np.indices(of_video.shape[:2]).reshape(2, -1) for of_video in logits]
    clip_indices, crops = np.concatenate(rows, axis=1)
    num_views = [of_video.shape[0] * of_video.shape[1] for of_video in logits]
    flat = np.concatenate([of_video.reshape(-1, of_video.shape[2]) for of_video in logits])
    of_clips = weights or [np.ones(len(of_video)) for of_video in logits]
    of_views = [np.repeat(mine, of_video.shape[1]) for mine, of_video in zip(of_clips, logits, strict=True)]
    columns = np.repeat(np.asarray(video_ids), num_views), clip_indices, crops, np.zeros(len(crops), int), flat
    return Views(*columns, np.concatenate(of_views))


def join_views(views: Views, join: Join, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The videos' ids, sorted (V,), and their probabilities (V, K) float64: `join_logits` over the temperature."""
    return views.video_ids[views.starts], np.exp(log_softmax(join_logits(views, join) / temperature))


def join_logits(views: Views, join: Join) -> np.ndarray:
    """The videos' joined logits: logarithms of probabilities (V, K), float64, in the order of the sorted ids.

    mean_softmax: of the mean of the views' probabilities. mean_logits: of the softmax of their mean logits. vote: of
    the share of views that name each class, to which the mean softmax adds one vote, spread over the classes: it breaks
    ties and never outvotes a view, and classes that no view names keep the order that it gives them. Means and votes go
    by the views' weights; the added vote counts as much as the lightest view.
    """
    return joined(views, views.starts, join)


def joined(views: Views, starts: np.ndarray, join: Join) -> np.ndarray:
    """As `join_logits`, for the groups of neighbouring rows that start at `starts`."""
    blocks = [
        JOINS[join](views.logits[first:last].astype(np.float64), starts_in_block, views.weights[first:last])
        for first, last, starts_in_block in _blocks(starts, len(views.logits))
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, views.logits.shape[1]))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities (..., K), in the precision of the logits."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _mean_softmax(logits: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counts = np.diff(np.append(starts, len(logits)))
    logs = log_softmax(logits)
    largest = np.maximum.reduceat(logs, starts)  # taken out, or small probabilities of sure models became 0
    sums = np.add.reduceat(np.exp(logs - np.repeat(largest, counts, axis=0)) * weights[:, None], starts)
    return largest + np.log(sums / np.add.reduceat(weights, starts)[:, None])


def _mean_logits(logits: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = np.add.reduceat(logits * weights[:, None], starts)
    return log_softmax(sums / np.add.reduceat(weights, starts)[:, None])


def _vote(logits: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    named = np.eye(logits.shape[1])[logits.argmax(axis=1)] * weights[:, None]
    lightest = np.minimum.reduceat(weights, starts)
    with np.errstate(divide="ignore"):
        votes = np.log(np.add.reduceat(named, starts))
    added = _mean_softmax(logits, starts, weights) + np.log(lightest)[:, None]
    return np.logaddexp(votes, added) - np.log(np.add.reduceat(weights, starts) + lightest)[:, None]


JOINS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "mean_softmax": _mean_softmax,
    "mean_logits": _mean_logits,
    "vote": _vote,
}


def _changes(column: np.ndarray) -> np.ndarray:
    """The rows whose value is not that of the row before, the first one among them."""
    return np.flatnonzero(np.append(len(column) > 0, column[1:] != column[:-1]))


def _blocks(starts: np.ndarray, num_rows: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Whole groups of about BLOCK_VIEWS rows, as first row, last row + 1, and starts from the first row on: in float64
    and all at once, the logits of a large evaluation would take gigabytes."""
    while len(starts):
        num_groups = max(1, int(np.searchsorted(starts, starts[0] + BLOCK_VIEWS)))
        first = int(starts[0])
        last = int(starts[num_groups]) if num_groups < len(starts) else num_rows
        yield first, last, starts[:num_groups] - first
        starts = starts[num_groups:]
