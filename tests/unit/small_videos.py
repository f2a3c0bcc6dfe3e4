"""Small videos for unit tests: generated ones, drawn pictures, and real odd ones where they lie beside the checkout."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidpipe.synthetic import ENCODINGS, iter_frames, write_video

SHARED_DATA = Path(__file__).parent.parent.parent.parent / "shared/data"  # not everywhere: then the lists are empty
SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg"}
DAMAGED = {"corrupted.mp4"}
ODD_VIDEOS = sorted(
    path for path in (SHARED_DATA / "odd_videos").glob("*") if path.suffix in SUFFIXES and path.name not in DAMAGED
)
REAL_VIDEOS = sorted((SHARED_DATA / "fights/videos").rglob("*.mp4"))


def write_generated(
    path: Path, encoding: str, *, num_frames: int = 48, height: int = 96, width: int = 128, fps: int = 25
) -> Path:
    """One generated video whose frames all differ; returns its path."""
    frames = iter_frames("right", np.random.default_rng(0), num_frames=num_frames, height=height, width=width)
    write_video(path, frames, encoding=ENCODINGS[encoding], fps=fps)
    return path


def write_pictures(
    path: Path, pictures: Sequence[np.ndarray], *, rotation: int = 0, stamps_ms: Sequence[int] | None = None
) -> Path:
    """A lossless RGB H.264 video of just these pictures, 40 ms apart unless `stamps_ms` says otherwise."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"crf": "0", "preset": "ultrafast"})
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt = "rgb24"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = stamps_ms[number] if stamps_ms else 40 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
