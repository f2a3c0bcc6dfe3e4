"""Settings of jobs/predict.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from vidpipe.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Label videos with a checkpoint, which knows its model, labels, clips and views."""

    source: tyro.conf.Positional[str]
    """A video; or, with --output, a folder, a prefix such as s3://bucket/videos, a manifest (.parquet from
    jobs/index.py, .csv, .jsonl), or the output of jobs/preprocess.py."""
    checkpoint: str
    """The output of jobs/train.py, or a checkpoint's own folder, such as OUT/last."""
    output: str | None = None
    """Folder or prefix for predictions/ and run.json. A rerun with the same output does only what is new or changed."""
    allow_url_prefix: tuple[str, ...] = ()
    """Buckets or folders whose videos a manifest or table may name: besides its own bucket, where it lies in one; of a
    local one, these only (default: any)."""

    top: int = 5
    """How many labels are given of a video, the most likely first."""
    threshold: float = 0.0
    """A video whose best score is below this is labelled `unknown`."""
    thresholds: str | None = None
    """thresholds.json of jobs/evaluate.py: a threshold for each label; --threshold is for labels that it leaves out.
    It holds for answers like those it was measured on: with --segments, of windows."""
    include_labels: tuple[str, ...] = ()
    """Answer with these labels only; scores stay what they are."""
    exclude_labels: tuple[str, ...] = ()
    """Never answer with these labels."""
    all_scores: bool = False
    """Write the score of every label, too."""
    jsonl: bool = False
    """Write OUTPUT/predictions.jsonl, too."""
    csv: bool = False
    """Write OUTPUT/predictions.csv, too."""
    features: bool = False
    """Write the backbone's embedding of each clip to OUTPUT/features."""

    segments: bool = False
    """Label the parts of long videos: OUTPUT/segments has a row for each stretch with one label."""
    window_s: float | None = None
    """segments: seconds that the model sees at once (default: as the output has them, else as the training clips)."""
    hop_s: float | None = None
    """segments: seconds from one window to the next, the grid of the segments (default: as the output has them, else
    half of window_s). The last window ends with the video."""
    join: Literal["mean", "vote", "max"] | None = None
    """segments: how the windows of a video become its own label, each by the seconds that it covers (default mean)."""

    limit: int | None = None
    """Label at most this many videos, then stop; the next run goes on."""
    retry_failed: bool = False
    """Try the videos again that failed in earlier runs."""
    relabel: bool = False
    """Label all videos again."""
    dry_run: bool = False
    """Say what would be done and how long it would take, and do nothing."""
    price_per_hour: float | None = None
    """dry_run: what an hour of the machines costs, to estimate the cost."""
    max_failure_rate: float = 0.5
    """Exit with status 3 when a larger share of the videos failed; all results are written all the same."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: GPUs where there are some."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number type of the model; auto: bf16 on a GPU that has it, else fp32."""
    compile: bool = False
    """torch.compile the model: a minute at the start, faster afterwards."""
    batch_size: int | None = None
    """Clips shown to the model at once (default 32 on a GPU, 8 on a CPU)."""
    num_workers: int | None = None
    """Videos decoded at the same time (default: as many as there are CPUs)."""
    num_actors: int | None = None
    """Copies of the model (default: one for each GPU; without GPUs one for four CPUs)."""
    video_timeout_s: float = 600.0
    """Seconds of decoding after which a video fails as `timeout`."""
    video_memory_mb: int = 2048
    """Memory that decoding one video may take before it fails as `out_of_memory`."""

    def __post_init__(self) -> None:
        for name in ("top", "limit", "batch_size", "num_workers", "num_actors", "video_timeout_s", "window_s", "hop_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} must be above 0, got {value}")
        for name in ("threshold", "max_failure_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.price_per_hour is not None and self.price_per_hour < 0:
            raise UsageError(f"price_per_hour must be 0 or above, got {self.price_per_hour}")
        if self.video_memory_mb < 64:
            raise UsageError(
                f"video_memory_mb must be 64 or more: one 4k picture takes 24 MB, got {self.video_memory_mb}"
            )
        self._check_together()
        # One value has one spelling, or equal questions would get other keys.
        for name in ("threshold", "window_s", "hop_s"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("include_labels", "exclude_labels"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    def _check_together(self) -> None:
        for name in ("window_s", "hop_s", "join"):
            if not self.segments and getattr(self, name) is not None:
                raise UsageError(
                    f"{name} is for --segments, got {getattr(self, name)}; add --segments, or drop it: the checkpoint "
                    "knows its clips and how they are joined"
                )
        if self.segments and self.join is None:
            object.__setattr__(self, "join", "mean")
        if self.include_labels and self.exclude_labels:
            raise UsageError("include_labels and exclude_labels exclude each other; give one of them")
        if self.price_per_hour is not None and not self.dry_run:
            raise UsageError("price_per_hour is for --dry-run; add --dry-run, or drop it")
        if self.output is None:
            given = [name for name in OUTPUT_ONLY if getattr(self, name)]
            if given:
                raise UsageError(f"{given[0]} needs an output; add --output OUT")

    @property
    def answer_settings(self) -> dict[str, object]:
        """The settings that decide what is in a row; windows that were not asked for are still open."""
        return {name: getattr(self, name) for name in ANSWER_SETTINGS}


OUTPUT_ONLY = ("all_scores", "jsonl", "csv", "features", "segments", "limit", "retry_failed", "relabel", "dry_run")
ANSWER_SETTINGS = (
    *("top", "threshold", "include_labels", "exclude_labels", "all_scores", "features"),
    *("segments", "window_s", "hop_s", "join", "precision"),
)
