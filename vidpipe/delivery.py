"""Listed videos, one after the other, as the guard delivers them: fetched ahead, decoded in this process's child."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidpipe.errors import DecodeError
from vidpipe.guard import Asked, Clip, Guard, Restart, VideoFacts
from vidpipe.lease import machine_name
from vidpipe.ranges import FROM_BYTES
from vidpipe.spec import ClipSpec
from vidpipe.transfer import VideoFile, check_version, fetch_video, video_errors

SPOOL_PREFIX = "vidpipe-spool-"
FETCH_THREADS = 4
M_ARENA_MAX = -8  # malloc.h
FETCH_AHEAD_FILES = 8
FETCH_AHEAD_BYTES = 256 << 20
Fetched = tuple[dict[str, Any], Future[VideoFile]]  # a manifest row, and its local file to come


class Delivery:
    """One video of the list: its `events`, to be taken once, then its `receipt`."""

    def __init__(self, fetched: Fetched, following: Fetched | None, guard: Guard) -> None:
        self.video, self._file = fetched
        self._following, self._guard = following, guard
        self.receipt: dict[str, Any] = {"status": "failed", "num_clips": 0, "bytes_read": 0, "num_requests": 0}
        """Columns of a status row; complete when the events are at their end, or broke off."""

    def events(self) -> Iterator[Clip | Restart]:
        """The video's clips; after a `Restart` those before it are void, and all are when `receipt` says failed."""
        try:
            file = self._file.result()
            try:
                for event in self._decode(file):
                    if isinstance(event, VideoFacts):
                        self.receipt |= {"status": "ok", **event.facts, "decode_s": event.decode_s}
                    else:
                        yield event
            finally:
                self.receipt |= {"bytes_read": file.num_bytes, "num_requests": file.num_requests}
                if file.is_copy:
                    file.path.unlink()
        except DecodeError as error:
            bad = {"status": "failed", "num_clips": 0, "error_code": error.code, "error": str(error)}
            self.receipt = {name: self.receipt[name] for name in ("bytes_read", "num_requests")} | bad

    def _decode(self, file: VideoFile) -> Iterator[Clip | Restart | VideoFacts]:
        with video_errors():
            yield from self._guard.decode(file.source, self.video["video_id"], _ready(self._following))
        if not file.is_checked:
            check_version(self.video["url"], self.video["version"])


def deliveries(videos: list[dict[str, Any]], guard: Guard, folder: Path) -> Iterator[Delivery]:
    """Each manifest row, in order; copies of those under way lie in `folder`."""
    fetched = _fetch_ahead(videos, folder, by_range=guard.spec.decoder == "pyav")
    before = next(fetched, None)
    while before is not None:
        following = next(fetched, None)
        yield Delivery(before, following, guard)
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
                facts = {"size_bytes": video["size_bytes"], "version": video["version"], "by_range": by_range}
                under_way.append((video, pool.submit(fetch_video, video["url"], folder, **facts)))
            video, fetched = under_way.popleft()
            num_bytes -= num_bytes_ahead(video)
            yield video, fetched


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A temporary folder for files under way; those of this machine's processes that were killed are removed first.

    The temporary folder may be shared by several machines: their process numbers mean nothing here.
    """
    machine = hashlib.blake2b(machine_name().encode(), digest_size=8).hexdigest()
    for left_over in Path(tempfile.gettempdir()).glob(f"{SPOOL_PREFIX}{machine}-*"):
        ours = re.fullmatch(rf"{SPOOL_PREFIX}{machine}-([0-9]+)-[a-z0-9_]{{8}}", left_over.name)
        if ours and machine_name() and not left_over.is_symlink() and not Path(f"/proc/{ours[1]}").exists():
            shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{SPOOL_PREFIX}{machine}-{os.getpid()}-") as folder:
        yield Path(folder)


@lru_cache(maxsize=1)
def kept_guard(spec: ClipSpec, time_limit_s: float, memory_limit_bytes: int) -> Guard:
    """The decoding child of this process: it stays between tasks, since starting one costs more than a short video."""
    _share_memory_among_threads()
    return Guard(spec, time_limit_s=time_limit_s, memory_limit_bytes=memory_limit_bytes)


def _share_memory_among_threads() -> None:
    """Else each thread that fetches keeps free memory of its own (glibc), 1 to 6 MB in all."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
