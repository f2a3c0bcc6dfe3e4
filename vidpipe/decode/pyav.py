"""The exact decoder: frame i is the i-th frame that a full sequential FFmpeg decode shows, bit for bit.

Where the packets alone say which pictures there are, pictures that nothing wanted refers to are not decoded
(`skip_frame`), and decoding stops at the last wanted one. Elsewhere the pictures are counted by decoding them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import av
import numpy as np

from vidpipe.decode.container import is_cut_short, open_container
from vidpipe.decode.packets import HOLD_BYTES, PacketIndex, damaged_targets, read_packets, shown_pts
from vidpipe.decode.resize import Resizer
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec

# Decoders whose skip_frame="NONREF" leaves every picture that is decoded bit-identical.
NONREF_CODECS = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "h263", "msmpeg4v3", "vc1", "wmv3"})
CODEC_NAMES = {"libdav1d": "av1", "libaom": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
FIELD_ORDER_UNKNOWN, FIELD_ORDER_PROGRESSIVE = 0, 1  # AVFieldOrder


class IndexMismatch(Exception):  # noqa: N818 - not an error of the video: the caller counts the pictures instead
    """The packets promised a picture that the decoder did not show."""


class PyavVideo:
    """A video decoded with PyAV; see `vidpipe.decode.Video`.

    `count=True` counts the pictures by decoding them all, whatever the packets say.
    """

    def __init__(self, path: str, spec: ClipSpec, *, count: bool = False) -> None:
        self._path = path
        self._resize = Resizer(spec)
        self._container, self._stream = open_container(path)
        self._damage: list[int] = []
        self._kept: list[av.VideoFrame] | None = None
        try:
            self._index = self._read_index()
            self.codec = self._codec_name()
            self._shown = None if count else self._shown_pts()
            self.times_s = self._count_pictures() if self._shown is None else self._times_s(self._shown)
        except BaseException:
            self._container.close()
            raise

    @property
    def width(self) -> int:
        return self._resize.width

    @property
    def height(self) -> int:
        return self._resize.height

    def close(self) -> None:
        self._kept = None
        self._container.close()

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """See `Video.frames`. Raises DecodeError `corrupt` when a wanted picture is damaged, and IndexMismatch."""
        if self._shown is None:
            return self._frames_by_count([int(index) for index in indices])
        return self._frames_by_pts([int(self._shown[index]) for index in indices])

    def _read_index(self) -> PacketIndex:
        index = read_packets(self._container, self._stream)
        if is_cut_short(self._path):
            raise DecodeError("truncated", f"the file ends before its content does; it has {len(index.pts)} packets")
        if index.read_error:
            raise DecodeError("corrupt", f"the container breaks off after {len(index.pts)} packets: {index.read_error}")
        if not index.pts:
            raise DecodeError("corrupt", "the video stream has no packets")
        return index

    def _codec_name(self) -> str:
        name = self._stream.codec_context.name
        return CODEC_NAMES.get(name, name)

    def _shown_pts(self) -> np.ndarray | None:
        is_interlaced = self._stream.codec_context.field_order not in (FIELD_ORDER_UNKNOWN, FIELD_ORDER_PROGRESSIVE)
        return shown_pts(self._index, self._container.format.name, self.codec, is_interlaced)

    def _times_s(self, pts: np.ndarray) -> np.ndarray:
        return (pts - pts[0]) * float(self._stream.time_base or 1)

    def _frames_by_pts(self, wanted: list[int]) -> Iterator[np.ndarray]:
        position_of = {pts: position for position, pts in enumerate(self._index.pts)}
        targets = {position_of[pts] for pts in wanted}
        remaining = iter(wanted)
        pts = next(remaining, None)
        for picture in self._decode(max(targets) + 1, targets):
            if picture.is_corrupt and picture.pts in position_of:
                self._damage.append(position_of[picture.pts])
            if picture.pts == pts:
                yield self._resize(picture)
                pts = next(remaining, None)
        damaged = damaged_targets(self._index, targets, self._damage)
        if damaged or (pts is not None and self._damage):
            raise DecodeError("corrupt", f"{max(len(damaged), 1)} of {len(targets)} wanted frames cannot be decoded")
        if pts is not None:
            raise IndexMismatch(f"no picture at timestamp {pts}")

    def _frames_by_count(self, wanted: list[int]) -> Iterator[np.ndarray]:
        if wanted[-1] >= self._num_sound:
            raise DecodeError("corrupt", f"the pictures from {self._num_sound} on cannot be decoded")
        pictures = self._decode(len(self._index.pts), None) if self._kept is None else iter(self._kept)
        chosen = set(wanted)
        for number, picture in enumerate(pictures):
            if number in chosen:
                yield self._resize(picture)
            if number == wanted[-1]:
                return

    def _count_pictures(self) -> np.ndarray:
        """Times of all pictures, from decoding them all; keeps the pictures when they fit into memory."""
        pts: list[int | None] = []
        kept: list[av.VideoFrame] | None = []
        num_bytes = 0
        num_sound: int | None = None  # pictures before the first damaged one
        for picture in self._decode(len(self._index.pts), None):
            if num_sound is None and (self._damage or picture.is_corrupt):
                num_sound = len(pts)
            pts.append(picture.pts)
            if kept is not None:
                kept.append(picture)
                num_bytes += sum(plane.buffer_size for plane in picture.planes)
                if num_bytes > HOLD_BYTES:
                    kept = None
        if not pts:
            raise DecodeError("corrupt", f"none of the {len(self._index.pts)} packets gives a picture")
        if num_sound is None and self._damage:  # the end is missing, and how much of it nobody knows
            num_sound = 0
        self._num_sound = len(pts) if num_sound is None else num_sound
        self._kept = kept
        stamps = [time for time in pts if time is not None]
        if len(stamps) == len(pts) and all(before < after for before, after in pairwise(stamps)):
            return self._times_s(np.array(stamps, np.int64))
        return np.arange(len(pts)) / float(self._stream.average_rate or 25)

    def _decode(self, stop: int, targets: set[int] | None) -> Iterator[av.VideoFrame]:
        """The pictures of the packets before position `stop`; `_damage` notes the positions of those that fail.

        With `targets`, pictures of other packets may be left out where nothing refers to them.
        """
        self._damage = []
        packets = self._rewind()
        context = self._stream.codec_context
        if not context.is_open:  # it stays open from one pass over held packets to the next
            context.thread_count = 1  # many videos at once, one thread each; skip_frame needs it, too
        kept_whole = targets if self.codec in NONREF_CODECS else None
        for position, packet in packets:
            if position == stop:
                break
            if kept_whole is not None:
                context.skip_frame = "DEFAULT" if position in kept_whole else "NONREF"
            # In a transport stream the mark says that a counter jumped, as it does where two recordings are joined.
            if packet.is_corrupt and self._container.format.name != "mpegts":
                self._damage.append(position)
            yield from self._decode_packet(packet, position)
        context.skip_frame = "DEFAULT"
        yield from self._decode_packet(None, stop)

    def _decode_packet(self, packet: av.Packet | None, position: int) -> list[av.VideoFrame]:
        try:
            return self._stream.codec_context.decode(packet)
        except av.error.MemoryError as error:
            raise DecodeError("out_of_memory", f"the decoder ran out of memory: {error}") from None
        except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError, av.error.NotImplementedError) as error:
            raise DecodeError("unsupported", f"{self.codec}: {error.strerror}") from None
        except av.error.FFmpegError:
            self._damage.append(position)
            return []

    def _rewind(self) -> Iterator[tuple[int, av.Packet]]:
        """(position, packet) from the start in decoding order: the held packets, or read from the file again."""
        if self._index.held is not None:
            if self._stream.codec_context.is_open:
                self._stream.codec_context.flush_buffers()
            return enumerate(self._index.held)
        self._container.close()
        self._container, self._stream = open_container(self._path)
        return enumerate(packet for packet in self._container.demux(self._stream) if packet.size)
