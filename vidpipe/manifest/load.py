"""The manifest of whatever a job was given: a manifest, a table that lists videos, a folder or a prefix."""

from __future__ import annotations

import posixpath
from itertools import chain
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.config import IndexConfig
from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.manifest.make import list_videos, make_manifest
from vidpipe.manifest.reach import reach_of
from vidpipe.manifest.schema import build_manifest, read_manifest
from vidpipe.manifest.tables import READERS
from vidpipe.storage import filesystem, storage_errors

BATCH_ROWS = 50_000


def is_table(source: str) -> bool:
    return posixpath.splitext(source)[1].lower() in READERS


def load_manifest(source: str, layout: Literal["flat", "folders"] | None, allowed: tuple[str, ...] = ()) -> pa.Table:
    """The manifest given, or one made of the table, folder or prefix given; `layout` is of the latter two, None where
    labels do not matter. `allowed`: what a manifest or table may name besides, see `reach_of`."""
    if is_table(source):
        if source.lower().endswith(".parquet") and "video_id" in _parquet_columns(source):
            manifest = read_manifest(source)
            urls = manifest["url"]  # of millions, not all at once as Python's texts
            parts = (urls.slice(start, BATCH_ROWS).to_pylist() for start in range(0, len(urls), BATCH_ROWS))
            reach_of(source, allowed).check(chain.from_iterable(parts))
            return manifest
        return make_manifest(IndexConfig(source=source, layout="table", allow_url_prefix=allowed))
    if allowed:
        raise UsageError(
            f"allow_url_prefix is for a manifest or a table, and {source} is listed itself: nothing outside is read; "
            "leave it out"
        )
    if layout is None:
        return build_manifest(list_videos(IndexConfig(source=source)))
    return make_manifest(IndexConfig(source=source, layout=layout))


def _parquet_columns(url: str) -> list[str]:
    with storage_errors(url):
        fs, path = filesystem(url)
        way_out, what = "give a manifest made by jobs/index.py", "is not a Parquet file, or not a whole one"
        with given_file(url, way_out, what), fs.open(path, "rb") as file:
            return pq.read_schema(file).names
