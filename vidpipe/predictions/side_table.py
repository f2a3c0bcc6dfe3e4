"""Tables beside the predictions (segments, features): files that count only when a row of the predictions names them.

A file is written before the row that names it, so what a killed run leaves counts for nothing, and `sweep` removes it.
What others put beside the files stays, see `own_files`.

A file with rows of videos that were labelled again is rewritten without them: no reader sees a video twice.
"""

from __future__ import annotations

import hashlib
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.file_errors import own_file
from vidpipe.journal import METADATA_KEY, Journal, latest_rows
from vidpipe.own_files import SortedFiles, parquet_metadata, sort_files
from vidpipe.plain_tables import read_parquet
from vidpipe.transfer import file_sizes, join, list_folder, put_bytes, read_buffer, remove_files

SMALL_FILE_BYTES = 8 << 20
MERGED_BYTES = 64 << 20


class SideTable:
    """OUT/NAME, whose files the predictions name in their column `NAME_part`."""

    def __init__(self, output: str, name: str, journal: Journal, *, is_asked_for: bool) -> None:
        self.folder = join(output, name)
        self.column = f"{name}_part"
        self.is_asked_for = is_asked_for
        self._journal = journal

    def write(self, table: pa.Table) -> str:
        """A new file, named by what is in it."""
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: self.column}), sink, compression="zstd")
        name = hashlib.blake2b(sink.getvalue(), digest_size=12).hexdigest() + ".parquet"
        put_bytes(sink.getvalue(), join(self.folder, name))
        return name

    def tidy(self) -> None:
        """Rewrite files that hold what no longer counts, and merge small ones; the predictions name the new ones."""
        sizes = file_sizes(self.folder)
        if not sizes:
            return
        latest = self._journal.read(["video_id", self.column])
        named = set(pc.drop_null(latest[self.column]).to_pylist()) & set(sizes)
        stale = set(self._journal.stale(self.column))
        small = sorted(name for name in named - stale if sizes[name] < SMALL_FILE_BYTES)
        groups: list[list[str]] = [[]]
        for name in [*sorted(stale), *(small if len(small) > 1 else [])]:
            if sum(sizes[other] for other in groups[-1]) > MERGED_BYTES:
                groups.append([])
            groups[-1].append(name)
        for names in groups:
            if names:
                self._rewrite(names, latest)

    def sweep(self) -> int:
        """Remove vidpipe's files that no row names; returns how many.

        Before the rows are merged: those that were replaced still say which files there were.
        """
        names = self._files().left_over
        self._journal.check()
        remove_files(self.folder, names)
        return len(names)

    def others(self) -> list[str]:
        """Names of files in the folder that vidpipe did not write."""
        found = self._files().others
        if self.is_asked_for or not found:
            return found
        return [name for name in found if not _is_of_training(join(self.folder, name))]

    def _files(self) -> SortedFiles:
        if not list_folder(self.folder):
            return SortedFiles([], [])
        every = self._journal.read_all(["video_id", self.column])
        once, now = (set(pc.unique(rows[self.column]).to_pylist()) for rows in (every, latest_rows(every)))
        return sort_files(self.folder, now, once, METADATA_KEY)

    def missing(self) -> list[str]:
        """Files that a row names and that are not there."""
        named = set(pc.drop_null(self._journal.read(["video_id", self.column])[self.column]).to_pylist())
        return sorted(named - set(file_sizes(self.folder))) if named else []

    def _rewrite(self, names: list[str], latest: pa.Table) -> None:
        """Files into one for each kind of rows (features of another checkpoint have another width)."""
        by_schema: dict[str, tuple[list[pa.Table], list[pa.Array]]] = {}
        for name in names:
            ids = latest.filter(pc.equal(latest[self.column], name))["video_id"].combine_chunks()
            url = join(self.folder, name)
            data = read_buffer(url)
            with own_file(url, "remove it, and run the same command again with --relabel"):
                table = read_parquet(data)
            tables, videos = by_schema.setdefault(str(table.schema.remove_metadata()), ([], []))
            tables.append(table.replace_schema_metadata().filter(pc.is_in(table["video_id"], value_set=ids)))
            videos.append(ids)
        for tables, videos in by_schema.values():
            ids = pa.concat_arrays([part for ids in videos for part in _chunks(ids)])
            written = self.write(pa.concat_tables(tables))
            self._journal.amend(ids, self.column, pa.array([written] * len(ids), pa.string()))


def _is_of_training(url: str) -> bool:
    """Whether `training.features` keeps this file: in the same folder, when a model is trained into the same output."""
    return url.endswith(".parquet") and b"vidpipe.shape" in (parquet_metadata(url) or {})


def _chunks(values: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return values.chunks if isinstance(values, pa.ChunkedArray) else [values]
