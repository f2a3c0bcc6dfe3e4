"""One task of predict before the model, in plain Python: videos, or clips made before, become blocks of clips.

A block is a table with a row a clip, of one video or of several, and never more clips than a model takes at once: a
long video makes many blocks, not large ones. One that does not fill within a minute travels as it is. After its last
clip a video has a closing row without frames, which says how it ended and which of its clips count: those of its
`attempt`. An attempt that breaks off is followed by another.

Imports no torch: the processes that decode do without it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.clips import ClipTable, decode_jpegs
from vidpipe.delivery import Delivery, deliveries, kept_guard, spool_folder
from vidpipe.guard import Clip, Restart
from vidpipe.parts import column, own_part
from vidpipe.plain_tables import open_parquet
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem
from vidpipe.task_cutting import HAND_ON_EVERY_S
from vidpipe.transfer import join
from vidpipe.video_facts import VIDEO_FACT_NAMES

CLOSING_INDEX = -1
BLOCK_SCHEMA = pa.schema(
    {
        "video_id": pa.string(),
        "attempt": pa.int32(),
        "clip_index": pa.int32(),  # CLOSING_INDEX in a closing row
        "start_s": pa.float64(),
        "end_s": pa.float64(),
        "frames": pa.binary(),  # raw uint8 (T, H, W, C), row-major
        "closing": pa.string(),  # JSON: how the video ended
    }
)


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """What a task needs to know besides its videos."""

    spec: ClipSpec
    clips_a_block: int
    time_limit_s: float
    memory_limit_bytes: int
    block_every_s: float = HAND_ON_EVERY_S


def decoded_blocks(videos: pa.Table, settings: BlockSettings) -> Iterator[pa.Table]:
    """Decode manifest rows; what a Ray worker runs."""
    guard = kept_guard(settings.spec, settings.time_limit_s, settings.memory_limit_bytes)
    block = _Block(settings)
    with spool_folder() as folder:
        for delivery in deliveries(videos.to_pylist(), guard, folder):
            yield from _blocks_of(delivery, block, settings.spec)
            if block.is_due:  # videos that fail have no clips to fill it with
                yield block.cut()
    if block.rows:
        yield block.cut()


def _blocks_of(delivery: Delivery, block: _Block, spec: ClipSpec) -> Iterator[pa.Table]:
    video_id, attempt = delivery.video["video_id"], 0
    for event in delivery.events():
        if isinstance(event, Restart):
            attempt += 1
            continue
        block.add(video_id, attempt, event.clip_index, event.start_s, event.end_s, frames_of(event, spec))
        if block.is_due:
            yield block.cut()
    block.close(video_id, attempt, delivery.receipt)


def stored_blocks(videos: pa.Table, settings: BlockSettings, clips: str) -> Iterator[pa.Table]:
    """Read the clips of status rows of one part of the preprocess output `clips`; what a Ray worker runs."""
    [name] = set(videos["part"].to_pylist())
    left = {row["video_id"]: row for row in videos.to_pylist()}
    num_seen = dict.fromkeys(left, 0)
    block = _Block(settings)
    url = join(clips, "clips", name)
    fs, path = filesystem(url)
    columns = ["video_id", "clip_index", "start_s", "end_s", "frames"]
    with own_part(url), fs.open(path, "rb") as file, open_parquet(file) as source:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group, columns)
            table = table.filter(pc.is_in(table["video_id"], value_set=videos["video_id"].combine_chunks()))
            places = zip(*(table[column].to_pylist() for column in columns[:-1]), strict=True)
            rows = zip(places, ClipTable(table, settings.spec).numpy(), strict=True)
            for (video_id, clip_index, start_s, end_s), frames in rows:
                block.add(video_id, 0, clip_index, start_s, end_s, frames)
                num_seen[video_id] += 1
                if num_seen[video_id] == left[video_id]["num_clips"]:
                    block.close(video_id, 0, stored_receipt(left.pop(video_id)))
                if block.is_due:
                    yield block.cut()
    if left:
        raise RuntimeError(f"{path} lacks clips of {len(left)} videos that its status rows name (first: {min(left)})")
    if block.rows:
        yield block.cut()


def stored_receipt(status: dict[str, Any]) -> dict[str, Any]:
    """What a prediction row takes over from a status row of preprocess: decoding was paid for then."""
    return {name: status[name] for name in ("status", "error_code", "error", *VIDEO_FACT_NAMES)}


def frames_of(clip: Clip, spec: ClipSpec) -> np.ndarray:
    """Frames (T, H, W, C) uint8 of a clip as the guard delivers it."""
    if clip.sizes is None:
        return np.frombuffer(clip.payload, np.uint8).reshape(spec.shape)
    ends = np.cumsum(clip.sizes)
    images = [clip.payload[end - size : end] for end, size in zip(ends, clip.sizes, strict=True)]
    return decode_jpegs(images, spec)


def frames_in(block: pa.Table, spec: ClipSpec) -> np.ndarray:
    """The frames (N, T, H, W, C) uint8 of the clips of a block, closing rows left out; a read-only view."""
    chunks = [chunk for chunk in block["frames"].chunks if len(chunk)]
    if len(chunks) != 1:
        return np.concatenate([_frames_in_chunk(chunk, spec) for chunk in chunks])
    return _frames_in_chunk(chunks[0], spec)


def _frames_in_chunk(chunk: pa.BinaryArray, spec: ClipSpec) -> np.ndarray:
    """A closing row has no frames and takes no bytes: those of the clips lie side by side."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if offsets[0] == offsets[-1]:
        return np.empty((0, *spec.shape), np.uint8)
    data = np.frombuffer(chunk.buffers()[2], np.uint8)
    data.flags.writeable = False
    return data[offsets[0] : offsets[-1]].reshape(-1, *spec.shape)


def answered_rows(
    block: pa.Table, logits: np.ndarray | None, features: np.ndarray | None, *, began_at: float, model_s: float
) -> pa.Table:
    """What comes back from a model: the rows of its block with `logits` (N, …) and `features` (N, …) of the N clips in
    the place of their frames. What the block cost stands in its first row, in seconds: of work, and of the clock."""
    is_clip = block["clip_index"].to_numpy() != CLOSING_INDEX
    columns = {name: block[name] for name in BLOCK_SCHEMA.names if name != "frames"}
    columns |= {"logits": _lists(logits, is_clip), "features": _lists(features, is_clip)}
    for name, value in {"model_s": model_s, "began_at": began_at, "ended_at": time.time()}.items():
        columns[name] = np.append(value, np.zeros(len(block) - 1))
    return pa.table(columns)


def _lists(values: np.ndarray | None, is_there: np.ndarray) -> pa.ListArray:
    """A list of float32 for each row that is there, null for the others."""
    if values is None:
        return pa.nulls(len(is_there), pa.list_(pa.float32()))
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    offsets = np.append(0, np.cumsum(is_there * (len(flat) // len(values)))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(~is_there))


class _Block:
    """The block being filled."""

    def __init__(self, settings: BlockSettings) -> None:
        self._max_clips, self._every_s = settings.clips_a_block, settings.block_every_s
        self._num_clips = 0
        self._cut_s = time.monotonic()
        self.rows: list[tuple[Any, ...]] = []

    @property
    def is_due(self) -> bool:
        """Whether it is full, or a minute has passed since the one before."""
        return self._num_clips >= self._max_clips or time.monotonic() - self._cut_s >= self._every_s

    def add(
        self, video_id: str, attempt: int, clip_index: int, start_s: float, end_s: float, frames: np.ndarray
    ) -> None:
        self.rows.append((video_id, attempt, clip_index, start_s, end_s, frames.data.cast("B"), None))
        self._num_clips += 1

    def close(self, video_id: str, attempt: int, receipt: dict[str, Any]) -> None:
        self.rows.append((video_id, attempt, CLOSING_INDEX, 0.0, 0.0, None, json.dumps(receipt)))

    def cut(self) -> pa.Table:
        rows, self.rows, self._num_clips = self.rows, [], 0
        self._cut_s = time.monotonic()
        values = zip(*rows, strict=True)
        return pa.Table.from_arrays(
            [column(list(of_column), field.type) for of_column, field in zip(values, BLOCK_SCHEMA, strict=True)],
            schema=BLOCK_SCHEMA,
        )
