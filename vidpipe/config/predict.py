"""Settings of jobs/predict.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Label a video with a checkpoint, which knows its model, labels, clips and views."""

    video: tyro.conf.Positional[str]
    """Path or URL of a video (local, s3://, gs://)."""
    checkpoint: str
    """The output of jobs/train.py, or a checkpoint's own folder, such as OUT/last."""
    top: int = 5
    """How many labels are shown."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""
    video_timeout_s: float = 600.0
    """Seconds of decoding after which the video fails as `timeout`."""
    video_memory_mb: int = 2048
    """Memory that decoding may take before the video fails as `out_of_memory`."""

    def __post_init__(self) -> None:
        for name in ("top", "video_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.video_memory_mb < 64:
            raise ValueError(
                f"video_memory_mb must be 64 or more: one 4k picture takes 24 MB, got {self.video_memory_mb}"
            )
