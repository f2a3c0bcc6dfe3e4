"""List videos into a manifest: no Ray, one process."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.config import IndexConfig
from vidpipe.interrupts import ignore_interrupts
from vidpipe.manifest.make import make_manifest
from vidpipe.manifest.schema import write_manifest

logger = logging.getLogger(__name__)


def index_videos(config: IndexConfig) -> pa.Table:
    """Make the manifest of `config.source`, write it to `config.output` and log what it holds."""
    manifest = make_manifest(config)
    write_manifest(manifest, config.output)
    ignore_interrupts()
    for line in manifest_summary(manifest):
        logger.info("%s", line)
    logger.info("wrote %s; next: jobs/preprocess.py %s", config.output, config.output)
    return manifest


def manifest_summary(manifest: pa.Table) -> list[str]:
    """Lines of a small table: all videos, then those of each split."""
    lines = [f"{'':8}{'videos':>12}{'GB':>12}{'labels':>10}{'groups':>10}"]
    lines.append(_summary_line("all", manifest))
    splits = [
        split for split in ("train", "val", "test", "unused", None) if split in pc.unique(manifest["split"]).to_pylist()
    ]
    for split in splits if splits != [None] else []:
        chosen = pc.is_null(manifest["split"]) if split is None else pc.equal(manifest["split"], split)
        lines.append(_summary_line(split or "no split", manifest.filter(pc.fill_null(chosen, False))))
    return lines


def _summary_line(name: str, videos: pa.Table) -> str:
    num_gigabytes = pc.sum(videos["size_bytes"], min_count=0).as_py() / 1e9
    labels, groups = (pc.count_distinct(videos[column]).as_py() for column in ("label", "group"))
    return f"{name:8}{len(videos):12,}{num_gigabytes:12,.2f}{labels:10,}{groups:10,}"
