"""From windows of a long video to stretches with one label each: pure arithmetic on scores.

windows   |-------------|          each window_s long, one every hop_s
                 |-------------|
                        |-------------|
cells     |------|------|------|------|   a cell's scores: mean of the windows that cover it, by seconds of overlap
segments  |----left-----|-----right---|   the best label of each cell; neighbours that agree are joined
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidpipe.predictions.decisions import Decision
from vidpipe.predictions.schema import UNKNOWN


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    label: str
    score: float
    """Mean of the label's scores over the cells; of `unknown`, mean of what was likeliest."""


def segments_of(
    starts_s: np.ndarray, ends_s: np.ndarray, duration_s: float, scores: np.ndarray, decision: Decision
) -> list[Segment]:
    """The whole video without a gap. Windows (N,) ascend from 0 by start, as `sampling windows` cuts them, and scores
    (N, K) are their probabilities. The threshold applies to a segment's score."""
    cell_ends_s = np.append(starts_s[1:], duration_s)
    of_cells = cell_scores(starts_s, ends_s, cell_ends_s, scores)
    best = decision.ranked(of_cells)[:, 0]
    changes = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    found = []
    for first, stop in zip(changes, np.append(changes[1:], len(best)), strict=True):
        score = float(of_cells[first:stop, best[first]].mean())
        label = decision.label(int(best[first]), score)
        found.append(Segment(float(starts_s[first]), float(cell_ends_s[stop - 1]), label, score))
    return _joined(found)


def cell_scores(starts_s: np.ndarray, ends_s: np.ndarray, cell_ends_s: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N, K): of the cell that begins with each window, the mean over all windows that reach into it."""
    sums, weights = np.zeros_like(scores, float), np.zeros(len(scores))
    num_back = 0
    while num_back < len(scores):
        # Window i reaches into cell i + num_back for so many seconds.
        cells = slice(num_back, None)
        windows = slice(0, len(scores) - num_back)
        overlap_s = np.minimum(ends_s[windows], cell_ends_s[cells]) - starts_s[cells]
        if (overlap_s <= 0).all():
            break
        overlap_s = np.maximum(overlap_s, 0)
        sums[cells] += scores[windows] * overlap_s[:, None]
        weights[cells] += overlap_s
        num_back += 1
    return sums / weights[:, None]


def _joined(segments: list[Segment]) -> list[Segment]:
    """Neighbours that fell below their thresholds are one stretch of unknown."""
    kept = segments[:1]
    for segment in segments[1:]:
        before = kept[-1]
        if not before.label == segment.label == UNKNOWN:
            kept.append(segment)
            continue
        seconds = before.end_s - before.start_s, segment.end_s - segment.start_s
        score = (before.score * seconds[0] + segment.score * seconds[1]) / sum(seconds)
        kept[-1] = Segment(before.start_s, segment.end_s, UNKNOWN, score)
    return kept
