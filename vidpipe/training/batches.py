"""Batches of frames as torch tensors, read ahead of the training loop by a few threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vidpipe.clips import ClipTable
from vidpipe.parts import own_part
from vidpipe.plain_tables import open_parquet
from vidpipe.storage import filesystem
from vidpipe.training.clip_rows import ClipRows

NUM_THREADS = 4
BATCHES_AHEAD = 4


@dataclass
class _RowGroup:
    rows: np.ndarray
    """Those of this split, ascending: a row group may hold others too, which are not kept."""
    frames: np.ndarray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class FrameReader:
    """Frames of any rows of a split; what it holds of the row groups used last stays in memory, up to `cache_bytes`."""

    def __init__(self, rows: ClipRows, cache_bytes: int, *, pin_memory: bool = False):
        self._rows = rows
        self._pin_memory = pin_memory
        sizes = np.bincount(rows.group, minlength=len(rows.places)) * rows.spec.num_bytes_raw
        self._max_groups = max(cache_bytes // max(int(sizes.max(initial=1)), 1), 2)
        self._groups: OrderedDict[int, _RowGroup] = OrderedDict()
        self._footers: dict[str, pq.FileMetaData] = {}
        self._lock = threading.Lock()

    def frames(self, wanted: np.ndarray) -> torch.Tensor:
        """(B, T, H, W, C) uint8 of the rows `wanted` (B,), in pinned memory if asked for."""
        rows = self._rows
        batch = torch.empty((len(wanted), *rows.spec.shape), dtype=torch.uint8, pin_memory=self._pin_memory)
        target = batch.numpy()
        groups = rows.group[wanted]
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            kept = self._group(int(group))
            assert kept.frames is not None
            for place in places:
                target[place] = kept.frames[np.searchsorted(kept.rows, rows.row[wanted[place]])]
        return batch

    def _group(self, group: int) -> _RowGroup:
        """This split's frames of a row group; read once, also when two threads ask for it at once."""
        with self._lock:
            kept = self._groups.get(group)
            if kept is None:
                kept = self._groups[group] = _RowGroup(self._rows.row[self._rows.group == group])
            self._groups.move_to_end(group)
            while len(self._groups) > self._max_groups:
                self._groups.popitem(last=False)
        with kept.lock:
            if kept.frames is None:
                kept.frames = self._read(*self._rows.places[group], kept.rows)
        return kept

    def _read(self, url: str, group: int, rows: np.ndarray) -> np.ndarray:
        """(N, T, H, W, C) uint8 of some rows of a row group."""
        fs, path = filesystem(url)
        with (
            own_part(url),
            fs.open(path, "rb", cache_type="none") as file,
            open_parquet(file, self._footers.get(url)) as source,
        ):
            self._footers[url] = source.metadata
            table = source.read_row_group(group, ["frames"], use_threads=False)
        chosen = table if len(rows) == len(table) else table.take(pa.array(rows))
        return ClipTable(chosen, self._rows.spec).numpy()


class FeatureReader:
    """Rows of features that are in memory: what `FrameReader` is for frames."""

    def __init__(self, features: torch.Tensor):
        self._features = features

    def frames(self, wanted: np.ndarray) -> torch.Tensor:
        """(B, D) or (B, T, D) float32."""
        return self._features[torch.from_numpy(wanted)]


Reader = FrameReader | FeatureReader


class Batches:
    """The batches of one pass, in order, read ahead; `wait_s` is how long the consumer waited for them."""

    def __init__(self, reader: Reader, steps: Iterable[np.ndarray]):
        self._reader = reader
        self._steps = steps
        self.wait_s = 0.0

    def __iter__(self) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        with ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="batches") as pool:
            ahead: list[tuple[np.ndarray, Future[torch.Tensor]]] = []
            try:
                for rows in self._steps:
                    ahead.append((rows, pool.submit(self._reader.frames, rows)))
                    if len(ahead) > BATCHES_AHEAD:
                        yield self._next(ahead)
                while ahead:
                    yield self._next(ahead)
            finally:
                for _, future in ahead:
                    future.cancel()

    def _next(self, ahead: list[tuple[np.ndarray, Future[torch.Tensor]]]) -> tuple[np.ndarray, torch.Tensor]:
        start_s = time.perf_counter()
        rows, future = ahead.pop(0)
        frames = future.result()
        self.wait_s += time.perf_counter() - start_s
        return rows, frames
