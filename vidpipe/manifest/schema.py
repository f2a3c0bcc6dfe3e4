"""The manifest's columns, and its Parquet file. One row a video."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.plain_tables import read_parquet
from vidpipe.storage import FileInfo, storage_errors
from vidpipe.transfer import put_bytes, read_buffer

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("split", pa.string()),
    ]
)
FILES_SCHEMA = pa.schema([MANIFEST_SCHEMA.field(name) for name in ("url", "version", "size_bytes")])
MAX_COLUMN_BYTES = 2**31 - 1  # of text that Arrow sorts and takes rows of in one piece
SPLITS = ("train", "val", "test", "unused")


def video_id(url: str) -> str:
    """A video's stable name: 24 hex digits of its URL's BLAKE2b."""
    return blake2b(url.encode(), digest_size=12).hexdigest()


def files_table(files: Iterable[FileInfo]) -> pa.Table:
    """The columns of a listing, in order of URL; built in batches, so that no million objects are held at once.

    A storage that is busy may list an object twice (its pages are taken one after the other): it is there once.
    """
    remaining = iter(files)
    batches = []
    while batch := list(islice(remaining, 50_000)):
        columns = [[f.url for f in batch], [f.version for f in batch], [f.size_bytes for f in batch]]
        batches.append(pa.record_batch(columns, schema=FILES_SCHEMA))
    table = pa.Table.from_batches(batches, FILES_SCHEMA)
    check_size(table, "the listing")
    table = table.sort_by("url")
    urls = table["url"].combine_chunks()
    is_last = pc.not_equal(urls[:-1], urls[1:]).to_numpy(zero_copy_only=False)
    return table if is_last.all() else table.filter(np.append(is_last, True))


def build_manifest(
    files: pa.Table,
    label: pa.Array | list[str | None] | None = None,
    group: pa.Array | list[str | None] | None = None,
    split: pa.Array | list[str | None] | None = None,
) -> pa.Table:
    """A manifest of the columns of `files_table` and, row by row, what a layout knows of them."""
    columns: dict[str, object] = {
        "video_id": [video_id(url) for url in files["url"].to_pylist()],
        "url": files["url"],
        "version": files["version"],
        "size_bytes": files["size_bytes"],
    }
    for name, values in {"label": label, "group": group, "split": split}.items():
        columns[name] = pa.nulls(len(files), pa.string()) if values is None else values
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def write_manifest(manifest: pa.Table, url: str) -> None:
    """Write the manifest whole: a reader sees the old file or the new one, never a part."""
    buffer = pa.BufferOutputStream()
    pq.write_table(manifest, buffer, compression="zstd", row_group_size=100_000)
    with storage_errors(url):
        put_bytes(buffer.getvalue().to_pybytes(), url)


def read_manifest(url: str) -> pa.Table:
    """The manifest at `url`, with the columns of `MANIFEST_SCHEMA`; a UsageError says what it lacks."""
    with storage_errors(url):
        data = read_buffer(url)
    way_out = f"make a manifest of it with jobs/index.py {url} --layout table"
    with given_file(url, way_out, "is not a Parquet file, or not a whole one"):
        found = read_parquet(data)
    required = [field.name for field in MANIFEST_SCHEMA if not field.nullable]
    lacking = [name for name in required if name not in found.column_names]
    if lacking:
        raise UsageError(
            f"manifest {url} has no column {', '.join(lacking)} (it has {', '.join(found.column_names)}); "
            f"make one of it with jobs/index.py {url} --layout table"
        )
    for name in required:
        if found[name].null_count:
            raise UsageError(
                f"manifest {url} has {found[name].null_count} videos without {name}; "
                f"make it again with jobs/index.py {url} --layout table"
            )
    for field in MANIFEST_SCHEMA:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(len(found), field.type))
    manifest = pa.table([column_of(found, field, f"manifest {url}") for field in MANIFEST_SCHEMA], MANIFEST_SCHEMA)
    check_size(manifest, f"manifest {url}")
    check_unique(manifest, f"manifest {url}")
    check_splits(manifest["split"], f"manifest {url}")
    return manifest


def column_of(table: pa.Table, field: pa.Field, name: str) -> pa.ChunkedArray:
    """A column of the type that a manifest has there; UsageError when its values are no such."""
    try:
        return table[field.name].cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"{name}: column {field.name} must be of type {field.type}, it is {table[field.name].type} ({error})"
        ) from error


def check_size(videos: pa.Table, name: str) -> None:
    """UsageError when a column of text is larger than one run can handle: some 26 million URLs of 80 characters."""
    for column in [column for column in ("url", "version", "video_id") if column in videos.column_names]:
        num_bytes = pc.sum(pc.binary_length(videos[column])).as_py() or 0
        if num_bytes > MAX_COLUMN_BYTES:
            raise UsageError(
                f"{name} has {len(videos):,} videos, {num_bytes / 1e9:.1f} GB of {column}, and one run takes "
                f"{MAX_COLUMN_BYTES / 1e9:.1f}; give it a prefix, or a part of the manifest, and an output of its own "
                "(docs/scale.md)"
            )


def check_unique(videos: pa.Table, name: str) -> None:
    """UsageError when a URL, or a `video_id` where there is one, is listed more than once."""
    for column in [column for column in ("url", "video_id") if column in videos.column_names]:
        if pc.count_distinct(videos[column]).as_py() == len(videos):
            continue
        counts = pc.value_counts(videos[column])
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        raise UsageError(
            f"{name} lists {len(twice)} videos more than once (first: {twice[0].as_py()}); keep one row a {column}"
        )


def check_splits(split: pa.ChunkedArray, name: str) -> None:
    """UsageError when a split is none of `SPLITS`."""
    unknown = [value for value in pc.unique(split).to_pylist() if value is not None and value not in SPLITS]
    if unknown:
        raise UsageError(f"{name} has a split {unknown[0]!r}; a split is one of {', '.join(SPLITS)}, or empty")
