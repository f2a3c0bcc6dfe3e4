"""Kept features as files: one table per split, and the pieces in which it comes about.

    OUT/features/SPLIT-KEY.parquet                      all clips of the split: the same on any number of ranks
    OUT/features/SPLIT-KEY.00000128-00000256.piece      of clips 128 to 255, until that is there

Both are Parquet with one row per clip: video_id, clip_index, features (float32, flat), and the shape of a row in the
metadata. A piece holds a mark as well: no file without it is ever read as one, or removed.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vidpipe.file_errors import is_unreadable, own_file
from vidpipe.plain_tables import read_parquet
from vidpipe.training.clip_rows import ClipRows
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files

logger = logging.getLogger(__name__)

WAY_OUT = "remove it, and it is computed again"
SHAPE_KEY = b"vidpipe.shape"
PIECE_KEY = b"vidpipe.piece"
PIECE_EVERY_S = 30.0
MAX_PIECE_BYTES = 256 << 20


def are_kept(url: str, rows: ClipRows) -> bool:
    """Whether the file is there and has just these rows: parts that were rewritten come in another order."""
    folder, _, name = url.rpartition("/")
    if name not in file_names(folder):
        return False
    data = read_buffer(url)
    with own_file(url, WAY_OUT):
        table = read_parquet(data, ["video_id", "clip_index"])
    return _is_of(table, rows, slice(0, len(rows)))


def write_features(url: str, rows: ClipRows, features: np.ndarray, shape: tuple[int, ...]) -> None:
    """Keep features (N, prod(shape)) float32, one row for each row of the split."""
    _write(url, rows, slice(0, len(rows)), features, {SHAPE_KEY: json.dumps(shape)})


def read_features(url: str, rows: ClipRows) -> torch.Tensor:
    """Features of the rows of a split, (N, *shape) float32."""
    data = read_buffer(url)
    with own_file(url, WAY_OUT):
        table = read_parquet(data)
    shape = json.loads(table.schema.metadata[SHAPE_KEY])
    flat = _flat(table)
    assert len(flat) == len(rows) * math.prod(shape)
    return torch.from_numpy(flat.reshape(len(rows), *shape).copy())


class Pieces:
    """The pieces of one table: each rank writes its own, the first one reads those of all ranks and of earlier runs."""

    def __init__(self, folder: str, name: str, rows: ClipRows):
        self.name = name
        self._folder, self._rows = folder, rows
        self._pattern = re.compile(re.escape(name) + r"\.(\d{8})-\d{8}\.piece")
        self._pending: list[np.ndarray] = []
        self._first = self._end = 0
        self._shape: tuple[int, ...] = ()
        self._written_s = time.monotonic()

    def is_done(self) -> np.ndarray:
        """(N,) whether the features of a row lie in a piece."""
        done = np.zeros(len(self._rows), bool)
        for place, _ in self._usable(["video_id", "clip_index"]):
            done[place] = True
        return done

    def add(self, wanted: np.ndarray, features: np.ndarray, shape: tuple[int, ...]) -> None:
        """Keep the features (B, prod(shape)) of neighbouring rows (B,); written with others, within half a minute."""
        if wanted[0] != self._end:
            self.write()
            self._first = int(wanted[0])
        self._pending.append(features)
        self._end, self._shape = int(wanted[-1]) + 1, shape
        num_bytes = sum(batch.nbytes for batch in self._pending)
        if time.monotonic() - self._written_s >= PIECE_EVERY_S or num_bytes >= MAX_PIECE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what was added since the last piece."""
        if self._pending:
            url = join(self._folder, f"{self.name}.{self._first:08d}-{self._end:08d}.piece")
            marks = {SHAPE_KEY: json.dumps(self._shape), PIECE_KEY: self.name}
            _write(url, self._rows, slice(self._first, self._end), np.concatenate(self._pending), marks)
        self._pending, self._first, self._written_s = [], self._end, time.monotonic()

    def read(self) -> tuple[np.ndarray, tuple[int, ...]]:
        """Features of all rows, (N, prod(shape)) float32, and the shape of one; RuntimeError unless all are there."""
        num_rows, shape = len(self._rows), ()
        done, features = np.zeros(num_rows, bool), np.empty((num_rows, 0), np.float32)
        for place, table in self._usable():
            shape = tuple(json.loads(table.schema.metadata[SHAPE_KEY]))
            if not done.any():
                features = np.empty((num_rows, math.prod(shape)), np.float32)
            features[place], done[place] = _flat(table).reshape(len(table), -1), True
        if not done.all():
            raise RuntimeError(f"{num_rows - done.sum()} of {num_rows} clips have no features in {self._folder}")
        return features, shape

    def remove(self) -> None:
        """Remove all pieces of this table."""
        remove_files(self._folder, [name for name, _, _ in self._marked(["clip_index"])])

    def _usable(self, columns: list[str] | None = None) -> Iterator[tuple[slice, pa.Table]]:
        """Pieces of these very rows, with the rows that they hold."""
        for _, first, table in self._marked(columns):
            place = slice(first, first + len(table))
            if _is_of(table, self._rows, place):
                yield place, table

    def _marked(self, columns: list[str] | None) -> Iterator[tuple[str, int, pa.Table]]:
        """Name, number of the first row and content of each piece."""
        for name in file_names(self._folder):
            if not (found := self._pattern.fullmatch(name)):
                continue
            try:
                table = read_parquet(read_buffer(join(self._folder, name)), columns)
            except Exception as error:
                if not is_unreadable(error):
                    raise
                logger.warning("%s cannot be read (%s) and is left alone", join(self._folder, name), error)
                continue
            if (table.schema.metadata or {}).get(PIECE_KEY) == self.name.encode():
                yield name, int(found[1]), table


def _is_of(table: pa.Table, rows: ClipRows, place: slice) -> bool:
    """Whether a table has just these rows of a split."""
    return np.array_equal(table["clip_index"].to_numpy(), rows.clip_index[place]) and (
        table["video_id"].to_pylist() == rows.video_ids[place].tolist()
    )


def _write(url: str, rows: ClipRows, place: slice, features: np.ndarray, metadata: dict[bytes, str]) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    ids = {"video_id": rows.video_ids[place].tolist(), "clip_index": rows.clip_index[place]}
    table = pa.table({**ids, "features": values})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    put_bytes(sink.getvalue().to_pybytes(), url)


def _flat(table: pa.Table) -> np.ndarray:
    flat: np.ndarray = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat
