"""Settings of jobs/preprocess.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from vidpipe.errors import UsageError
from vidpipe.spec import ClipSpec


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Decode every video once into a table of clips, with one status row per video."""

    source: tyro.conf.Positional[str]
    """A folder, a prefix such as s3://bucket/videos, or a manifest (.parquet from jobs/index.py, .csv, .jsonl)."""
    output: str
    """Folder or prefix for clips/, status/ and run.json. A rerun with the same output does only what is missing."""
    layout: Literal["flat", "folders"] = "flat"
    """Labels of a folder or prefix: flat has none, in folders the first folder is one. jobs/index.py knows more."""
    allow_url_prefix: tuple[str, ...] = ()
    """Buckets or folders whose videos a manifest or table may name: besides its own bucket, where it lies in one; of a
    local one, these only (default: any)."""
    # Not ClipSpec(): its fields are filled in for uniform, and --sampling fps would start from these.
    clip: tyro.conf.OmitArgPrefixes[ClipSpec] = tyro.MISSING_NONPROP
    retry_failed: bool = False
    """Decode the videos again that failed in earlier runs."""
    limit: int | None = None
    """Decode at most this many videos, then stop; the next run goes on."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""
    max_failure_rate: float = 0.5
    """Exit with status 3 when a larger share of the decoded videos failed; all results are written all the same."""
    contact_sheet: bool = False
    """Write OUTPUT/contact_sheet.png: sampled frames of some videos with their times, to look at."""
    part_mb: int = 128
    """Size at which a part file is closed, or sooner after a minute; a video's clips always lie in one part."""
    video_timeout_s: float = 600.0
    """Seconds of decoding after which a video fails as `timeout`."""
    video_memory_mb: int = 2048
    """Memory that decoding one video may take before it fails as `out_of_memory`."""
    num_workers: int | None = None
    """Videos decoded at the same time (default: one for each CPU of the Ray cluster)."""

    def __post_init__(self) -> None:
        if self.clip is tyro.MISSING_NONPROP:
            object.__setattr__(self, "clip", ClipSpec())
        for name in ("limit", "part_mb", "video_timeout_s", "video_memory_mb", "num_workers"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} must be above 0, got {value}")
        if not 0 <= self.max_failure_rate <= 1:
            raise UsageError(f"max_failure_rate must be from 0 to 1, got {self.max_failure_rate}")
        if self.video_memory_mb < 64:
            raise UsageError(
                f"video_memory_mb must be 64 or more: one 4k picture takes 24 MB, got {self.video_memory_mb}"
            )
