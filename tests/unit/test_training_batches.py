"""Batches: the frames that were asked for, each row group read once when it fits, and a clean end in any case."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_clips import write_clips

from vidpipe.clips import read_clips
from vidpipe.training.batches import NUM_THREADS, Batches, FeatureReader, FrameReader
from vidpipe.training.clip_rows import ClipRows, labelled_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts and row groups that hold videos of two splits."""
    output = tmp_path_factory.mktemp("batches") / "clips"
    return write_clips(output, {"train": 23, "val": 9}, num_clips=2, videos_a_part=6, rows_a_group=5)


@pytest.fixture
def rows(clips: Path) -> ClipRows:
    return labelled_clips(str(clips), "train", "val", "test").splits["train"]


class CountingReader(FrameReader):
    """Notes which row groups are read, and fails on demand."""

    def __init__(self, rows: ClipRows, cache_bytes: int, fails_after: int = 10**9) -> None:
        super().__init__(rows, cache_bytes)
        self.read: list[tuple[str, int]] = []
        self.fails_after = fails_after

    def _read(self, url: str, group: int, rows: np.ndarray) -> np.ndarray:
        if len(self.read) >= self.fails_after:
            raise OSError(f"{url} is gone")
        self.read.append((url, group))
        return super()._read(url, group, rows)


def expected_frames(clips: Path, rows: ClipRows) -> np.ndarray:
    """Frames by another reader, in the order of `rows`."""
    by_name = {}
    for part in read_clips(str(clips)):
        names = zip(part.table["video_id"].to_pylist(), part.table["clip_index"].to_pylist(), strict=True)
        by_name |= dict(zip(names, part.numpy(), strict=True))
    return np.stack([by_name[name] for name in zip(rows.video_ids, rows.clip_index, strict=True)])


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30], ids=["no memory", "all fits"])
def test_a_batch_holds_the_rows_that_were_asked_for(clips: Path, rows: ClipRows, cache_bytes: int):
    expected = expected_frames(clips, rows)
    steps = np.random.default_rng(0).permutation(len(rows))[:44].reshape(4, 11)
    for wanted, frames in Batches(FrameReader(rows, cache_bytes), steps):
        assert frames.dtype == torch.uint8
        np.testing.assert_array_equal(frames.numpy(), expected[wanted])


def test_each_row_group_is_read_once_when_it_fits_in_memory(rows: ClipRows):
    reader = CountingReader(rows, 1 << 30)
    for epoch in range(3):
        for _ in Batches(reader, np.random.default_rng(epoch).permutation(len(rows)).reshape(-1, 2)):
            pass
    assert len(reader.read) == len(set(reader.read)) == len(np.unique(rows.group))


def test_memory_holds_no_more_than_it_was_given_and_nothing_of_other_splits(rows: ClipRows):
    limit = 16 * rows.spec.num_bytes_raw
    reader = FrameReader(rows, limit)
    for _ in Batches(reader, np.arange(len(rows)).reshape(-1, 2)):
        kept = [group.frames for group in reader._groups.values() if group.frames is not None]
        assert sum(frames.nbytes for frames in kept) <= limit
    everything = FrameReader(rows, 1 << 30)
    for _ in Batches(everything, np.arange(len(rows)).reshape(-1, 2)):
        pass
    assert sum(len(group.frames) for group in everything._groups.values()) == len(rows)


def test_an_error_of_the_reader_reaches_the_loop_and_no_thread_is_left(rows: ClipRows):
    before = threading.active_count()
    with pytest.raises(OSError, match="is gone"):
        for _ in Batches(CountingReader(rows, 0, fails_after=3), np.arange(len(rows)).reshape(-1, 2)):
            pass
    assert threading.active_count() == before


def test_a_loop_that_stops_early_leaves_no_thread_behind(rows: ClipRows):
    before = threading.active_count()
    for number, _ in enumerate(Batches(FrameReader(rows, 0), np.arange(len(rows)).reshape(-1, 1))):
        assert threading.active_count() <= before + NUM_THREADS
        if number == 3:
            break
    assert threading.active_count() == before


def test_no_batches_are_no_error(rows: ClipRows):
    assert list(Batches(FrameReader(rows, 0), [])) == []


def test_features_come_as_frames_do():
    features = torch.randn(9, 4)
    [(wanted, batch)] = Batches(FeatureReader(features), [np.array([7, 2])])
    torch.testing.assert_close(batch, features[torch.from_numpy(wanted)])
