"""The videos that the benchmarks read: real ones where there are, and generated ones in the style of known sets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidpipe.synthetic import MOTIONS, Encoding, iter_frames, write_video

CACHE = Path(tempfile.gettempdir()) / "vidpipe-benchmarks"
FIGHTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "fights" / "videos"
NUM_DISTINCT = 4  # videos rendered for each style; the others are links to them
LONG_PIECE_S, ARCHIVE_PIECE_S, LONG_FPS = 60, 67, 25
CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}
# Where a file keeps what a reader needs to find its pictures: container and options of its writer, for ranges.py.
LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "MP4": (".mp4", {"movflags": "+faststart"}),
    "MP4, moov last": (".mp4", {}),
    "MKV": (".mkv", {}),
    "fragmented MP4": (".mp4", {"movflags": "+frag_keyframe+empty_moov"}),
}


def _h264(preset: str) -> Encoding:
    return Encoding("libx264", "yuv420p", ".mp4", {"preset": preset, "crf": "23"})


# encoding, (height, width), frames a second, seconds
STYLES: dict[str, tuple[Encoding, tuple[int, int], int, int]] = {
    "ucf101": (Encoding("mpeg4", "yuv420p", ".avi", {"b": "300k", "g": "250", "bf": "2"}), (240, 320), 25, 10),
    "kinetics": (_h264("medium"), (256, 340), 30, 10),
    "720p": (_h264("veryfast"), (720, 1280), 25, 20),
}  # fmt: skip
KINDS = ("fights", *STYLES)
X265_PARAMS = "log-level=none:pools=none:frame-threads=1"
# One file of each: what archives hold, for decode.py.
DECODE_STYLES: dict[str, tuple[Encoding, tuple[int, int], int, int]] = {
    "xvid": (Encoding("mpeg4", "yuv420p", ".avi", {"b": "600k", "g": "250"}), (240, 320), 25, 10),
    "xvid-bframes": (Encoding("mpeg4", "yuv420p", ".avi", {"b": "600k", "g": "250", "bf": "2"}), (240, 320), 25, 10),
    "h264-340": (_h264("medium"), (256, 340), 30, 10),
    "h264-720p": (_h264("medium"), (720, 1280), 25, 20),
    "h264-720p-60s": (_h264("medium"), (720, 1280), 25, 60),
    "h264-1080p": (_h264("medium"), (1080, 1920), 25, 10),
    "hevc-720p": (
        Encoding("libx265", "yuv420p", ".mp4", {"preset": "fast", "crf": "26", "x265-params": X265_PARAMS}),
        *((720, 1280), 25, 20),
    ),
    "vp9-720p": (
        Encoding("libvpx-vp9", "yuv420p", ".webm", {"deadline": "good", "cpu-used": "5", "b": "2M", "g": "128"}),
        *((720, 1280), 25, 20),
    ),
    "av1-720p": (
        Encoding("libsvtav1", "yuv420p", ".mp4", {"preset": "10", "crf": "35", "svtav1-params": "lp=1"}),
        *((720, 1280), 25, 20),
    ),
    "mjpeg": (Encoding("mjpeg", "yuvj420p", ".avi", {"qmin": "3", "qmax": "5"}), (240, 320), 25, 10),
}  # fmt: skip
LONG_STYLES = ("h264-720p-60s",)
# For loop_filter.py alone.
FILTER_STYLES = {
    "vp8-360p": (
        Encoding("libvpx", "yuv420p", ".webm", {"deadline": "good", "cpu-used": "4", "b": "1M", "g": "128"}),
        *((360, 640), 25, 10),
    ),
}


def default_content(kinds: list[str], num_each: int, num_copies: int) -> Path:
    """A folder with `num_copies` of the real clips and `num_each` generated videos of each style."""
    folder = CACHE / f"content-{'-'.join(kinds)}-{num_each}-{num_copies}"
    if folder.exists():
        return folder
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    if "fights" in kinds and FIGHTS.is_dir():
        for video in sorted(FIGHTS.rglob("*.mp4")):
            for copy in range(num_copies):
                shutil.copyfile(video, making / f"fights-{video.parent.name}-{video.stem}-{copy}{video.suffix}")
    for style in set(kinds) & set(STYLES):
        distinct = [generated(style, seed) for seed in range(min(NUM_DISTINCT, num_each))]
        for number in range(num_each):
            source = distinct[number % len(distinct)]
            os.link(source, making / f"{style}-{number:04d}{source.suffix}")
    making.rename(folder)
    return folder


def generated(style: str, seed: int) -> Path:
    """One generated video, made once."""
    encoding, (height, width), rate_fps, seconds = {**STYLES, **DECODE_STYLES, **FILTER_STYLES}[style]
    path = CACHE / "generated" / f"{style}-{seed}{encoding.suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half_done = path.with_name(f"half-done-{path.name}")
        frames = busy_frames(seed, num_frames=rate_fps * seconds, height=height, width=width)
        write_video(half_done, frames, encoding=encoding, fps=rate_fps)
        half_done.rename(path)
    return path


def decode_content(*, is_full: bool) -> list[Path]:
    """One generated video of each style in `DECODE_STYLES`; the long ones only when `is_full`."""
    styles = [style for style in DECODE_STYLES if is_full or style not in LONG_STYLES]
    return [generated(style, 0) for style in styles]


def busy_frames(seed: int, *, num_frames: int, height: int, width: int) -> Iterator[np.ndarray]:
    """A generated scene under a camera that pans and a sensor that makes noise: as hard to decode as a real one."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 4, size=(height + 64, width + 64, 1)).astype(np.int16)
    label = list(MOTIONS)[seed % len(MOTIONS)]
    for number, frame in enumerate(iter_frames(label, rng, num_frames=num_frames, height=height, width=width)):
        top, left = rng.integers(0, 64, 2)
        panned = np.roll(frame, (number, 2 * number), axis=(0, 1))
        yield (panned + noise[top : top + height, left : left + width]).clip(0, 255).astype(np.uint8)


def long_video(minutes: int) -> Path:
    """A 720p H.264 video of that many minutes: a piece of one minute again and again."""
    piece = long_piece("piece-long", STYLES["720p"][0], (720, 1280), LONG_PIECE_S)
    return repeated(piece, f"long-{minutes}-min.mp4", LONG_PIECE_S, 60 * minutes)


def archive_video(minutes: int) -> Path:
    """A 360p H.264 video of about that many minutes, at 0.6 Mbit/s and with a key frame every 10 s.

    Its piece is so long that key frames lie anywhere between the times at which one looks.
    """
    options = {"preset": "veryfast", "b": "600k", "g": "250", "sc_threshold": "0"}
    encoding = Encoding("libx264", "yuv420p", ".mp4", options)
    piece = long_piece("piece-archive", encoding, (360, 640), ARCHIVE_PIECE_S)
    num_pieces = -(-minutes * 60 // ARCHIVE_PIECE_S)
    return repeated(piece, f"archive-{minutes}-min.mp4", ARCHIVE_PIECE_S, num_pieces * ARCHIVE_PIECE_S)


def bucket_piece() -> Path:
    """One minute of 720p H.264 at 1.2 Mbit/s, with a key frame every 5 s."""
    options = {"preset": "veryfast", "b": "1200k", "g": "128"}
    return long_piece("bucket-piece", Encoding("libx264", "yuv420p", ".mp4", options), (720, 1280), LONG_PIECE_S)


def bucket_video(layout: str, seconds: int) -> Path:
    """The bucket piece again and again for so many seconds, in one of the `LAYOUTS`."""
    suffix, options = LAYOUTS[layout]
    name = f"bucket-{layout.replace(',', '').replace(' ', '-').lower()}-{seconds}-s{suffix}"
    return repeated(bucket_piece(), name, LONG_PIECE_S, seconds, options)


def long_piece(name: str, encoding: Encoding, size: tuple[int, int], piece_s: int) -> Path:
    path = CACHE / "generated" / f"{name}.mp4"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = busy_frames(0, num_frames=piece_s * LONG_FPS, height=size[0], width=size[1])
        half_done = path.with_name(f"half-done-{path.name}")
        write_video(half_done, frames, encoding=encoding, fps=LONG_FPS)
        half_done.rename(path)
    return path


def repeated(piece: Path, name: str, piece_s: int, seconds: int, options: dict[str, str] | None = None) -> Path:
    """A video of a piece's packets, again and again with later times, made once."""
    path = CACHE / name
    if path.exists():
        return path
    half_done = path.with_name(f"half-done-{path.name}")
    num_left = seconds * LONG_FPS
    with av.open(str(half_done), "w", format=CONTAINERS[path.suffix], container_options=options or {}) as target:
        with av.open(str(piece)) as source:
            stream = target.add_stream_from_template(source.streams.video[0])
        for repeat in range(-(-seconds // piece_s)):
            with av.open(str(piece)) as source:
                later = int(Fraction(repeat * piece_s) / source.streams.video[0].time_base)
                for packet in source.demux(video=0):
                    if packet.size == 0 or num_left == 0:
                        continue
                    num_left -= 1
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = stream
                    target.mux(packet)
    half_done.rename(path)
    return path
