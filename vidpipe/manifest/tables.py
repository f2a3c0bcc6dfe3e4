"""Manifests from a table that lists videos: CSV, JSONL or Parquet."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.manifest.layouts import SPLIT_FOLDERS
from vidpipe.manifest.reach import reach_of
from vidpipe.manifest.schema import MANIFEST_SCHEMA, build_manifest, check_splits, check_unique, column_of
from vidpipe.plain_tables import read_parquet
from vidpipe.storage import MISSING, FileInfo, absolute_url, file_info, storage_errors
from vidpipe.transfer import read_buffer

logger = logging.getLogger(__name__)

NUM_LOOKUPS = 32
_BATCH_ROWS = 10_000
_TEXT_COLUMNS = ("url", "path", "label", "group", "split", "version")


def _read_csv(data: pa.Buffer) -> pa.Table:
    # An empty cell is no value; "NA" and "null" are labels like any other.
    options = pyarrow.csv.ConvertOptions(
        column_types={**dict.fromkeys(_TEXT_COLUMNS, pa.string()), "size_bytes": pa.int64()},
        strings_can_be_null=True,
        null_values=[""],
    )
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(pa.BufferReader(data), convert_options=options, parse_options=parsing)


def _read_jsonl(data: pa.Buffer) -> pa.Table:
    return pyarrow.json.read_json(pa.BufferReader(data))


def _read_parquet(data: pa.Buffer) -> pa.Table:
    return read_parquet(data)


READERS: dict[str, Callable[[pa.Buffer], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def table(
    source: str,
    root: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    allowed: tuple[str, ...] = (),
) -> pa.Table:
    """A manifest of the videos that a table lists in its column `url`, or else `path`.

    Relative paths start at `root`, by default the table's folder. Sizes and versions that the table does not give are
    looked up, one request a video; a video that is not there keeps its row, with version `MISSING`. `on_progress` is
    told how many were looked up so far. `allowed`: see `reach_of`; nothing is asked of a storage that is not.
    """
    found = _read_table(source)
    address = next((name for name in ("url", "path") if name in found.column_names), None)
    if address is None:
        raise UsageError(
            f"{source} has no column url or path (it has {', '.join(found.column_names)}); "
            "name the column of the videos' addresses url, or path where they are relative to the table or to --root"
        )
    if not len(found):
        raise UsageError(f"no videos in {source}: the table has no rows; fill it, or give a folder")
    known = {address, *MANIFEST_SCHEMA.names}
    unused = [name for name in found.column_names if name not in known]
    if unused:
        logger.warning("%s: columns not used: %s", source, ", ".join(unused))
    if found[address].null_count:
        row = pc.index(pc.is_null(found[address]), True).as_py()
        raise UsageError(
            f"{source} has {found[address].null_count} rows without {address} (first: row {row + 1}); fill or drop them"
        )
    columns = {name: _column(found, name, source) for name in MANIFEST_SCHEMA.names if name not in ("video_id", "url")}
    start = absolute_url(root if root is not None else posixpath.dirname(absolute_url(source)))
    addresses = column_of(found, pa.field(address, pa.string()), source)
    named = [_resolve(value, start) for value in addresses.to_pylist()]
    reach_of(source, allowed, root).check(named)
    urls = [absolute_url(url) for url in named]
    check_unique(pa.table({"url": urls}), source)
    files = _look_up(urls, columns["version"], columns["size_bytes"], on_progress)
    num_missing = pc.sum(pc.equal(files["version"], MISSING)).as_py()
    if num_missing:
        logger.warning("%d of the %d videos in %s are not there; they keep their rows", num_missing, len(urls), source)
    split = pa.chunked_array(
        [[SPLIT_FOLDERS.get(str(v).lower(), v) for v in columns["split"].to_pylist()]], pa.string()
    )
    check_splits(split, source)
    return build_manifest(files, label=columns["label"], group=columns["group"], split=split).sort_by("url")


def _read_table(source: str) -> pa.Table:
    with storage_errors(source):
        suffix = posixpath.splitext(source)[1].lower()
        if suffix not in READERS:
            raise UsageError(
                f"{source} must end in {', '.join(READERS)} for --layout table; to list a folder use another"
            )
        data = read_buffer(source)
    with given_file(source, "correct the file", f"cannot be read as {suffix}"):
        return READERS[suffix](data)


def _column(found: pa.Table, name: str, source: str) -> pa.ChunkedArray:
    field = MANIFEST_SCHEMA.field(name)
    if name not in found.column_names:
        return pa.chunked_array([pa.nulls(len(found), field.type)])
    return column_of(found, field, source)


def _resolve(value: str, start: str) -> str:
    if "://" in value or value.startswith(("/", "~/")):
        return value
    return f"{start.rstrip('/')}/{value}"


def _look_up(
    urls: list[str], version: pa.ChunkedArray, size_bytes: pa.ChunkedArray, on_progress: Callable[[int], None] | None
) -> pa.Table:
    """The columns of a listing; asks the storage only for rows that lack a size or a version."""
    versions, sizes = version.to_pylist(), size_bytes.to_pylist()
    wanted = [index for index in range(len(urls)) if versions[index] is None or sizes[index] is None]
    with ThreadPoolExecutor(NUM_LOOKUPS) as pool:
        for start in range(0, len(wanted), _BATCH_ROWS):
            batch = wanted[start : start + _BATCH_ROWS]
            for index, info in zip(batch, pool.map(_file_info, (urls[index] for index in batch)), strict=True):
                versions[index] = info.version if versions[index] is None else versions[index]
                sizes[index] = info.size_bytes if sizes[index] is None else sizes[index]
            if on_progress:
                on_progress(start + len(batch))
    return pa.table({"url": urls, "version": versions, "size_bytes": sizes})


def _file_info(url: str) -> FileInfo:
    with storage_errors(url):
        return file_info(url)
