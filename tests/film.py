"""Write small videos that encoders alone do not make: two streams, moved times, packed or joined or cut packets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from vidpipe.synthetic import encode
from vidpipe.synthetic.encode import leave_real_time

Writer = Callable[[Path], None]
FORMATS = encode.CONTAINERS | {
    ".flv": "flv", ".wmv": "asf", ".gif": "gif", ".h264": "h264", ".hevc": "hevc", ".m4v": "m4v", ".ivf": "ivf",
    ".obu": "obu", ".3gp": "3gp", ".rm": "rm", ".nut": "nut", ".mjpeg": "mjpeg", ".apng": "apng", ".mxf": "mxf",
    ".m2v": "mpeg2video", ".vob": "vob",
}  # fmt: skip
VOP, USER_DATA = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2"


def pictures(num: int, height: int, width: int) -> Iterable[np.ndarray]:
    """RGB pictures of a texture that drifts, with some noise and a jump in the middle: no two are alike."""
    rng = np.random.default_rng(num)
    texture = np.kron(rng.integers(30, 220, size=(40, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for number in range(num):
        top, left = number + 60 * (number > num // 2), 2 * number
        picture = texture[top % 100 : top % 100 + height, left % 200 : left % 200 + width].copy()
        picture[:8, :8] = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
        yield picture


def film(
    path: Path,
    codec: str,
    options: dict[str, str] | None = None,
    *,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 96),
    num: int = 64,
    stamps_ms: Sequence[int] | None = None,
    fps: int = 25,
    rotation: int = 0,
    container_options: dict[str, str] | None = None,
    beside: str | None = None,
) -> None:
    """Encode `num` pictures; `beside` names the codec of a second stream: an audio one, or a smaller video one."""
    height, width = size
    settings = {"fflags": "+bitexact", **(container_options or {})}
    with av.open(str(path), "w", format=FORMATS[path.suffix], container_options=settings) as container:
        stream: Any = container.add_stream(codec, rate=fps, options={"flags": "+bitexact", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        if stamps_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        other = second_stream(container, beside) if beside else None
        for number, picture in enumerate(pictures(num, height, width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            if stamps_ms:
                frame.pts, frame.time_base = stamps_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
            if other is not None:
                container.mux(other.encode(accompaniment(other, number)))
        container.mux(stream.encode())
        if other is not None:
            container.mux(other.encode())
    leave_real_time()


def second_stream(container: Any, codec: str) -> Any:
    if codec in ("aac", "mp2"):
        return container.add_stream(codec, rate=48_000, layout="mono")
    stream = container.add_stream(codec, rate=25, options={"preset": "veryfast", "bf": "2"})
    stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
    return stream


def accompaniment(stream: Any, number: int) -> av.VideoFrame | av.AudioFrame:
    if stream.type == "video":
        return av.VideoFrame.from_ndarray(np.full((32, 48, 3), 3 * number, np.uint8), format="rgb24")
    samples = np.random.default_rng(number).normal(0, 3000, size=(1, 1920)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.pts = 48_000, 1920 * number
    return frame


def remuxed(
    path: Path,
    codec: str,
    options: dict[str, str],
    *,
    first: int = 0,
    first_key: int = 0,
    shift_s: float = 0,
    change: Callable[[list[av.Packet]], list[tuple[bytes, av.Packet]]] | None = None,
    container_options: dict[str, str] | None = None,
) -> None:
    """Copy encoded packets, from a position or a key frame on, with their times moved or their bytes changed."""
    with TemporaryDirectory() as folder:
        suffix = path.suffix if path.suffix != ".ts" else ".mkv"
        source_path = Path(folder) / f"source{suffix}"
        film(source_path, codec, options)
        settings = {"avoid_negative_ts": "disabled", "fflags": "+bitexact", **(container_options or {})}
        with (
            av.open(str(source_path)) as source,
            av.open(str(path), "w", format=FORMATS[path.suffix], container_options=settings) as target,
        ):
            packets = [packet for packet in source.demux(video=0) if packet.size]
            stream = target.add_stream_from_template(source.streams.video[0])
            contents = change(packets) if change else [(bytes(packet), packet) for packet in packets]
            if first_key:
                first = [number for number, packet in enumerate(packets) if packet.is_keyframe][first_key]
            for data, packet in contents[first:]:
                copy = av.Packet(data)
                shift = round(shift_s / packet.time_base)
                copy.pts = None if packet.pts is None else packet.pts + shift
                copy.dts = None if packet.dts is None else packet.dts + shift
                copy.duration, copy.time_base = packet.duration, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                target.mux(copy)


def packed(packets: list[av.Packet]) -> list[tuple[bytes, av.Packet]]:
    """As DivX and XviD write B-frames to AVI: a P picture and its first B in one packet, an empty picture at the end.

    I | P | B1 | B2 | P …   becomes   I | P B1 | B2 | empty | P …
    """
    contents: list[bytes] = []
    anchor, num_bidirectional = b"", 0
    for data in map(bytes, packets):
        if vop_kind(data) == 2:
            num_bidirectional += 1
            if num_bidirectional == 1:
                contents[-1] += data
                continue
        else:
            if num_bidirectional:
                contents.append(empty_vop(anchor))
            anchor, num_bidirectional = data, 0
        contents.append(announced(data))
    if num_bidirectional:
        contents.append(empty_vop(anchor))
    assert len(contents) == len(packets)
    return list(zip(contents, packets, strict=True))


def vop_kind(data: bytes) -> int:
    return data[data.index(VOP) + 4] >> 6


def announced(data: bytes) -> bytes:
    """With the user data by which decoders know a packed stream, before each key picture."""
    position = data.index(VOP)
    mark = USER_DATA + b"DivX503b1393p" if vop_kind(data) == 0 else b""
    return data[:position] + mark + data[position:]


def empty_vop(anchor: bytes) -> bytes:
    """A picture that is not coded, at the time of `anchor`, at 25 fps (5 bits of time)."""
    position = anchor.index(VOP) + 4
    bits = f"{int.from_bytes(anchor[position : position + 8], 'big'):064b}"
    seconds_end = bits.index("0", 2)  # ones count the seconds
    header = "01" + bits[2 : seconds_end + 2 + 5 + 1] + "0"
    header += "0" + "1" * (-(len(header) + 1) % 8)
    return VOP + int(header, 2).to_bytes(len(header) // 8, "big")


def joined(path: Path, films: Sequence[Writer]) -> None:
    """Files one behind the other, as recordings are concatenated."""
    with TemporaryDirectory() as folder:
        parts = [Path(folder) / f"{number}{path.suffix}" for number in range(len(films))]
        for write, part in zip(films, parts, strict=True):
            write(part)
        path.write_bytes(b"".join(part.read_bytes() for part in parts))


def by_command(path: Path, arguments: str) -> None:
    """Encode with the ffmpeg command, for encoders that PyAV's wheel does not have."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.mkv"
        film(source, "ffv1")
        command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(source), *arguments.split(), str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)


def cut_ts(path: Path, options: dict[str, str]) -> None:
    """A transport stream that begins in the middle of a recording, as broadcasts do."""
    film(path, "libx264", options)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 188 // 3 * 188 :])
