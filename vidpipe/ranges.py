"""A large object of which only the wanted bytes are fetched: a sparse local copy that fills as its reader asks.

Knows nothing about videos: `vidpipe.decode.by_range.file` decides which bytes, in a process without credentials.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vidpipe.storage import filesystem

FROM_BYTES = 16 << 20  # smaller objects are fetched whole: one request instead of twenty, for the same time and CPU
HEAD_BYTES = 256 << 10  # fetched before anything is known about the object
REQUEST_BYTES = 16 << 20  # a larger range is fetched in pieces
BATCH_BYTES = 32 << 20  # pieces fetched at the same time, and so the memory that fetching takes


class RangeError(ValueError):
    """Ranges were asked for that no honest reader asks for."""


class RangeCopy:
    """The wanted bytes of the object at `url`, at their own places in the local file `path`; the rest are holes."""

    def __init__(self, url: str, size_bytes: int, path: Path) -> None:
        self._fs, self._remote_path = filesystem(url)
        self.path = path
        self.size_bytes = size_bytes
        self.num_bytes = 0
        self.num_requests = 0
        with open(path, "wb") as file:
            file.truncate(size_bytes)
        self.have: list[tuple[int, int]] = []
        self.fetch([(0, min(HEAD_BYTES, size_bytes))])

    def fetch(self, ranges: list[tuple[int, int]]) -> None:
        """Fetch bytes from `start` to before `stop` of each range, many at a time; faults of the storage fly.

        Raises RangeError for bytes that the object does not have, and where it would be fetched more than twice.
        """
        for batch in _batches(self._checked(ranges)):
            starts, stops = [start for start, _ in batch], [stop for _, stop in batch]
            blocks = self._fs.cat_ranges([self._remote_path] * len(batch), starts, stops, on_error="raise")
            self.num_requests += len(batch)
            with open(self.path, "r+b") as file:
                for (start, stop), block in zip(batch, blocks, strict=True):
                    if len(block) != stop - start:
                        raise OSError(f"{self._remote_path}: {len(block)} bytes came for bytes {start} to {stop}")
                    os.pwrite(file.fileno(), block, start)
                    self.num_bytes += len(block)
            self.have += batch

    def _checked(self, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The reader may be in the hands of a hostile file: it gets the object's own bytes, and not for ever."""
        if not all(0 <= start < stop <= self.size_bytes for start, stop in ranges):
            raise RangeError(f"ranges outside of 0 to {self.size_bytes}: {ranges[:3]}")
        if self.num_bytes + sum(stop - start for start, stop in ranges) > 2 * self.size_bytes:
            raise RangeError(f"more than twice the {self.size_bytes} bytes of the object")
        return ranges


def _batches(ranges: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The ranges in pieces, as many at a time as the memory allows."""
    batch: list[tuple[int, int]] = []
    num_bytes = 0
    for start, stop in ranges:
        for first in range(start, stop, REQUEST_BYTES):
            piece = first, min(first + REQUEST_BYTES, stop)
            if batch and num_bytes + piece[1] - piece[0] > BATCH_BYTES:
                yield batch
                batch, num_bytes = [], 0
            batch.append(piece)
            num_bytes += piece[1] - piece[0]
    if batch:
        yield batch
