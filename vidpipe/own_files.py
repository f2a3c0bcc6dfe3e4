"""Tells vidpipe's files in an output's own folders from others. Those are never removed and never read, but named.

A file is vidpipe's when it has a name that vidpipe gives *and* holds a mark that vidpipe leaves (Parquet metadata), or
when rows of the output name it. What is removed is only ever taken from such a list, see `sort_files`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from vidpipe.errors import UsageError
from vidpipe.file_errors import is_unreadable
from vidpipe.storage import filesystem
from vidpipe.transfer import join, list_folder, read_buffer, read_head

logger = logging.getLogger(__name__)

METADATA_KEY = b"vidpipe"
"""A key of the metadata of each Parquet file of an output: the mark that vidpipe wrote it."""
CONTENT_NAME = re.compile(r"[0-9a-f]{24}\.parquet")
"""Parts, and tables beside the predictions: named by a hash of what is in them."""
UNFINISHED = r"\.{name}\.[0-9]+"
"""As `transfer.put_file` and `put_bytes` name a file on a local disk before it is whole."""
TABLE_FOLDERS = ("clips", "status", "predictions", "segments", "features")
TABLE_ENDINGS = (".parquet", ".parq", ".pq")
PARQUET_MAGIC = b"PAR1"
NAMES_SHOWN = 5
MAX_DEPTH = 8


@dataclass(frozen=True)
class SortedFiles:
    """The files of a folder of tables besides those in use; names of folders end with a slash."""

    left_over: list[str]
    """Files that vidpipe wrote, and that no row names (any more)."""
    others: list[str]
    """Whatever somebody else put there."""


def sort_files(folder: str, in_use: set[str], once_in_use: set[str], mark: bytes) -> SortedFiles:
    """Sort what lies in a folder whose files rows name; `mark` is a key of the metadata of each file written there.

    The footer is read of the few files only that no row ever named.
    """
    found = SortedFiles([], [])
    for name, is_link in _names(folder):
        if name in in_use:
            continue
        is_ours = name in once_in_use or (not is_link and _is_marked(join(folder, name), mark))
        (found.left_over if is_ours else found.others).append(name)
    return found


def others_in(folder: str, name: str) -> list[str]:
    """Names in a folder besides those that match the pattern `name`, whole or unfinished."""
    ours = re.compile(f"({name})|{UNFINISHED.format(name=f'({name})')}")
    return [found for found, _ in _names(folder) if not ours.fullmatch(found)]


def check_others(output: str, others: dict[str, list[str]]) -> None:
    """Name, in one warning, what others put into an output's own folders; `others` are names by folder.

    Raises UsageError for a table among them that any reader of the whole folder would take for vidpipe's rows.
    """
    for folder in others.keys() & TABLE_FOLDERS:
        for table in _tables(join(output, folder), others[folder]):
            raise UsageError(
                f"{table} is no file of the table {join(output, folder)}, and whoever reads that as a whole (DuckDB, "
                "pyarrow) would take its rows for those of the table; move it elsewhere, or give another --output"
            )
    found = [f"{folder}/{name}" for folder, names in others.items() for name in names]
    if found:
        more = f" and {len(found) - NAMES_SHOWN:,} more" if len(found) > NAMES_SHOWN else ""
        logger.warning(
            "%s holds files that vidpipe did not write (%s%s): they are left alone, and not read",
            output,
            ", ".join(found[:NAMES_SHOWN]),
            more,
        )


def parquet_metadata(url: str) -> dict[bytes, bytes] | None:
    """The metadata of a Parquet file, from its footer alone; None for a file that is none, or not whole."""
    fs, path = filesystem(url)
    try:
        with fs.open(path, "rb", cache_type="readahead", block_size=1 << 16) as file:
            return pq.read_metadata(file).metadata or {}
    except FileNotFoundError:  # another run removed it
        return None
    except Exception as error:
        if is_unreadable(error):  # some storages show a file before it is whole
            return None
        raise


def _names(folder: str) -> Iterator[tuple[str, bool]]:
    """Names of all that lies in a folder, those of folders with a slash, and whether each is a link."""
    entries = list_folder(folder)
    for entry in sorted(entries, key=lambda entry: entry["name"]):
        slash = "/" if entry["type"] == "directory" else ""
        yield entry["name"].rstrip("/").rsplit("/", 1)[-1] + slash, bool(entry.get("islink"))


def _is_marked(url: str, mark: bytes) -> bool:
    """Whether vidpipe wrote a file that no row names: by its name, and by what is in it."""
    name = url.rsplit("/", 1)[-1]
    if CONTENT_NAME.fullmatch(name):
        metadata = parquet_metadata(url)
        # Tables beside the predictions had no mark in 2026-11 yet; their name is a hash of the very bytes.
        return metadata is not None and (mark in metadata or _is_hash_of_content(url))
    if re.fullmatch(UNFINISHED.format(name=f"({CONTENT_NAME.pattern})"), name):
        metadata = parquet_metadata(url)
        return mark in metadata if metadata is not None else read_head(url, 4) in (PARQUET_MAGIC, b"")
    return False


def _is_hash_of_content(url: str) -> bool:
    digest = hashlib.blake2b(read_buffer(url), digest_size=12).hexdigest()
    return url.endswith(f"/{digest}.parquet")


def _tables(folder: str, names: list[str], depth: int = 0) -> Iterator[str]:
    """URLs of the tables among these files and below these folders."""
    for name in names:
        url = join(folder, name.rstrip("/"))
        if name.endswith("/"):
            if not name.startswith((".", "_")) and depth < MAX_DEPTH:  # which readers of a folder pass over
                yield from _tables(url, [below for below, _ in _names(url)], depth + 1)
        elif name.lower().endswith(TABLE_ENDINGS):
            # Macs leave hidden files beside others ("._x.parquet"), and a file of a name of ours may not be whole yet.
            is_unsure = name.startswith(".") or CONTENT_NAME.fullmatch(name)
            if not is_unsure or parquet_metadata(url) is not None:
                yield url
