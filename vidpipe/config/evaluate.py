"""Settings of jobs/evaluate.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from vidpipe.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Say how good predictions are, or what they are where nobody knows the truth."""

    predictions: tyro.conf.Positional[str]
    """The output of jobs/predict.py."""
    output: str
    """Folder or prefix for report.html, report.json and thresholds.json."""
    manifest: str | None = None
    """Manifest with the true labels (from jobs/index.py). Without it: label mix, scores, failures, rates."""
    split: Literal["train", "val", "test", "unused", "all"] | None = None
    """Videos to evaluate (default: test where the manifest has it, else val, else all)."""
    against: str | None = None
    """Predictions of another checkpoint on the same videos: what got better, what got worse."""
    drift_from: str | None = None
    """Predictions of another night: did labels, scores, failures change? Rows that were there then are not of now."""
    checkpoint: str | None = None
    """The checkpoint, for its training curves (default: where the predictions say it was)."""
    allow_url_prefix: tuple[str, ...] = ()
    """Buckets or folders that predictions may name: where they lie in a bucket, videos, checkpoint and clips of other
    places are read only when they are below one of these; of local ones, these only (default: any)."""
    precision: float = 0.95
    """Precision on new videos that the thresholds of thresholds.json stand for, label by label."""
    confidence: float = 0.95
    """Confidence that a label's threshold has that precision: 0.95 for 0.95 takes 59 answers that are all right."""
    min_videos: int = 10
    """Videos at or above a threshold for it to be trusted; a label with fewer has none."""
    strips: int = 12
    """Videos that each list of the page shows as film strips; 0 decodes none."""

    def __post_init__(self) -> None:
        for name in ("precision", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(
                    f"{name} must be above 0 and below 1, which no number of videos can show, got {getattr(self, name)}"
                )
        if self.min_videos < 1:
            raise UsageError(f"min_videos must be 1 or more, got {self.min_videos}")
        if not 0 <= self.strips <= 50:
            raise UsageError(f"strips must be from 0 to 50, got {self.strips}; each takes about 60 KB of the page")
        if self.manifest is None:
            for name in ("split", "against"):
                if getattr(self, name) is not None:
                    raise UsageError(f"{name} needs the true labels; give --manifest, or drop --{name}")
