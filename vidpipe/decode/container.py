"""Open a container safely, and tell what is wrong with one that does not open.

A "video" can be a script: playlists name other files and hosts, and FFmpeg follows them. The white list of demuxers
leaves out every format that refers to something else, and the only protocols are the file itself and a pipe.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vidpipe.decode.by_range.file import BinaryFile, RangeFile, Source, opened, size_of
from vidpipe.decode.h264 import H264Headers
from vidpipe.decode.packets import PacketIndex
from vidpipe.errors import DecodeError

SAFE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,"
    "h264,hevc,ivf,obu,gif,mxf,rm,dv,mjpeg,wtv,nut,apng"
)
OPEN_OPTIONS = {"format_whitelist": SAFE_FORMATS, "protocol_whitelist": "file,pipe"}
# FFmpeg starts decoders and decodes pictures while it opens a file, which takes 1 to 15 ms. With no decoder by that
# name it does not. And unless `noparse`, it looks into all packets, for what MP4 tells about them anyway.
NO_DECODERS = {"codec_whitelist": "none"}
# It learns nothing from the pictures of these that their headers do not tell; see `_is_told_by_headers`.
TOLD_BY_HEADERS = frozenset(("hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mjpeg"))
TOP_LEVEL_BOXES = frozenset(
    b"ftyp styp moov moof mdat mfra free skip wide pnot PICT meta udta uuid sidx ssix prft emsg pdin imda junk".split()
)
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
MAX_PIXELS = 1 << 27  # of one picture: 16k video has 2**27
PLAYLIST_MARKS = (
    *(b"#extm3u", b"ffconcat", b"v=0\r", b"v=0\n"),
    *(b"<mpd", b"<smil", b"<asx", b"[playlist]", b"[reference]"),
)

# Without this, FFmpeg writes thousands of lines about bad files to the workers' logs.
av.logging.set_level(None)


def open_container(source: Source) -> tuple[InputContainer, VideoStream]:
    """The container and the video stream that people mean (FFmpeg's best one); the caller closes it.

    Raises DecodeError: forbidden, not_a_video, truncated, corrupt, no_video_stream, too_large.
    """
    refuse_scripts(source)
    try:
        container = _open(source)
    except av.error.MemoryError as error:
        raise DecodeError("out_of_memory", f"opening the container: {error.strerror}") from None
    except av.error.FFmpegError as error:
        raise _why_not_open(source, error) from None
    try:
        return container, _best_video_stream(container)
    except BaseException:
        container.close()
        raise


def _open(source: Source) -> InputContainer:
    with opened(source) as file:
        start = file.read(8)
    if start[4:] == b"ftyp":
        # Of a fragmented file, FFmpeg reads the head of every fragment before it begins, unless it is told not to.
        flags = "noparse+ignidx" if isinstance(source, RangeFile) else "noparse"
        container = _open_with(source, {**OPEN_OPTIONS, **NO_DECODERS, "fflags": flags})
        if _is_told_by_headers(container):
            return container
        container.close()
    elif start[:4] in (b"\x1aE\xdf\xa3", b"RIFF") and not isinstance(source, RangeFile):  # Matroska and WebM, AVI
        container = _open_with(source, {**OPEN_OPTIONS, **NO_DECODERS})
        if _is_told_by_headers(container):
            return container
        container.close()
    return _open_with(source, OPEN_OPTIONS)


def _open_with(source: Source, options: dict[str, str]) -> InputContainer:
    if isinstance(source, RangeFile):
        source.seek(0)
    return av.open(source, "r", options=options, metadata_errors="ignore")


def open_hollow(file: RangeFile) -> InputContainer:
    """The container again, for its packets' times and places alone: nothing looks into their bytes."""
    return _open_with(file, {**OPEN_OPTIONS, **NO_DECODERS, "fflags": "noparse", "probesize": "2048"})


def _is_told_by_headers(container: InputContainer) -> bool:
    """False where FFmpeg has to see pictures: to choose between streams, or to learn how far H.264 reorders them.

    Or how large they are: AVI says it, MP4 of MPEG-4 pictures does not.
    """
    videos = container.streams.video
    if len(videos) != 1 or videos[0].codec_context is None or not videos[0].codec_context.width:
        return False
    context = videos[0].codec_context
    if context.name == "h264":
        return H264Headers(context.extradata or b"").tell_reordering
    return context.name in TOLD_BY_HEADERS


def refuse_scripts(source: Source) -> None:
    """Raise DecodeError for an empty file and for text that tells a player to open something else."""
    with opened(source) as file:
        start = _after_tag(file).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise DecodeError("not_a_video", f"the file holds nothing ({size_of(source)} bytes)")
    if start.startswith(PLAYLIST_MARKS) or (start.startswith(b"<") and b"<mpd" in start):
        raise DecodeError("forbidden", f"a playlist that refers to other files, not a video: begins {start[:16]!r}")


def _after_tag(file: BinaryFile) -> bytes:
    """The first bytes of the content: FFmpeg, too, looks at what comes behind an ID3 tag."""
    start = file.read(1024)
    if start[:3] != b"ID3" or len(start) < 10:
        return start
    file.seek(10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(start[6:10]))))
    return file.read(1024) or start


def check_whole(source: Source, index: PacketIndex) -> None:
    """Raise DecodeError when the file has no packets, or fewer than it says."""
    if is_cut_short(source):
        raise DecodeError("truncated", f"the file ends before its content does; it has {len(index)} packets")
    if isinstance(source, str) and lacks_fragments(source):
        raise DecodeError(
            "corrupt", f"the fragments break off before the index at the file's end; {len(index)} packets"
        )
    if index.read_error:
        raise DecodeError("corrupt", f"the container breaks off after {len(index)} packets: {index.read_error}")
    if not len(index):
        raise DecodeError("corrupt", "the video stream has no packets")


def is_cut_short(source: Source) -> bool:
    """True when the container's own structure says that bytes are missing at the file's end."""
    size = size_of(source)
    with opened(source) as file:
        return declared_end(file, size) > size


def lacks_fragments(path: str) -> bool:
    """True when the boxes of an MP4 file break off before the index of its fragments: FFmpeg then stops in silence."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(size - 16, 0))
        if file.read(8)[4:] != b"mfro":
            return False
        return declared_end(file, size) < size


def declared_end(file: BinaryFile, size: int) -> int:
    """The length that ISO boxes, RIFF chunks or EBML elements at the top level add up to; 0 when there are none."""
    file.seek(0)
    head = file.read(16)
    if head[4:8] in FIRST_BOXES:
        return _end_of_boxes(file, size)
    if head[:4] == b"RIFF":
        return _end_of_lists(file, size)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _end_of_ebml(file)
    return 0


def _end_of_boxes(file: BinaryFile, size: int) -> int:
    end = 0
    for box in top_boxes(file, size):
        if box.kind == b"moof" and isinstance(file, RangeFile):  # read by an index that knows where the last one ends
            break
        end = box.stop
    return end


class Box(NamedTuple):
    """A box of an MP4 or MOV file: bytes from `start` to before `stop`."""

    kind: bytes
    start: int
    stop: int
    header_bytes: int


def top_boxes(file: BinaryFile, size: int, position: int = 0) -> Iterator[Box]:
    """The boxes at the top level, as far as `size`; the last one may claim to end after it."""
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        header_bytes, length = 8, struct.unpack(">I", header[:4])[0]
        if length == 1 and len(header) == 16:
            header_bytes, length = 16, struct.unpack(">Q", header[8:])[0]
        elif length == 0 and header[4:8] in TOP_LEVEL_BOXES:  # to the end of the file
            length = size - position
        if length < 8 or (position + length > size and header[4:8] not in TOP_LEVEL_BOXES):
            return  # no box: trailing bytes of something else, such as an ID3 tag
        yield Box(header[4:8], position, position + length, header_bytes)
        position += length


def _end_of_lists(file: BinaryFile, size: int) -> int:
    """The end of an AVI's headers and packets: an index may follow, and RIFF's own length is often wrong."""
    end = position = 0
    while position + 12 <= size:
        file.seek(position)
        kind, length, name = struct.unpack("<4sI4s", file.read(12))
        if kind == b"RIFF":  # one after the other, each with chunks of its own
            position += 12
            continue
        # Writers that were killed leave 0 or the largest number.
        if kind == b"LIST" and name in (b"hdrl", b"movi") and 0 < length < 0xFFFFFFFF:
            end = position + 8 + length
        position += 8 + length + length % 2
    return end


def _end_of_ebml(file: BinaryFile) -> int:
    file.seek(4)
    header_length = _ebml_length(file)
    if header_length is None:
        return 0
    file.seek(header_length, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":  # Segment
        return 0
    length = _ebml_length(file)
    return 0 if length is None else file.tell() + length


def _ebml_length(file: BinaryFile) -> int | None:
    """An EBML variable-length size; None for "unknown" (a live recording) and for no size at all."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    num_bytes = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (8 - num_bytes)) - 1)]) + file.read(num_bytes - 1), "big")
    return None if value == (1 << (7 * num_bytes)) - 1 else value


def _best_video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        kinds = ", ".join(sorted({other.type for other in container.streams})) or "none"
        raise DecodeError("no_video_stream", f"no pictures in this {container.format.name}; its streams: {kinds}")
    assert isinstance(stream, VideoStream)
    if av.stream.Disposition.attached_pic in stream.disposition:
        raise DecodeError("no_video_stream", "the only pictures are a cover image of an audio file")
    if stream.codec_context is None:
        raise DecodeError("unsupported", f"no decoder for the video stream of this {container.format.name}")
    if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise DecodeError("too_large", f"pictures of {size} are declared, the limit is {MAX_PIXELS} pixels")
    return stream


def _why_not_open(source: Source, error: av.error.FFmpegError) -> DecodeError:
    with opened(source) as file:
        head = file.read(16)
    if is_cut_short(source):
        return DecodeError("truncated", f"the file ends before its index: {error.strerror}")
    if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
        return DecodeError("corrupt", f"a container that cannot be read: {error.strerror}")
    return DecodeError("not_a_video", f"no video format fits; the file begins {head!r}")
