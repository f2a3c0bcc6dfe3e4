"""A table with one row a video, kept as files named by a growing number: of two rows of a video the later one counts.

So replacing a row is writing a new one, a commit is one file that is there whole or not at all, and a crash between two
steps leaves a state that reads as one of them. The folder belongs to the table alone. Knows nothing of what rows mean.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.storage import filesystem
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files

SMALL_FILE_ROWS = 50_000


class Journal:
    """The files of one folder, all with the columns of `schema`; its metadata goes into the files that are written."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema

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
        names = self.names()
        self._write(table.cast(self.schema), _number(names[-1]) + 1 if names else 1)

    def compact(self) -> None:
        """Merge small files, and those with replaced rows, so that each video has one row for any reader.

        Files are merged with those of the same metadata only: a row stays with the facts that it was written under.
        """
        footers = {name: self._footer(name) for name in self.names()}
        if len(footers) < 2:
            return
        kept = self._kept_rows(footers)
        groups: dict[bytes, list[str]] = defaultdict(list)
        for name, footer in footers.items():
            groups[repr(sorted((footer.metadata or {}).items())).encode()].append(name)
        for names in groups.values():
            if all(len(kept[name]) == footers[name].num_rows for name in names):
                names = [name for name in names if footers[name].num_rows < SMALL_FILE_ROWS]
                if len(names) < 2:
                    continue
            self._merge(names, kept)

    def _merge(self, names: list[str], kept: dict[str, np.ndarray]) -> None:
        """Put the rows that count into one file, which takes the place of the last one in the order."""
        tables = []
        for name in names:
            data = read_buffer(join(self.folder, name))
            table = pq.read_table(pa.BufferReader(data))
            tables.append(table if len(table) == len(kept[name]) else table.take(pa.array(kept[name])))
        merged = pa.concat_tables(tables)
        written = self._write(merged, _number(names[-1])) if len(merged) else None
        remove_files(self.folder, [name for name in names if name != written])

    def _kept_rows(self, footers: dict[str, pq.FileMetaData]) -> dict[str, np.ndarray]:
        """Numbers of the rows of each file that no later row replaces."""
        latest = latest_indices(self.read_all(["video_id"], list(footers)))
        first, kept = 0, {}
        for name, footer in footers.items():
            start, stop = np.searchsorted(latest, (first, first + footer.num_rows))
            kept[name] = latest[start:stop] - first
            first += footer.num_rows
        return kept

    def _write(self, table: pa.Table, number: int) -> str:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        digest = hashlib.blake2b(sink.getvalue(), digest_size=6).hexdigest()
        name = f"{number:010d}-{digest}.parquet"
        put_bytes(sink.getvalue(), join(self.folder, name))
        return name

    def _footer(self, name: str) -> pq.FileMetaData:
        fs, path = filesystem(join(self.folder, name))
        with fs.open(path, "rb") as file:
            return pq.read_metadata(file)


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


def _number(name: str) -> int:
    return int(name.split("-")[0])
