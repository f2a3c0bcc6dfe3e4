"""Settings of jobs/index.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from vidpipe.errors import UsageError

Layout = Literal["flat", "folders", "ucf101", "hmdb51", "table"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".divx"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".gif", ".mxf", ".vob"),
)


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """List the videos of a folder, a bucket or a table into a manifest."""

    source: tyro.conf.Positional[str]
    """Folder, bucket or prefix with the videos (local, s3://, gs://), or the table that lists them."""
    output: str = "manifest.parquet"
    """Manifest to write: one row per video."""
    layout: Layout = "flat"
    """Where labels and splits are read from: flat: nowhere; folders: one folder a class, below train/, val/ and test/
    or not; ucf101 and hmdb51: the official lists; table: a CSV, JSONL or Parquet file with a column url or path."""
    splits_dir: str | None = None
    """Folder of the official lists of ucf101 (trainlist01.txt, …) or hmdb51 (CLASS_test_split1.txt, …)."""
    fold: int = 1
    """Official split to take, 1 to 3."""
    root: str | None = None
    """Folder at which the relative paths of a table start (default: the table's own)."""
    allow_url_prefix: tuple[str, ...] = ()
    """Buckets or folders whose videos a table may name: besides its own bucket, where it lies in one; of a local table,
    these only (default: any)."""
    val_fraction: float = 0.0
    """Share of the videos to put into val, stratified by label and never through a group. Of a layout that comes with
    splits: share of its train videos."""
    test_fraction: float = 0.0
    """Share of the videos to put into test, as above; only for a layout that comes without splits."""
    seed: int = 0
    """Other seeds give other splits."""
    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    """File names that are videos, by their ending, upper or lower case."""
    allow_leakage: bool = False
    """Only warn when the same group, or the same content, is in two splits."""
    limit: int | None = None
    """Keep a sample of that many videos, the same ones every time."""

    def __post_init__(self) -> None:
        official = self.layout in ("ucf101", "hmdb51")
        if official and self.splits_dir is None:
            raise UsageError(f"layout {self.layout} reads the official lists; give their folder with --splits-dir")
        if not official and self.splits_dir is not None:
            raise UsageError(f"splits_dir is for the layouts ucf101 and hmdb51, not {self.layout}; leave it out")
        if self.fold not in (1, 2, 3):
            raise UsageError(f"fold must be 1, 2 or 3, got {self.fold}")
        if not official and self.fold != 1:
            raise UsageError(f"fold is for the layouts ucf101 and hmdb51, not {self.layout}; leave it out")
        if self.layout != "table" and self.root is not None:
            raise UsageError(f"root is for the layout table, not {self.layout}; give the folder as the source")
        if self.layout != "table" and self.allow_url_prefix:
            raise UsageError(f"allow_url_prefix is for the layout table, not {self.layout}; leave it out")
        for name in ("val_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.val_fraction + self.test_fraction >= 1:
            raise UsageError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing for train; "
                "they must sum to less than 1"
            )
        bare = [suffix for suffix in self.suffixes if not suffix.startswith(".")]
        if bare or not self.suffixes:
            raise UsageError(f"suffixes must each start with a dot, such as .mp4, got {' '.join(bare) or 'none'}")
        if not self.output.endswith(".parquet"):
            raise UsageError(f"output must end in .parquet, got {self.output}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, got {self.limit}; leave it out for all videos")
