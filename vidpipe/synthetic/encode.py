"""How a generated video is written: codecs, containers, and frames → bytes through PyAV."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 else prints a banner for each video


@dataclass(frozen=True)
class Encoding:
    """How a video is written: an FFmpeg encoder, its pixel format and options, and the container."""

    codec: str
    pixel_format: str
    suffix: str
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


X265_PARAMS = "log-level=none:pools=none:frame-threads=1"
ENCODINGS: dict[str, Encoding] = {
    "h264_mp4": Encoding("libx264", "yuv420p", ".mp4", {"preset": "superfast", "bf": "2", "g": "12"}),
    "h264_fragmented_mp4": Encoding(
        "libx264", "yuv420p", ".mp4", {"preset": "superfast", "g": "24"}, {"movflags": "frag_keyframe+empty_moov"}
    ),
    "h264_mkv": Encoding("libx264", "yuv420p", ".mkv", {"preset": "superfast", "bf": "3", "g": "24"}),
    "h264_mov": Encoding("libx264", "yuv420p", ".mov", {"preset": "ultrafast", "g": "12"}),
    "hevc_mp4": Encoding("libx265", "yuv420p", ".mp4", {"preset": "ultrafast", "g": "24", "x265-params": X265_PARAMS}),
    "mpeg4_avi": Encoding("mpeg4", "yuv420p", ".avi", {"qmax": "5", "g": "12"}),
    "mpeg4_bframes_avi": Encoding("mpeg4", "yuv420p", ".avi", {"qmax": "5", "g": "12", "bf": "2"}),
    "vp8_webm": Encoding(
        # A positive cpu-used adapts to the machine's load: other bytes each time.
        "libvpx",
        "yuv420p",
        ".webm",
        {"deadline": "realtime", "cpu-used": "-8", "g": "24"},
    ),
    "vp9_webm": Encoding("libvpx-vp9", "yuv420p", ".webm", {"deadline": "realtime", "cpu-used": "8", "g": "24"}),
    "av1_mp4": Encoding("libsvtav1", "yuv420p", ".mp4", {"preset": "12", "g": "24", "svtav1-params": "lp=1"}),
    "mjpeg_avi": Encoding("mjpeg", "yuvj420p", ".avi", {"qmax": "5"}),
    "mjpeg_mov": Encoding("mjpeg", "yuvj420p", ".mov", {"qmax": "5"}),
    "mpeg2_ts": Encoding("mpeg2video", "yuv420p", ".ts", {"qmax": "5", "g": "12", "bf": "2"}),
    "mpeg2_mpg": Encoding("mpeg2video", "yuv420p", ".mpg", {"qmax": "5", "g": "12"}),
}
CONTAINERS = {
    ".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts", ".mpg": "mpeg",
}  # fmt: skip


def write_video(
    target: str | Path | IO[bytes], frames: Iterable[np.ndarray], *, encoding: Encoding, fps: int = 25
) -> None:
    """Encode RGB frames, (H, W, 3) uint8 of one even size, into a local path or a seekable file.

    The same frames give the same bytes.
    """
    remaining = iter(frames)
    first = next(remaining)
    file = str(target) if isinstance(target, Path) else target
    container_options = {"fflags": "+bitexact", **encoding.container_options}
    with av.open(file, "w", format=CONTAINERS[encoding.suffix], container_options=container_options) as container:
        stream: Any = container.add_stream(encoding.codec, rate=fps, options={"flags": "+bitexact", **encoding.options})
        stream.height, stream.width, _ = first.shape
        stream.pix_fmt = encoding.pixel_format
        stream.codec_context.thread_count = 1
        for frame in chain([first], remaining):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    leave_real_time()


def leave_real_time() -> None:
    """Undo what SVT-AV1 does to a process of root's: real-time priority for good, and memory that is never paged out.

    Its children inherit the priority. Two of them that wait for each other on two cores then let nothing else run.
    """
    if not hasattr(os, "sched_setscheduler") or os.sched_getscheduler(0) == os.SCHED_OTHER:
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    ctypes.CDLL(None).munlockall()
