"""From windows of a long video to stretches with one label each: pure arithmetic on scores.

windows   |-------------|            each window_s long, one every hop_s
                 |-------------|
                     |-------------| the last one ends with the video
cells     |------|------|------|---| a cell's scores: mean of the windows that cover it, by the seconds they count there
segments  |----left-----|---right--| the best label of each cell; neighbours that agree are joined
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from vidpipe.predictions.decisions import Decision
from vidpipe.predictions.schema import UNKNOWN
from vidpipe.sampling import counted_s, hops_s
from vidpipe.spec import ClipSpec


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    label: str
    score: float
    """Mean of the label's scores over the cells; of `unknown`, mean of what was likeliest."""


def segments_of(
    starts_s: np.ndarray,
    ends_s: np.ndarray,
    duration_s: float,
    scores: np.ndarray,
    decision: Decision,
    spec: ClipSpec,
) -> list[Segment]:
    """The whole video without a gap. Windows (N,) ascend from 0 by start, as `spec` cuts them, and scores (N, K) are
    their probabilities. The threshold applies to a segment's score."""
    assert spec.hop_s is not None
    counted: Callable[[np.ndarray], np.ndarray] = np.asarray
    if spec.window_end == "repeat":  # each window begins a cell, and a second counts in full for each that covers it
        cell_starts_s = starts_s
    else:
        cell_starts_s, counted = hops_s(duration_s, spec.hop_s), partial(counted_s, starts_s, ends_s)
    cell_ends_s = np.append(cell_starts_s[1:], duration_s)
    of_cells = cell_scores(starts_s, ends_s, np.append(cell_starts_s, duration_s), scores, counted)
    best = decision.ranked(of_cells)[:, 0]
    changes = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    found = []
    for first, stop in zip(changes, np.append(changes[1:], len(best)), strict=True):
        score = float(of_cells[first:stop, best[first]].mean())
        label = decision.label(int(best[first]), score)
        found.append(Segment(float(cell_starts_s[first]), float(cell_ends_s[stop - 1]), label, score))
    return _joined(found)


def cell_scores(
    starts_s: np.ndarray,
    ends_s: np.ndarray,
    edges_s: np.ndarray,
    scores: np.ndarray,
    counted: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """(M, K): of each cell between two of the M + 1 edges, the mean over all windows that reach into it.

    A window counts by what the seconds of it there count; `counted` says what those up to a time do.
    """
    num_cells = len(edges_s) - 1
    sums, weights = np.zeros((num_cells, scores.shape[1])), np.zeros(num_cells)
    cells = np.searchsorted(edges_s[:-1], starts_s, side="right") - 1  # that the windows begin in
    windows = np.arange(len(scores))
    while len(windows):
        begin_s = np.maximum(starts_s[windows], edges_s[cells])
        end_s = np.maximum(np.minimum(ends_s[windows], edges_s[cells + 1]), begin_s)
        counts = counted(end_s) - counted(begin_s)
        np.add.at(sums, cells, scores[windows] * counts[:, None])
        np.add.at(weights, cells, counts)
        reach_on = (ends_s[windows] > edges_s[cells + 1]) & (cells + 1 < num_cells)
        windows, cells = windows[reach_on], cells[reach_on] + 1
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
