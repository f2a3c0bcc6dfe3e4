"""A file with an index of its key frames: only the groups of pictures around the wanted times are read, by seeking.

    wanted        x              x       x
    file     |K........|K........|K....|K......|K........|K.......|
    read     |K.....             |K.   |K....            |K.......|

The last group tells how long the video is. Knows Matroska and WebM, whose cues list the key frames, and AVI, whose
index lists every packet and whose packets carry no times: there a packet's number stands for its time.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.by_range.groups import Group, last_wanted, likely_ranges, wanted_stamps
from vidpipe.decode.h264 import H264Headers
from vidpipe.decode.mpeg4 import EMPTY_VOP_BYTES, announces_packing
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pictures import IN_ORDER_CODECS, INTRA_ONLY_CODECS, MAX_REORDERED
from vidpipe.sampling import LAST_FRAMES
from vidpipe.spec import ClipSpec

# In AVI, B pictures right behind a key frame are shown at its number and after it, but belong to the group before.
EARLY_IN_AVI = 4


def read_islands(
    file: RangeFile, container: InputContainer, stream: VideoStream, spec: ClipSpec
) -> list[list[av.Packet]]:
    """The packets around the wanted times, each island from a key frame on; raises IndexMismatch for other files."""
    reader = _Reader(container, stream)
    beginning = next(reader.packets())
    if reader.is_avi:
        check_avi(stream, beginning)
    first = reader.stamp(beginning)
    container.seek(first, stream=stream)  # has FFmpeg read the index
    groups = groups_of(stream, file.size_bytes)
    if not groups or groups[0].stamp != first:
        raise IndexMismatch("the file has no index of its key frames")
    number_of_end = len(groups)
    end: list[av.Packet] = []
    while number_of_end > 0 and len(end) < LAST_FRAMES:
        number_of_end -= 1
        file.fetch([(groups[number_of_end].start, file.size_bytes)])
        end = reader.read_until(groups[number_of_end], np.inf)
    seconds, early = float(stream.time_base or 0), EARLY_IN_AVI if reader.is_avi else 0
    stamps = wanted_stamps(first, [reader.stamp(packet) for packet in end], seconds, spec)
    latest = last_wanted(groups, stamps, reach=spec.tolerance_s / seconds, early=early)
    wanted = {number: last for number, last in latest.items() if number < number_of_end}
    file.fetch(likely_ranges(groups, wanted, beginning.size))
    islands = {number: reader.read_until(groups[number], last) for number, last in wanted.items()}
    return reader.joined({**islands, number_of_end: end}, groups)


def check_avi(stream: VideoStream, beginning: av.Packet) -> None:
    """Raise IndexMismatch where packets may hold no picture, or two, or where their order tells nothing."""
    name = stream.codec_context.name
    sizes = [entry.size for entry in stream.index_entries]
    if len(sizes) != stream.frames:
        raise IndexMismatch(f"an index of {len(sizes)} packets, where the header says {stream.frames}")
    if name == "mpeg4":
        is_packed = announces_packing((stream.codec_context.extradata or b"") + bytes(beginning))
        if is_packed or min((size for size in sizes if size), default=0) < EMPTY_VOP_BYTES:
            raise IndexMismatch("packets that may hold no picture, or two")
    elif name not in IN_ORDER_CODECS | INTRA_ONLY_CODECS:
        raise IndexMismatch(f"{name} in AVI")


def num_reordered(stream: VideoStream) -> int:
    """Packets that may come before one whose picture is shown earlier than theirs."""
    context = stream.codec_context
    if context.name in IN_ORDER_CODECS | INTRA_ONLY_CODECS | {"libdav1d"}:
        return 0
    if context.name == "h264" and not H264Headers(context.extradata or b"").tell_reordering:
        return MAX_REORDERED
    return context.reorder_depth if context.name in ("h264", "hevc", "mpeg4") else MAX_REORDERED


def groups_of(stream: VideoStream, size_bytes: int) -> list[Group]:
    """The groups of pictures that a container's index lists."""
    first: dict[int, int] = {}  # of the key frames in one cluster, which are all listed at its place
    for entry in stream.index_entries:
        if entry.is_keyframe:
            first[entry.pos] = min(entry.timestamp, first.get(entry.pos, entry.timestamp))
    starts, stamps = sorted(first), [first[start] for start in sorted(first)]
    if stamps != sorted(set(stamps)):
        raise IndexMismatch("key frames that are not in the order of their times")
    return [Group(*facts) for facts in zip(stamps, starts, [*starts[1:], size_bytes], strict=True)]


class _Reader:
    """Reads the packets of a stream from its key frames on."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self.is_avi = container.format.name == "avi"
        self._num_after = num_reordered(stream) + 1

    def stamp(self, packet: av.Packet) -> int:
        stamp = packet.dts if self.is_avi else packet.pts
        if stamp is None:
            raise IndexMismatch("a packet without a time")
        return stamp

    def packets(self) -> Iterator[av.Packet]:
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def read_until(self, group: Group, last: float) -> list[av.Packet]:
        """A group's packets, until so many are shown after the stamp `last` that no further one is shown before."""
        self._container.seek(group.stamp, stream=self._stream)
        read: list[av.Packet] = []
        num_after = 0
        for packet in self.packets():
            if not read and (self.stamp(packet) != group.stamp or not packet.is_keyframe):
                break
            read.append(packet)
            num_after += self.stamp(packet) > last
            if num_after >= self._num_after:
                break
        if not read:
            raise IndexMismatch(f"no key frame at timestamp {group.stamp}, where the index has one")
        return read

    def joined(self, islands: dict[int, list[av.Packet]], groups: list[Group]) -> list[list[av.Packet]]:
        """The islands in the order of the file; those that touch are one."""
        result: list[list[av.Packet]] = []
        for number in sorted(islands):
            stamps = [self.stamp(packet) for packet in result[-1]] if result else []
            if groups[number].stamp in stamps:
                result[-1] = result[-1][: stamps.index(groups[number].stamp)] + islands[number]
            else:
                result.append(islands[number])
        return result
