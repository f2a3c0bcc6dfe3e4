"""From the settings of an index to its manifest: list, lay out, split, audit."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from vidpipe.config import IndexConfig
from vidpipe.errors import UsageError
from vidpipe.listing import list_files
from vidpipe.manifest.audit import audit_splits
from vidpipe.manifest.layouts import flat, folders, hmdb51, relative_paths, ucf101
from vidpipe.manifest.reach import Reach
from vidpipe.manifest.schema import files_table
from vidpipe.manifest.tables import table
from vidpipe.plain_text import shown

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


def make_manifest(config: IndexConfig) -> pa.Table:
    """The manifest that the settings ask for, in order of URL; a UsageError says why there is none."""
    manifest = LAYOUTS[config.layout](config)
    if config.limit is not None and config.limit < len(manifest):
        # The ids are hashes, so the smallest ones are a sample of all folders, and the same one every time.
        manifest = manifest.sort_by("video_id").slice(0, config.limit).sort_by("url")
    manifest = _with_fractions(manifest, config)
    audit_splits(manifest, allow_leakage=config.allow_leakage)
    return manifest


def list_videos(config: IndexConfig) -> pa.Table:
    """The columns of a listing of `config.source`, in order of URL; a UsageError says why there is none."""
    suffixes = frozenset(suffix.lower() for suffix in config.suffixes)
    with _Progress(f"listing {config.source}", "files") as progress:
        files = files_table(list_files(config.source, suffixes=suffixes, on_progress=progress))
    if not len(files):
        raise UsageError(
            f"no videos in {config.source}: {progress.num_done:,} files seen, none ends in "
            f"{' '.join(config.suffixes)}; check the folder; jobs/index.py --suffixes takes other endings"
        )
    Reach(config.source, None).check([config.source])  # which all of their URLs begin with
    return files


def _flat(config: IndexConfig) -> pa.Table:
    files = list_videos(config)
    if all("/" in path for path in relative_paths(files, config.source)):
        logger.info("all videos lie in folders of %s; to take those as labels: --layout folders", config.source)
    return flat(files)


def _folders(config: IndexConfig) -> pa.Table:
    return folders(list_videos(config), config.source)


def _ucf101(config: IndexConfig) -> pa.Table:
    return ucf101(list_videos(config), config.source, splits_dir=str(config.splits_dir), fold=config.fold)


def _hmdb51(config: IndexConfig) -> pa.Table:
    return hmdb51(list_videos(config), config.source, splits_dir=str(config.splits_dir), fold=config.fold)


def _table(config: IndexConfig) -> pa.Table:
    with _Progress(f"looking up the videos of {config.source}", "videos") as progress:
        return table(config.source, config.root, progress, config.allow_url_prefix)


LAYOUTS: dict[str, Callable[[IndexConfig], pa.Table]] = {
    "flat": _flat,
    "folders": _folders,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "table": _table,
}


def _with_fractions(manifest: pa.Table, config: IndexConfig) -> pa.Table:
    """Splits by `--val-fraction` and `--test-fraction`; of a layout with splits, only val, taken from train."""
    if not config.val_fraction and not config.test_fraction:
        return manifest
    # scikit-learn takes two seconds to import.
    from vidpipe.manifest.splits import assign_splits, carve_val

    given = [split for split in pc.unique(manifest["split"]).to_pylist() if split is not None]
    if not given:
        train_fraction = 1 - config.val_fraction - config.test_fraction
        fractions = {"train": train_fraction, "val": config.val_fraction, "test": config.test_fraction}
        return assign_splits(manifest, fractions, config.seed)
    if config.test_fraction or "val" in given or "train" not in given:
        raise UsageError(
            f"{config.source} comes with the splits {', '.join(sorted(given))}, and fractions do not replace them; "
            "leave out --test-fraction, and give --val-fraction only where there is a train and no val"
        )
    return carve_val(manifest, config.val_fraction, config.seed)


class _Progress:
    """What was counted so far: a bar on a terminal, else a line every `LOG_EVERY_S`."""

    def __init__(self, task: str, unit: str) -> None:
        self.task, self.unit = task, unit
        self.num_done = 0
        self.logged_at = time.monotonic()
        self.bar = tqdm(desc=shown(task), unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, num_done: int) -> None:
        self.bar.update(num_done - self.num_done)
        self.num_done = num_done
        if self.bar.disable and time.monotonic() - self.logged_at >= LOG_EVERY_S:
            self.logged_at = time.monotonic()
            logger.info("%s: %s %s", self.task, f"{num_done:,}", self.unit)
