"""How far a share can be trusted: intervals of shares over videos that may belong together, and paired tests.

Videos of a group (one film, one camera) are right or wrong together, so they count for less than as many independent
ones. `effective_videos` says for how many: the number of independent videos whose share would vary as much. All
intervals here are of that number.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
PRIOR_VIDEOS = 2
"""By how many videos the share of a class is drawn to that of all classes, where its spread is estimated."""


def wilson_interval(num_right: float, num_videos: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Where the true share lies, with that confidence, when `num_right` of `num_videos` independent ones are right.

    Wilson's score interval (1927); never outside 0 to 1. Videos of a group are not independent: then it is too small,
    see `share_interval`.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = num_right / num_videos
    centre = share + z * z / (2 * num_videos)
    half = z * math.sqrt(share * (1 - share) / num_videos + z * z / (4 * num_videos**2))
    scale = 1 + z * z / num_videos
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def effective_videos(spread: float, influences: np.ndarray, groups: np.ndarray | None) -> float:
    """How many independent videos, of which one varies by `spread`, tell as much as these.

    `influences` (V,) is by how much each video moves the figure, from its mean: (right - share) / V for a share, where
    the spread is share (1 - share). `groups` (V,) are whole numbers; None: every video by itself. The variance is that
    of the groups' sums, with Student's t for their number (Korn and Graubard 1998); it is never taken for less than
    that of independent videos. Where it cannot be told, since all videos agree, a group counts as one video.
    """
    num_videos = len(influences)
    alone = float((influences**2).sum())
    if groups is None:
        return min(float(num_videos), spread / alone) if alone > 0 else float(num_videos)
    sizes = np.bincount(groups)
    sizes = sizes[sizes > 0].astype(float)
    num_groups = len(sizes)
    if num_groups == 1:
        return 1.0
    sums = np.bincount(groups, weights=influences)
    together = max(alone, num_groups / (num_groups - 1) * float((sums**2).sum()))
    worst = num_videos**2 / float((sizes**2).sum())
    found = min(float(num_videos), spread / together) if together > 0 and spread > 0 else worst
    return found * _student_shrinkage(num_groups - 1)


def share_interval(right: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of the share of `right` (V,): Wilson's, of the effective number of videos."""
    if groups is None:
        return wilson_interval(int(right.sum()), len(right))
    share = float(right.mean())
    effective = effective_videos(share * (1 - share), (right - share) / len(right), groups)
    return wilson_interval(share * effective, effective)


def class_mean_interval(right: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of the mean over classes of the share that is right.

    Jeffreys' interval (Brown, Cai and DasGupta 2001) of the number of independent videos whose share would vary as
    much. A class of one or two videos says next to nothing of its own spread, so each class's share is taken with
    `PRIOR_VIDEOS` more videos that are right as often as those of all classes together; what this hides of the spread
    is put back, as n / (n - 1) does without them. Videos of a group, right or wrong together, widen it by Kish's design
    effect, estimated with the same care: a class may have one group.
    """
    from scipy.special import betaincinv

    _, classes, support = np.unique(truth, return_inverse=True, return_counts=True)
    num_right = np.bincount(classes, weights=right)
    pooled = (num_right.sum() + 1) / (len(right) + 2)
    shares = (num_right + PRIOR_VIDEOS * pooled) / (support + PRIOR_VIDEOS)
    hidden = support / (support + PRIOR_VIDEOS) ** 2
    variance = float((shares * (1 - shares) / (support * (1 - hidden))).sum()) / len(support) ** 2
    share, spread = float((num_right / support).mean()), float(shares.mean() * (1 - shares.mean()))
    effective = min(float(len(right)), spread / variance)
    if groups is not None and len(np.unique(groups)) == 1:
        effective = min(1.0, effective)
    elif groups is not None:
        effective *= _student_shrinkage(len(np.unique(groups)) - 1)
        effective /= _class_design_effect(right - shares[classes], classes, support, groups)
    alpha, beta = share * effective + 0.5, (1 - share) * effective + 0.5
    tail = (1 - CONFIDENCE) / 2
    low, high = betaincinv(alpha, beta, tail), betaincinv(alpha, beta, 1 - tail)
    return (float(low) if share > 0 else 0.0), (float(high) if share < 1 else 1.0)


def _class_design_effect(residuals: np.ndarray, classes: np.ndarray, support: np.ndarray, groups: np.ndarray) -> float:
    """How many times more the mean over classes varies than if the videos (V,) of a group were independent."""

    def squares(groups: np.ndarray) -> float:
        """The variance from the sums of each group in each class, less those of the classes' own shares."""
        cells, inverse, sizes = np.unique(np.stack([groups, classes]), axis=1, return_inverse=True, return_counts=True)
        of_group, num_videos = cells[0], support[cells[1]]
        weight = sizes / (num_videos + PRIOR_VIDEOS)
        left = 1 - 2 * weight + weight**2 * num_videos / sizes
        sums = np.bincount(inverse.reshape(-1), weights=residuals) / (np.sqrt(left) * num_videos)
        return float((np.bincount(np.unique(of_group, return_inverse=True)[1], weights=sums) ** 2).sum())

    alone = np.arange(len(residuals))
    influences = 1 / support[classes]
    worst = float((np.bincount(groups, weights=influences) ** 2).sum() / (influences**2).sum())
    return min(max(1.0, squares(groups) / squares(alone)), worst)


def paired_difference(now: np.ndarray, before: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """Two answers to the same videos, right or not (V,): the difference of their shares with its 95 % interval, and
    McNemar's exact test, see `mcnemar_p`.

    The interval is that of Bonett and Price (2012) for paired shares, of the effective number of videos.
    """
    better, worse = int((now & ~before).sum()), int((~now & before).sum())
    differences = now.astype(float) - before
    mean, num_videos = float(differences.mean()), len(differences)
    effective = effective_videos(float(differences.var()), (differences - mean) / num_videos, groups)
    scale = effective / num_videos
    gained, lost = (better * scale + 1) / (effective + 2), (worse * scale + 1) / (effective + 2)
    half = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * math.sqrt(
        (gained + lost - (gained - lost) ** 2) / (effective + 2)
    )
    return {
        "num_better": better,
        "num_worse": worse,
        "num_both_right": int((now & before).sum()),
        "num_both_wrong": int((~now & ~before).sum()),
        "difference": mean,
        "difference_ci": [max(-1.0, gained - lost - half), min(1.0, gained - lost + half)],
        "mcnemar_p": mcnemar_p(differences, groups),
    }


def mcnemar_p(differences: np.ndarray, groups: np.ndarray | None = None) -> float:
    """How often chance alone would set two answers apart as far: p of McNemar's exact test (1947), two-sided.

    `differences` (V,): 1 for a video on which only the first is right, -1 for one on which only the second is, else 0.
    If both were equally good, a coin might as well have decided which of them gave which answers. Videos of a group
    share their coin, since they are right or wrong together: that is the exact sign-flip test of the groups' sums.
    """
    from scipy.signal import convolve
    from scipy.stats import binom

    sums = differences if groups is None else np.bincount(groups, weights=differences)
    sizes, counts = np.unique(np.abs(np.rint(sums)).astype(int), return_counts=True)
    chances = np.ones(1)  # of each sum of the groups whose coin has fallen for the first
    for size, count in zip(sizes, counts, strict=True):
        if size > 0:
            of_size = np.zeros(size * count + 1)
            of_size[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
            chances = convolve(chances, of_size)
    apart = np.abs(2 * np.arange(len(chances)) - (len(chances) - 1))
    return float(np.clip(chances[apart >= abs(round(float(differences.sum())))].sum(), 0, 1))


def _student_shrinkage(degrees: int) -> float:
    """(z / t)²: with few groups their variance is itself uncertain."""
    from scipy.stats import t

    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    return float(z / t.ppf(0.5 + CONFIDENCE / 2, degrees)) ** 2
