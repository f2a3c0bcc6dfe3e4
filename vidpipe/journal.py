"""A table with one row a video, kept as files named by a growing number: of two rows of a video the later one counts.

So replacing a row is writing a new one, a commit is one file that is there whole or not at all, and a crash between two
steps leaves a state that reads as one of them. The folder belongs to the table alone. Knows nothing of what rows mean.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.errors import UsageError
from vidpipe.file_errors import own_file
from vidpipe.own_files import METADATA_KEY
from vidpipe.storage import filesystem
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files

SMALL_FILE_ROWS = 50_000
LARGE_FILE_ROWS = 1_000_000  # of a merged file; a reader holds one file whole, besides the columns that it wants
WAY_OUT = "remove it, and run the same command again: the videos of which it told are done again where need be"
NAME = r"[0-9]{10,}-[0-9a-f]{12}\.parquet"
NUM_READERS = 8  # a run of a day leaves thousands of files, and a request takes tens of milliseconds


class Journal:
    """The files of one folder, all with the columns of `schema`; its metadata goes into the files that are written."""

    def __init__(self, folder: str, schema: pa.Schema, check: Callable[[], None] = lambda: None) -> None:
        """`check` is called before anything is written or removed, and raises when this process may not."""
        self.folder, self.schema, self.check = folder, schema, check

    def names(self) -> list[str]:
        """The files in the order in which they were committed."""
        return table_files(self.folder)

    def read(self, columns: Iterable[str] | None = None) -> pa.Table:
        """The last row of every video."""
        return latest_rows(self.read_all(columns))

    def read_all(self, columns: Iterable[str] | None = None, names: list[str] | None = None) -> pa.Table:
        """Rows of all files, or of some, in the order in which they were committed."""
        wanted = self.schema.names if columns is None else [*columns]
        empty = pa.schema([self.schema.field(column) for column in wanted]).empty_table()
        return pa.concat_tables([empty, *self._tables(self.names() if names is None else names, wanted)])

    def _tables(self, names: list[str], columns: list[str]) -> Iterator[pa.Table]:
        """The files one after the other; some are fetched ahead."""
        urls = [join(self.folder, name) for name in names]
        with ThreadPoolExecutor(NUM_READERS) as pool:
            for first in range(0, len(urls), NUM_READERS):
                some = urls[first : first + NUM_READERS]
                for url, data in zip(some, pool.map(read_buffer, some), strict=True):
                    with own_file(url, WAY_OUT):
                        table = self._columns_of(data, url, columns)
                    yield table

    def _columns_of(self, data: pa.Buffer, url: str, columns: list[str]) -> pa.Table:
        """Read some columns of a file; one that was added later is null where the file is older."""
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            check_marked(file.schema_arrow, url)
            there = [name for name in columns if name in file.schema_arrow.names]
            table = file.read(columns=there).replace_schema_metadata()
        for index, name in enumerate(columns):
            if name not in there:
                table = table.add_column(index, name, pa.nulls(len(table), self.schema.field(name).type))
        return table

    def commit(self, rows: list[dict[str, Any]] | pa.Table) -> None:
        """Write rows; they count from the moment that the file is there, all of them at once."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, self.schema)
        sink = io.BytesIO()
        pq.write_table(table.cast(self.schema), sink, compression="zstd")
        names = self.names()
        number = int(names[-1].split("-")[0]) + 1 if names else 1
        self.check()
        digest = hashlib.blake2b(sink.getvalue(), digest_size=6).hexdigest()
        put_bytes(sink.getvalue(), join(self.folder, f"{number:010d}-{digest}.parquet"))

    def amend(self, video_ids: pa.Array, column: str, values: pa.Array) -> None:
        """Write the rows of some videos once more, with another value in one column."""
        if not len(video_ids):
            return
        tables = self._tables(self.names(), self.schema.names)
        theirs = [table.filter(pc.is_in(table["video_id"], value_set=video_ids)) for table in tables]
        rows = latest_rows(pa.concat_tables([self.schema.remove_metadata().empty_table(), *theirs]))
        if len(rows):
            changed = values.take(pc.index_in(rows["video_id"], value_set=video_ids))
            self.commit(rows.set_column(rows.schema.get_field_index(column), column, changed))

    def stale(self, column: str) -> list[str]:
        """Files that `column` names, and that earlier rows of other videos named too: some of theirs is out of date."""
        every = self.read_all(["video_id", column])
        latest = latest_rows(every)
        now = latest[column].take(pc.index_in(every["video_id"], value_set=latest["video_id"].combine_chunks()))
        # A row that was written again as it is, as by a compaction that broke off, moves nothing.
        moved = pc.not_equal(every[column], pc.fill_null(now, ""))
        return sorted(set(pc.drop_null(every.filter(moved)[column]).to_pylist()) & set(latest[column].to_pylist()))

    def compact(self) -> None:
        """Merge small files, and those with replaced rows, so that each video has one row for any reader."""
        names = self.names()
        if len(names) < 2:
            return
        tables = list(self._tables(names, ["video_id"]))
        is_latest = np.zeros(sum(map(len, tables)), bool)
        is_latest[latest_indices(pa.concat_tables(tables))] = True
        counting = dict(zip(names, np.split(is_latest, np.cumsum([len(table) for table in tables])[:-1]), strict=True))
        merged = {name: rows for name, rows in counting.items() if len(rows) < SMALL_FILE_ROWS or not rows.all()}
        if len(merged) < 2 and all(rows.all() for rows in merged.values()):
            return
        self._write_again(merged)
        self.check()
        remove_files(self.folder, list(merged))

    def _write_again(self, counting: dict[str, np.ndarray]) -> None:
        """Commit the rows that count of some files, a large file's worth at a time."""
        held = self.schema.remove_metadata().empty_table()
        for table, counts in zip(self._tables(list(counting), self.schema.names), counting.values(), strict=True):
            held = pa.concat_tables([held, table.filter(pa.array(counts))])
            while len(held) >= LARGE_FILE_ROWS:
                self.commit(held.slice(0, LARGE_FILE_ROWS))
                held = held.slice(LARGE_FILE_ROWS)
        if len(held):
            self.commit(held)


def table_files(folder: str) -> list[str]:
    """Names of a journal's finished files in a folder, in the order in which they were committed."""
    return [name for name in file_names(folder) if re.fullmatch(NAME, name)]


def read_schema(url: str) -> pa.Schema:
    """The columns of a journal's file, with the metadata that all of them share."""
    fs, path = filesystem(url)
    with own_file(url, WAY_OUT), fs.open(path, "rb") as file:
        schema = pq.read_schema(file)
    check_marked(schema, url)
    return schema


def check_marked(schema: pa.Schema, url: str) -> None:
    """Raise UsageError for a file of somebody else's that has the name of a journal's."""
    if METADATA_KEY not in (schema.metadata or {}):
        raise UsageError(
            f"{url} was not written by vidpipe, whose tables say so in their metadata; move it elsewhere, "
            "or give another output"
        )


def latest_rows(table: pa.Table) -> pa.Table:
    """The last row of each video, in the order of the table."""
    kept = latest_indices(table)
    return table if len(kept) == len(table) else table.take(pa.array(kept))


def latest_indices(table: pa.Table) -> np.ndarray:
    """Row numbers of `latest_rows`, ascending."""
    numbered = pa.table({"video_id": table["video_id"], "row": np.arange(len(table))})
    return np.sort(numbered.group_by("video_id").aggregate([("row", "max")])["row_max"].to_numpy())
