"""A file of which only some bytes are here: what is read and missing is asked for, or reads as zeros while hollow."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import BinaryIO

Range = tuple[int, int]

GAP_BYTES = 256 << 10  # what lies between two wanted ranges costs less than another request
MISS_BYTES = 128 << 10  # fetched at least for a read that nobody announced; doubles while such reads follow each other
MAX_MISS_BYTES = 4 << 20
TAIL_BYTES = 1 << 20  # a read this near to the end is for the index there, which is fetched as one
HEADER_BYTES = 4096
ZEROS = bytes(1 << 16)


class RangeFile:
    """A binary file, read by position, over a sparse local copy of `size_bytes` at `path`.

    `fetch` brings ranges into the copy. What is missing of the `hollow` ranges reads as zeros instead: enough for a
    demuxer that knows from its index where each packet lies. `disguise` gives the bytes that are read at some places
    instead of the file's own.
    """

    def __init__(self, path: str, size_bytes: int, have: list[Range], fetch: Callable[[list[Range]], None]) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.hollow: list[Range] = []
        self.disguise: list[tuple[int, bytes]] = []
        self._have = merged([(start, stop) for start, stop in have], 0)
        self._fetch = fetch
        self._position = 0
        self._miss_end, self._miss_bytes = max((stop for _, stop in have), default=0), MISS_BYTES
        self._descriptor = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self._descriptor)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, num_bytes: int) -> bytes:
        """Up to that many bytes from the present position; of a large read fewer, where only fewer are here."""
        data = self._read_some(num_bytes)
        if data and len(data) < num_bytes <= HEADER_BYTES:
            return data + self.read(num_bytes - len(data))
        return data

    def _read_some(self, num_bytes: int) -> bytes:
        start = self._position
        stop = min(start + num_bytes, self.size_bytes)
        if start >= stop:
            return b""
        at = bisect_right(self.disguise, start, key=itemgetter(0))
        if at and start < self.disguise[at - 1][0] + len(self.disguise[at - 1][1]):
            data = self.disguise[at - 1][1][start - self.disguise[at - 1][0] :][: stop - start]
            self._position += len(data)
            return data
        if at < len(self.disguise):
            stop = min(stop, self.disguise[at][0])
        known_to = self._known_to(start)
        hollow_to = _end_of(self.hollow, start)
        if known_to == start == hollow_to:
            self._fetch_missed(start)
            known_to = self._known_to(start)
        if known_to > start:
            data = os.pread(self._descriptor, min(stop, known_to) - start, start)
        else:
            num_zeros = min(stop, hollow_to, self._next_known(start), start + len(ZEROS)) - start
            data = ZEROS if num_zeros == len(ZEROS) else ZEROS[:num_zeros]
        self._position += len(data)
        return data

    def read_at(self, start: int, num_bytes: int) -> bytes:
        """Exactly these bytes, fetched where they are missing."""
        self.fetch([(start, start + num_bytes)])
        return os.pread(self._descriptor, num_bytes, start)

    def fetch(self, ranges: list[Range]) -> None:
        """Have these ranges here, with as few requests as it takes."""
        bounded = [(max(start, 0), min(stop, self.size_bytes)) for start, stop in ranges]
        missing = merged([gap for wanted in bounded for gap in self._gaps(wanted)], GAP_BYTES)
        if missing:
            self._fetch(missing)
            self._have = merged([*self._have, *missing], 0)

    def fetch_whole(self) -> None:
        self.fetch([(0, self.size_bytes)])

    def _fetch_missed(self, start: int) -> None:
        follows = self._miss_end <= start <= self._miss_end + GAP_BYTES
        self._miss_bytes = min(2 * self._miss_bytes, MAX_MISS_BYTES) if follows else MISS_BYTES
        end = self.size_bytes if self.size_bytes - start <= TAIL_BYTES else start + self._miss_bytes
        self._miss_end = min(end, self._next_known(start))
        self.fetch([(start, self._miss_end)])

    def has(self, ranges: list[Range]) -> bool:
        return not any(True for wanted in ranges for _ in self._gaps(wanted))

    def _known_to(self, position: int) -> int:
        return _end_of(self._have, position)

    def _next_known(self, position: int) -> int:
        at = bisect_right(self._have, (position, self.size_bytes))
        return self._have[at][0] if at < len(self._have) else self.size_bytes

    def _gaps(self, wanted: Range) -> Iterator[Range]:
        """What is missing of a range."""
        position, stop = wanted
        while position < stop:
            position = self._known_to(position)
            gap_stop = min(self._next_known(position), stop)
            if position < gap_stop:
                yield position, gap_stop
            position = max(gap_stop, position)


Source = str | RangeFile
BinaryFile = BinaryIO | RangeFile


@contextmanager
def opened(source: Source) -> Iterator[BinaryFile]:
    """The source as a file to read headers from."""
    if isinstance(source, RangeFile):
        source.seek(0)
        yield source
    else:
        with open(source, "rb") as file:
            yield file


def _end_of(ranges: list[Range], position: int) -> int:
    """The end of that one of ascending ranges which holds `position`; `position` itself when none does."""
    at = bisect_right(ranges, (position, sys.maxsize)) - 1
    return max(ranges[at][1], position) if at >= 0 else position


def size_of(source: Source) -> int:
    return source.size_bytes if isinstance(source, RangeFile) else os.path.getsize(source)


def merged(ranges: list[Range], gap_bytes: int) -> list[Range]:
    """Ranges in ascending order; those that overlap, or are nearer than the gap, as one."""
    result: list[Range] = []
    for start, stop in sorted(ranges):
        if result and start <= result[-1][1] + gap_bytes:
            result[-1] = result[-1][0], max(stop, result[-1][1])
        else:
            result.append((start, stop))
    return result
