"""The process that decodes: started by `guard.py`, it may crash, hang or be killed without harm to anyone else.

It reads requests from a socket and answers with messages: a JSON object, and after a `clip` one message of bytes.
Nothing but JSON and pixels comes back, so that a decoder taken over by a hostile file gains nothing with the parent.

    <- {"kind": "ready", "decoder_versions"}
    -> {"path", "video_id", "spec"}             and "size_bytes", "have" of a file that has only some ranges
    <- {"kind": "fetch", "ranges"}              bytes to be put into that file
    -> {"kind": "fetched"}
    <- {"kind": "clip", "clip_index", "start_s", "end_s", "frame_pts_s", "num_repeated", "max_shift_s",
        "sizes"}, bytes
    <- {"kind": "restart"}                      the clips so far are void, they come again
    <- {"kind": "done", "facts", "decode_s"}    or {"kind": "failed", "code", "error", "decode_s"}
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vidpipe.decode import Video, decoder_versions, open_video
from vidpipe.decode.by_range.file import Range, RangeFile
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pyav import PyavVideo
from vidpipe.errors import DecodeError
from vidpipe.sampling import ClipPlan, plan_clips, video_duration_s
from vidpipe.spec import ClipSpec
from vidpipe.video_facts import VIDEO_FACT_NAMES

PR_SET_PDEATHSIG = 1
LARGE_BYTES = 16 << 20  # of a local file; as of an object, see `vidpipe.ranges`


def main(fd: int, memory_limit_bytes: int, parent_pid: int, decoder: str) -> None:
    die_with_parent(parent_pid)
    limit_memory(memory_limit_bytes)
    parent = Parent(Connection(fd))
    parent.send({"kind": "ready", "decoder_versions": decoder_versions(decoder)})
    while True:
        try:
            request = parent.next_request()
        except EOFError:
            return
        serve(parent, request)


class Parent:
    """The process that asks, and that fetches bytes for this one, which has no credentials."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[dict[str, Any]] = deque()

    def next_request(self) -> dict[str, Any]:
        """Raises EOFError when the parent is gone."""
        return self._waiting.popleft() if self._waiting else json.loads(self._connection.recv_bytes())

    def send(self, message: dict[str, Any], payload: bytes | memoryview | None = None) -> None:
        self._connection.send_bytes(json.dumps(message).encode())
        if payload is not None:
            self._connection.send_bytes(payload)

    def fetch(self, ranges: list[Range]) -> None:
        """Have ranges of the present file fetched; requests that come in between wait."""
        self.send({"kind": "fetch", "ranges": ranges})
        try:
            while (message := json.loads(self._connection.recv_bytes())).get("kind") != "fetched":
                self._waiting.append(message)
        except EOFError:  # FFmpeg has an error of this kind, too
            raise BrokenPipeError from None


def serve(parent: Parent, request: dict[str, Any]) -> None:
    """Answer one request; whatever a video does to Python is that video's failure."""
    spec = ClipSpec(**request["spec"])
    forget_memory_peak()
    start_s = time.process_time()
    answer: dict[str, Any]
    try:
        facts = deliver(parent, request, spec)
    except DecodeError as error:
        answer = {"kind": "failed", "code": error.code, "error": str(error)}
    except MemoryError as error:
        answer = {"kind": "failed", "code": "out_of_memory", "error": f"past the memory limit of a video: {error}"}
    except BrokenPipeError:
        sys.exit(1)  # the parent is gone
    except Exception as error:  # noqa: BLE001 - the boundary: one odd video never stops the others
        answer = {"kind": "failed", "code": "crash", "error": f"{type(error).__name__}: {error}"}
    else:
        answer = {"kind": "done", "facts": facts}
    parent.send({**answer, "decode_s": time.process_time() - start_s})


def deliver(parent: Parent, request: dict[str, Any], spec: ClipSpec) -> dict[str, Any]:
    """Send the clips of a request's video, in the cheapest way that its packets do not contradict."""
    path, video_id = request["path"], request["video_id"]
    part = part_of_file(parent, request, spec)
    if part is not None:
        with closing(part):
            try:
                with open_video(part, spec) as video:
                    return send_clips(parent, video, spec, video_id)
            except IndexMismatch:
                parent.send({"kind": "restart"})
                part.fetch_whole()
    try:
        with open_video(path, spec) as video:
            return send_clips(parent, video, spec, video_id)
    except IndexMismatch:
        parent.send({"kind": "restart"})
        with closing(PyavVideo(path, spec, count=True)) as counted:
            return send_clips(parent, counted, spec, video_id)


def part_of_file(parent: Parent, request: dict[str, Any], spec: ClipSpec) -> RangeFile | None:
    """The file of a request, to read only some of it: it is not all here, or so large that not all shall be read."""
    path = request["path"]
    if "have" in request:
        return RangeFile(path, request["size_bytes"], request["have"], parent.fetch)
    if spec.decoder == "pyav" and os.path.isfile(path) and os.path.getsize(path) >= LARGE_BYTES:
        return RangeFile(path, os.path.getsize(path), [], lambda ranges: None)
    return None


def send_clips(parent: Parent, video: Video, spec: ClipSpec, video_id: str) -> dict[str, Any]:
    """Send the clips of a video as they are finished; return what the status row says about it."""
    plans = plan_clips(video.times_s, spec, video_id, video.costs)
    for plan, frames in assemble_clips(video, plans, spec):
        sizes, payload = encode(frames, spec)
        header = {
            "kind": "clip",
            "clip_index": plan.clip_index,
            "start_s": plan.start_s,
            "end_s": plan.end_s,
            "frame_pts_s": video.times_s[plan.frame_indices].tolist(),
            "num_repeated": plan.num_repeated,
            "max_shift_s": plan.max_shift_s,
            "sizes": sizes,
        }
        parent.send(header, payload)
    facts = {
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "duration_s": video_duration_s(video.times_s),
        "num_clips": len(plans),
        "num_damaged": video.num_damaged,
        "max_shift_s": max(plan.max_shift_s for plan in plans),
    }
    assert facts.keys() == set(VIDEO_FACT_NAMES)
    return facts


def assemble_clips(video: Video, plans: list[ClipPlan], spec: ClipSpec) -> Iterator[tuple[ClipPlan, np.ndarray]]:
    """The clips (T, H, W, C) in order, from one pass over the frames they need; holds only the clips under way."""
    needed = np.unique(np.concatenate([plan.frame_indices for plan in plans]))
    waiting = iter(plans)
    upcoming = next(waiting, None)
    under_way: list[tuple[ClipPlan, np.ndarray]] = []
    for index, frame in zip(needed, video.frames(needed), strict=True):
        while upcoming is not None and upcoming.frame_indices[0] <= index:
            under_way.append((upcoming, np.empty(spec.shape, np.uint8)))
            upcoming = next(waiting, None)
        for plan, frames in under_way:
            first, stop = np.searchsorted(plan.frame_indices, (index, index + 1))
            frames[first:stop] = frame
        while under_way and under_way[0][0].frame_indices[-1] == index:
            yield under_way.pop(0)


def encode(frames: np.ndarray, spec: ClipSpec) -> tuple[list[int] | None, bytes | memoryview]:
    """A clip's bytes: raw uint8 in row-major order, or one JPEG after the other with their sizes."""
    if spec.encoding == "raw":
        return None, frames.data.cast("B")
    import simplejpeg

    colorspace, subsampling = ("RGB", "444") if spec.color == "rgb" else ("GRAY", "Gray")
    images = [
        simplejpeg.encode_jpeg(frame, quality=spec.jpeg_quality, colorspace=colorspace, colorsubsampling=subsampling)
        for frame in frames
    ]
    return [len(image) for image in images], b"".join(images)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel end this process with its parent, even in the middle of a hung decode (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(1)


def limit_memory(num_bytes: int) -> None:
    """Let allocations fail beyond `num_bytes` more than the process holds now (Linux), and write no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            held_kb = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (held_kb * 1024 + num_bytes,) * 2)


def forget_memory_peak() -> None:
    """Start the process's memory peak anew: when it dies, the parent asks whether this video took the memory."""
    with suppress(OSError):  # not every system lets a process do so
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    _fd, _memory_limit, _parent, _decoder = sys.argv[1:]
    main(int(_fd), int(_memory_limit), int(_parent), _decoder)
