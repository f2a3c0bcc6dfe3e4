"""One task of preprocess, in plain Python: some manifest rows become parts of clips, and one receipt a video."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.errors import DecodeError
from vidpipe.guard import Asked, Clip, Guard, Restart, VideoFacts
from vidpipe.parts import RECEIPTS_KEY, PartWriter, clips_schema, open_part, part_name
from vidpipe.ranges import FROM_BYTES
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem
from vidpipe.transfer import VideoFile, check_version, fetch_video, join, put_file, video_errors

SPOOL_PREFIX = "vidpipe-spool-"
FETCH_THREADS = 4
M_ARENA_MAX = -8  # malloc.h
FETCH_AHEAD_FILES = 8
FETCH_AHEAD_BYTES = 256 << 20
Fetched = tuple[dict[str, Any], Future[VideoFile]]  # a manifest row, and its local file to come


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """What a task needs to know besides its videos."""

    output: str
    spec: ClipSpec
    part_bytes: int
    time_limit_s: float
    memory_limit_bytes: int


def make_parts(videos: list[dict[str, Any]], settings: PartSettings) -> list[dict[str, Any]]:
    """Decode manifest rows, write their clips as parts, and return one status row a video.

    A part appears under its name when it is whole; without the receipts it counts for nothing.
    """
    guard = _guard(settings.spec, settings.time_limit_s, settings.memory_limit_bytes)
    receipts: list[dict[str, Any]] = []
    by_range = settings.spec.decoder == "pyav"
    with spool_folder() as folder:
        part = _OpenPart(settings, folder)
        for (video, fetched), following in _with_following(_fetch_ahead(videos, folder, by_range=by_range)):
            receipts.append(part.add_video(video, fetched, following, guard))
            if part.num_bytes >= settings.part_bytes:
                part.finish()
        part.finish()
    return receipts


def rewrite_part(name: str, statuses: list[dict[str, Any]], settings: PartSettings) -> list[dict[str, Any]]:
    """Copy a part with only the videos of `statuses`, under their present labels; returns their new status rows."""
    rows_of = {row["video_id"]: row for row in statuses}
    target = part_name(settings.spec, statuses)
    receipts = [{**row, "part": target} for row in statuses]
    fs, path = filesystem(join(settings.output, "clips", name))
    with spool_folder() as folder:
        local = folder / target
        with fs.open(path, "rb") as file, pq.ParquetFile(file) as source:
            made_with = source.schema_arrow.metadata
            with open_part(local, clips_schema(settings.spec, {}).with_metadata(made_with)) as writer:
                for group in range(source.num_row_groups):
                    table = _relabelled(source.read_row_group(group), rows_of)
                    if len(table):
                        writer.write_table(table)
                writer.add_key_value_metadata({RECEIPTS_KEY: _as_json(receipts)})
        put_file(local, join(settings.output, "clips", target))
    return receipts


def _relabelled(clips: pa.Table, rows_of: dict[str, dict[str, Any]]) -> pa.Table:
    """The clips of the videos in `rows_of`, with the labels given there."""
    clips = clips.filter(pa.array([video_id in rows_of for video_id in clips["video_id"].to_pylist()]))
    kept = [rows_of[video_id] for video_id in clips["video_id"].to_pylist()]
    for column in ("label", "split", "group"):
        values = pa.array([row[column] for row in kept], pa.string())
        clips = clips.set_column(clips.schema.get_field_index(column), column, values)
    return clips


class _OpenPart:
    """The part being written: videos go in one after the other, and none half."""

    def __init__(self, settings: PartSettings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._writer: PartWriter | None = None
        self._receipts: list[dict[str, Any]] = []

    @property
    def num_bytes(self) -> int:
        return self._writer.num_bytes if self._writer else 0

    def add_video(
        self, video: dict[str, Any], fetched: Future[VideoFile], following: Fetched | None, guard: Guard
    ) -> dict[str, Any]:
        """Decode one video into the part; a bad one leaves no clip in it. Returns its status row, to be completed."""
        if self._writer is None:
            schema = clips_schema(self._settings.spec, guard.decoder_versions)
            self._writer = PartWriter(self._folder / f"{len(os.listdir(self._folder))}.part", schema)
        writer, first_row = self._writer, self._writer.num_rows
        receipt = {name: video[name] for name in ("video_id", "url", "version", "label", "split", "group")}
        receipt |= {"stage": "preprocess", "status": "failed", "num_clips": 0, "bytes_read": 0, "num_requests": 0}
        try:
            file = fetched.result()
            try:
                for event in _decode(file, video, following, guard):
                    if isinstance(event, Clip):
                        writer.add(video, event)
                    elif isinstance(event, Restart):
                        writer.drop_back_to(first_row)
                    else:
                        facts = event
            finally:
                receipt |= {"bytes_read": file.num_bytes, "num_requests": file.num_requests}
                if file.is_copy:
                    file.path.unlink()
        except DecodeError as error:
            writer.drop_back_to(first_row)
            return {**receipt, "error_code": error.code, "error": str(error)}
        receipt |= {"status": "ok", **_facts_columns(facts)}
        self._receipts.append(receipt)
        return receipt

    def finish(self) -> None:
        """Write the part under its name, and enter the name into the receipts of its videos."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        receipts, self._receipts = self._receipts, []
        if not receipts:
            writer.abandon()
            return
        name = part_name(self._settings.spec, receipts)
        for receipt in receipts:
            receipt["part"] = name
        writer.close(receipts)
        put_file(writer.path, join(self._settings.output, "clips", name))


def _decode(
    file: VideoFile, video: dict[str, Any], following: Fetched | None, guard: Guard
) -> Iterator[Clip | Restart | VideoFacts]:
    with video_errors():
        yield from guard.decode(file.source, video["video_id"], _ready(following))
    if file.by_range:
        check_version(video["url"], video["version"])


def _with_following(fetched: Iterator[Fetched]) -> Iterator[tuple[Fetched, Fetched | None]]:
    """Each one with the one after it."""
    before = next(fetched, None)
    while before is not None:
        following = next(fetched, None)
        yield before, following
        before = following


def _ready(fetched: Fetched | None) -> Asked | None:
    """The file and id of a video that is already here."""
    if fetched is None or not fetched[1].done() or fetched[1].exception() is not None:
        return None
    return fetched[1].result().source, fetched[0]["video_id"]


def _fetch_ahead(videos: list[dict[str, Any]], folder: Path, *, by_range: bool) -> Iterator[Fetched]:
    """Each video with its local file, while the next ones are on their way; bounded in files and in bytes."""
    waiting = deque(videos)
    under_way: deque[Fetched] = deque()
    num_bytes = 0

    def num_bytes_ahead(video: dict[str, Any]) -> int:
        return min(video["size_bytes"], FROM_BYTES) if by_range else video["size_bytes"]

    with ThreadPoolExecutor(FETCH_THREADS, "fetch") as pool:
        while waiting or under_way:
            while waiting and (not under_way or (len(under_way) < FETCH_AHEAD_FILES and num_bytes < FETCH_AHEAD_BYTES)):
                video = waiting.popleft()
                num_bytes += num_bytes_ahead(video)
                facts = {"size_bytes": video["size_bytes"], "by_range": by_range}
                under_way.append((video, pool.submit(fetch_video, video["url"], folder, **facts)))
            video, fetched = under_way.popleft()
            num_bytes -= num_bytes_ahead(video)
            yield video, fetched


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A temporary folder for files under way; the folders of processes that were killed are removed first."""
    for left_over in Path(tempfile.gettempdir()).glob(f"{SPOOL_PREFIX}*"):
        pid = left_over.name.removeprefix(SPOOL_PREFIX).split("-")[0]
        if not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{SPOOL_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


@lru_cache(maxsize=1)
def _guard(spec: ClipSpec, time_limit_s: float, memory_limit_bytes: int) -> Guard:
    """The decoding child of this process: it stays between tasks, since starting one costs more than a short video."""
    _share_memory_among_threads()
    return Guard(spec, time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes)


def _share_memory_among_threads() -> None:
    """Else each thread that fetches keeps free memory of its own (glibc), 1 to 6 MB in all."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)


def _as_json(receipts: list[dict[str, Any]]) -> bytes:
    return json.dumps(receipts).encode()


def _facts_columns(facts: VideoFacts) -> dict[str, Any]:
    names = ("codec", "width", "height", "duration_s", "num_clips", "num_damaged", "decode_s")
    return {name: getattr(facts, name) for name in names}
