"""From which score on a label is right often enough: proven with a confidence, not the luckiest of all cuts.

Cuts are tried from the top down, at ranks that are fixed before anybody looks at what is right, and only as long as the
lower bound of the precision reaches the wanted one: a fixed-sequence test, which errs as seldom as one test alone
(Maurer et al. 1995). The first cut has as many answers as prove the precision if none of them is wrong; each further
one `GROWTH` times as many; the last one has all. Where there are answers in plenty, one wrong answer near the top is
not the end: a part of the risk is kept for a second start further down (Wiens 2003).

Videos of a group may be right or wrong together: n answers in groups of m_g count as n² / Σ m_g² (Kish 1965), as if all
of a group were the same. How alike they are cannot be told from the few wrong answers above a cut: with an estimate in
its place, up to twice as many thresholds fell short as should.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpipe.metrics.answers import Answers, from_the_top

GROWTH = 1.3
PLENTY = 4
"""First cuts' worth of answers from which on there is a second start."""
SECOND_RISK, SECOND_SHARE = 0.2, 0.4
"""The second start's part of the risk, and the share of the answers that its first cut has."""
STEPS = 1000
"""Precisions are told in thousandths."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The answers of a label at each of their scores or above, the highest score first; all arrays (S,)."""

    num: np.ndarray
    num_right: np.ndarray
    effective: np.ndarray
    """Independent answers that tell as much."""

    def after(self, num: int) -> Ranked:
        """These after so many more answers, all right, each of its own group, with higher scores."""
        first = np.arange(1, num + 1)
        effective = (num + self.num) ** 2 / (num + self.num**2 / self.effective)
        return Ranked(
            np.append(first, num + self.num),
            np.append(first, num + self.num_right),
            np.append(first, effective),
        )


@dataclass(frozen=True)
class Cut:
    index: int
    """Lowest score that is answered."""
    precision_low: float
    """Lower bound of the precision from that score on."""


def precision_thresholds(
    answers: Answers, precision: float, confidence: float, min_videos: int
) -> dict[str, dict[str, Any]]:
    """For each label the score from which on its answers have that precision, with that confidence, and the figures
    behind it: how many answers there are from there on, how many of them right, and the bound.

    Where no score can be shown to have it the threshold is None, and the figures are those of all answers of the label,
    with the highest precision that a threshold could have (`provable_precision`, None where `min_videos` are not there
    or none is right), and the fewest more answers, all right, that would bring one (`num_more`).
    """
    is_right = answers.best == answers.truth
    found = {}
    for index, label in enumerate(answers.labels):
        mine = answers.answered & (answers.best == index)
        groups = None if answers.groups is None else answers.groups[mine]
        found[label] = _threshold(answers.score[mine], is_right[mine], groups, precision, 1 - confidence, min_videos)
    return found


def _threshold(
    scores: np.ndarray,
    right: np.ndarray,
    groups: np.ndarray | None,
    precision: float,
    risk: float,
    min_videos: int,
) -> dict[str, Any]:
    top, num, num_right = from_the_top(scores, right)
    ranked = Ranked(num, num_right, _effective(scores, groups)[num - 1])
    cut = last_proven(ranked, precision, risk, min_videos)
    index = -1 if cut is None else cut.index
    return {
        "threshold": None if cut is None else float(top[cut.index]),
        "num_videos": int(num[index]) if len(num) else 0,
        "num_right": int(num_right[index]) if len(num) else 0,
        "precision_low": None if cut is None else cut.precision_low,
        "provable_precision": _provable(ranked, precision, risk, min_videos) if cut is None else None,
        "num_more": _num_more(ranked, precision, risk, min_videos) if cut is None else None,
    }


def last_proven(ranked: Ranked, precision: float, risk: float, min_videos: int) -> Cut | None:
    """The last of the cuts from which on the precision is proven, each at the risk that has come down to it."""
    from scipy.special import betainc, betaincinv

    if not len(ranked.num):
        return None
    has_plenty = ranked.effective[-1] >= PLENTY * _faultless(precision, risk)
    first_risk = risk * (1 - SECOND_RISK) if has_plenty else risk
    second_size = SECOND_SHARE * ranked.effective[-1] if has_plenty else math.inf
    at_risk, found = first_risk, None
    for index in _cuts(ranked, _faultless(precision, first_risk), min_videos):
        size = float(ranked.effective[index])
        right = size * float(ranked.num_right[index] / ranked.num[index])
        if size >= second_size:
            at_risk, second_size = at_risk + risk - first_risk, math.inf
        # Clopper and Pearson's bound is at least `precision`: so many right ones would be as rare as the risk.
        if at_risk and right > 0 and betainc(right, size - right + 1, precision) <= at_risk * (1 + 1e-9):
            found = Cut(index, max(precision, float(betaincinv(right, size - right + 1, at_risk))))
        else:
            at_risk = 0.0
    return found


def _faultless(precision: float, risk: float) -> int:
    """How many answers, all right, prove a precision."""
    return math.ceil(math.log(risk) / math.log(precision) - 1e-9)


def _cuts(ranked: Ranked, first: int, min_videos: int) -> list[int]:
    """Indices of the cuts; scores and groups decide, not what is right. Of equal scores all count or none."""
    sizes = np.maximum.accumulate(ranked.effective)
    if sizes[-1] < first or ranked.num[-1] < min_videos:
        return []
    num_cuts = math.floor(math.log(sizes[-1] / first) / math.log(GROWTH) + 1e-9) + 1
    reached = np.searchsorted(sizes, first * GROWTH ** np.arange(num_cuts) - 1e-9)
    indices = np.maximum(reached, np.searchsorted(ranked.num, min_videos))
    return [int(index) for index in np.unique(np.append(indices, len(sizes) - 1))]


def _effective(scores: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """(V,) how many independent answers tell as much as those with the first, first two, … highest scores."""
    num = np.arange(1, len(scores) + 1)
    if groups is None:
        return num.astype(float)
    mine = groups[np.argsort(-scores, kind="stable")]
    by_group = np.argsort(mine, kind="stable")
    starts = np.flatnonzero(np.append(True, mine[by_group][1:] != mine[by_group][:-1])[: len(mine)])
    before = np.empty(len(mine), int)  # how many of the same group have a higher score
    before[by_group] = np.arange(len(mine)) - np.repeat(starts, np.diff(np.append(starts, len(mine))))
    effective: np.ndarray = num**2 / np.cumsum(2 * before + 1)
    return effective


def _provable(ranked: Ranked, precision: float, risk: float, min_videos: int) -> float | None:
    """The highest precision below the wanted one, in thousandths, for which there would be a threshold."""
    least = _first(lambda step: last_proven(ranked, 1 - step / STEPS, risk, min_videos) is not None,
                   math.floor((1 - precision) * STEPS + 1e-9), STEPS)  # fmt: skip
    return None if least == STEPS else round(1 - least / STEPS, 3)


def _num_more(ranked: Ranked, precision: float, risk: float, min_videos: int) -> int:
    enough = max(_faultless(precision, risk * (1 - SECOND_RISK)), min_videos)
    return _first(lambda num: last_proven(ranked.after(num), precision, risk, min_videos) is not None, 0, enough)


def _first(is_enough: Callable[[int], bool], low: int, high: int) -> int:
    """The number above `low`, which is not enough, from which on it is; `high` where none below it is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
