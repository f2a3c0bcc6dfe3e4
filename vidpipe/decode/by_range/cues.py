"""A file with an index of its key frames: only the groups of pictures around the wanted times are read, by seeking.

    wanted        x              x       x
    file     |K........|K........|K....|K......|K........|K.......|
    read     |K.....             |K.   |K....            |K.......|

The last group tells how long the video is. Knows Matroska and WebM, whose cues give place and time of key frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.by_range.groups import Group, last_wanted, likely_ranges, wanted_stamps
from vidpipe.decode.h264 import H264Headers
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pictures import IN_ORDER_CODECS, INTRA_ONLY_CODECS, MAX_REORDERED
from vidpipe.sampling import LAST_FRAMES
from vidpipe.spec import ClipSpec


def read_islands(
    file: RangeFile, container: InputContainer, stream: VideoStream, spec: ClipSpec
) -> list[list[av.Packet]]:
    """The packets around the wanted times, each island from a key frame on; raises IndexMismatch for other files."""
    num_after = num_reordered(stream) + 1
    beginning = next(packet for packet in container.demux(stream) if packet.size)
    first = stamp_of(beginning)
    container.seek(first, stream=stream)  # has FFmpeg read the index
    groups = groups_of(stream, file.size_bytes)
    if not groups or groups[0].stamp != first:
        raise IndexMismatch("the file has no index of its key frames")

    def read(number: int, last: float) -> list[av.Packet]:
        return read_until(packets_from(container, stream, groups[number]), last, num_after)

    number_of_end = len(groups)
    end: list[av.Packet] = []
    while number_of_end > 0 and len(end) < LAST_FRAMES:
        number_of_end -= 1
        file.fetch([(groups[number_of_end].start, file.size_bytes)])
        end = read(number_of_end, np.inf)
    stamps = wanted_stamps(first, [stamp_of(packet) for packet in end], float(stream.time_base or 0), spec)
    wanted = {number: last for number, last in last_wanted(groups, stamps).items() if number < number_of_end}
    file.fetch(likely_ranges(groups, wanted, beginning.size))
    islands = {number: read(number, last) for number, last in wanted.items()}
    return joined({**islands, number_of_end: end}, groups)


def num_reordered(stream: VideoStream) -> int:
    """Packets that may come before one whose picture is shown earlier than theirs."""
    context = stream.codec_context
    if context.name in IN_ORDER_CODECS | INTRA_ONLY_CODECS | {"libdav1d"}:
        return 0
    if context.name == "h264" and not H264Headers(context.extradata or b"").tell_reordering:
        return MAX_REORDERED
    return context.reorder_depth if context.name in ("h264", "hevc") else MAX_REORDERED


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


def packets_from(container: InputContainer, stream: VideoStream, group: Group) -> Iterator[av.Packet]:
    container.seek(group.stamp, stream=stream)
    packets = (packet for packet in container.demux(stream) if packet.size)
    first = next(packets, None)
    if first is None or first.pts != group.stamp or not first.is_keyframe:
        raise IndexMismatch(f"no key frame at timestamp {group.stamp}, where the index has one")
    yield first
    yield from packets


def read_until(packets: Iterable[av.Packet], last: float, num_after: int) -> list[av.Packet]:
    """Packets, until so many are shown after the stamp `last` that no further one can be shown before."""
    read = []
    for packet in packets:
        read.append(packet)
        num_after -= stamp_of(packet) > last
        if num_after <= 0:
            break
    return read


def stamp_of(packet: av.Packet) -> int:
    if packet.pts is None:
        raise IndexMismatch("a packet without a time")
    return packet.pts


def joined(islands: dict[int, list[av.Packet]], groups: list[Group]) -> list[list[av.Packet]]:
    """The islands in the order of the file; those that touch are one."""
    result: list[list[av.Packet]] = []
    for number in sorted(islands):
        stamps = [packet.pts for packet in result[-1]] if result else []
        if groups[number].stamp in stamps:
            result[-1] = result[-1][: stamps.index(groups[number].stamp)] + islands[number]
        else:
            result.append(islands[number])
    return result
