"""A table with one row a video, kept as files named by a growing number: of two rows of a video the later one counts.

So replacing a row is writing a new one, a commit is one file that is there whole or not at all, and a crash between two
steps leaves a state that reads as one of them. The folder belongs to the table alone. Knows nothing of what rows mean.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.storage import filesystem
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files

SMALL_FILE_ROWS = 50_000


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
        tables = [pa.schema([self.schema.field(column) for column in wanted]).empty_table()]
        for name in self.names() if names is None else names:
            data = read_buffer(join(self.folder, name))
            tables.append(pq.read_table(pa.BufferReader(data), columns=wanted).replace_schema_metadata())
        return pa.concat_tables(tables)

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
        rows = self.read()
        position = pc.index_in(rows["video_id"], value_set=video_ids)
        rows = rows.filter(pc.is_valid(position))
        if len(rows):
            changed = values.take(position.combine_chunks().drop_null())
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
        """Merge small files, and those with replaced rows, into one: each video has one row for any reader."""
        sizes = {name: self._num_rows(name) for name in self.names()}
        if len(sizes) < 2:
            return
        every = self.read_all(["video_id"])
        if len(latest_indices(every)) == len(every):
            merged = [name for name, size in sizes.items() if size < SMALL_FILE_ROWS]
        else:
            merged = list(sizes)
        if len(merged) < 2:
            return
        # Rows of the other files are not replaced by these: no video is in two files.
        self.commit(latest_rows(self.read_all(names=merged)))
        self.check()
        remove_files(self.folder, merged)

    def _num_rows(self, name: str) -> int:
        fs, path = filesystem(join(self.folder, name))
        with fs.open(path, "rb") as file:
            return pq.read_metadata(file).num_rows


def table_files(folder: str) -> list[str]:
    """Names of the finished Parquet files in a folder, sorted."""
    return [name for name in file_names(folder) if name.endswith(".parquet") and not name.startswith(".")]


def read_schema(url: str) -> pa.Schema:
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        return pq.read_schema(file)


def latest_rows(table: pa.Table) -> pa.Table:
    """The last row of each video, in the order of the table."""
    kept = latest_indices(table)
    return table if len(kept) == len(table) else table.take(pa.array(kept))


def latest_indices(table: pa.Table) -> np.ndarray:
    """Row numbers of `latest_rows`, ascending."""
    numbered = pa.table({"video_id": table["video_id"], "row": np.arange(len(table))})
    return np.sort(numbered.group_by("video_id").aggregate([("row", "max")])["row_max"].to_numpy())
