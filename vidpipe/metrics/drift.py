"""What changed from one night to another, without knowing the truth: labels given, scores, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from vidpipe.metrics.intervals import wilson_interval

NUM_BINS = 20
POOLED_BELOW = 10


def label_drift(now: Sequence[str], before: Sequence[str]) -> dict[str, Any]:
    """How far apart two mixes of labels are.

    `total_variation`: the share of videos that would have to get another label for the mixes to be equal. `psi`: the
    population stability index, of counts with half a video added (customary: below 0.1 no change, above 0.25 a large
    one). `p`: by the chi-squared test; labels of fewer than 10 videos in both nights together are pooled for it.
    """
    counts = Counter(now), Counter(before)
    labels = sorted({*counts[0], *counts[1]}, key=lambda label: (-counts[0][label] - counts[1][label], label))
    table = np.array([[count[label] for label in labels] for count in counts], dtype=float).reshape(2, -1)
    totals = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    smooth = (table + 0.5) / (totals + 0.5 * table.shape[1])
    is_there = bool((totals > 0).all())
    return {
        "labels": [
            {"label": label, "now": int(table[0, index]), "before": int(table[1, index])}
            | {"share_now": float(shares[0, index]), "share_before": float(shares[1, index])}
            for index, label in enumerate(labels)
        ],
        "total_variation": float(np.abs(shares[0] - shares[1]).sum() / 2) if is_there else None,
        "psi": float(((smooth[0] - smooth[1]) * np.log(smooth[0] / smooth[1])).sum()) if is_there else None,
        "p": _chi2_p(table) if is_there else None,
    }


def score_drift(now: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Scores of two nights: their means and medians, and the Kolmogorov-Smirnov distance with its p."""
    from scipy.stats import ks_2samp

    test = ks_2samp(now, before) if len(now) and len(before) else None
    edges = np.linspace(0, 1, NUM_BINS + 1)
    return {
        "ks": None if test is None else float(test.statistic),
        "p": None if test is None else float(test.pvalue),
        **{
            name: {
                "num_videos": len(scores),
                "mean": float(scores.mean()) if len(scores) else None,
                "median": float(np.median(scores)) if len(scores) else None,
                "histogram": (np.histogram(scores, edges)[0] / max(len(scores), 1)).tolist(),
            }
            for name, scores in (("now", now), ("before", before))
        },
    }


def failure_drift(now: Sequence[str | None], before: Sequence[str | None]) -> dict[str, Any]:
    """Error codes of two nights, None for a video that is ok: rates with Wilson's interval, and Fisher's exact test."""
    from scipy.stats import fisher_exact

    nights = {"now": now, "before": before}
    failed = {name: [code for code in codes if code is not None] for name, codes in nights.items()}
    table = [[len(failed[name]), len(codes) - len(failed[name])] for name, codes in nights.items()]
    by_code = {name: Counter(codes) for name, codes in failed.items()}
    return {
        **{
            name: {
                "num_videos": len(codes),
                "num_failed": len(failed[name]),
                "rate": len(failed[name]) / len(codes) if codes else None,
                "rate_ci": list(wilson_interval(len(failed[name]), len(codes))) if codes else None,
            }
            for name, codes in nights.items()
        },
        "by_code": {
            code: {"now": by_code["now"][code], "before": by_code["before"][code]}
            for code in sorted({*by_code["now"], *by_code["before"]})
        },
        "p": float(fisher_exact(table).pvalue) if now and before else None,
    }


def _chi2_p(table: np.ndarray) -> float | None:
    from scipy.stats import chi2_contingency

    rare = table.sum(axis=0) < POOLED_BELOW
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else None
