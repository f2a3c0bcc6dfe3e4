"""A file with an index of its key frames: only the groups of pictures around the wanted times are read, by seeking.

    wanted        x              x       x
    file     |K........|K........|K....|K......|K........|K.......|
    read     |K.....             |K.   |K....            |K.......|

The last group tells how long the video is. Knows Matroska and WebM, whose cues give place and time of key frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vidpipe.decode.h264 import H264Headers
from vidpipe.decode.packets import HOLD_BYTES, IndexMismatch
from vidpipe.decode.pictures import IN_ORDER_CODECS, INTRA_ONLY_CODECS, MAX_REORDERED
from vidpipe.decode.range_file import MISS_BYTES, RangeFile
from vidpipe.sampling import LAST_FRAMES, ROUNDING_S, video_duration_s, wanted_times_s
from vidpipe.spec import ClipSpec

SPARE = 0.15  # of a group's bytes, read beyond where the wanted picture is likely to end


@dataclass(frozen=True)
class Group:
    """A key frame and what follows it up to the next one, as the file's own index has them: bytes start to stop."""

    stamp: int
    start: int
    stop: int


def read_islands(
    file: RangeFile, container: InputContainer, stream: VideoStream, spec: ClipSpec
) -> list[list[av.Packet]]:
    """The packets around the wanted times, each island from a key frame on; raises IndexMismatch for other files."""
    seconds = float(stream.time_base or 0)
    num_after = num_reordered(stream) + 1
    first = next(packet for packet in container.demux(stream) if packet.size)
    container.seek(stamp_of(first), stream=stream)  # has FFmpeg read the index
    groups = groups_of(stream, file.size_bytes)
    if not groups or groups[0].stamp != first.pts:
        raise IndexMismatch("the file has no index of its key frames")

    def read(number: int, last: float) -> list[av.Packet]:
        return read_until(packets_from(container, stream, groups[number]), last, num_after)

    file.fetch([(groups[-1].start, file.size_bytes)])
    islands = {len(groups) - 1: read(len(groups) - 1, np.inf)}
    times_s = np.sort([(stamp_of(packet) - stamp_of(first)) * seconds for packet in islands[len(groups) - 1]])
    if len(times_s) < LAST_FRAMES:
        raise IndexMismatch(f"the last key frame has only {len(times_s) - 1} frames after it")
    wanted_s = wanted_times_s(video_duration_s(times_s), spec)
    if wanted_s is None:
        raise IndexMismatch(f"sampling {spec.sampling} goes by the number of frames")
    wanted = last_wanted(groups, stamp_of(first) + (np.append(0.0, wanted_s) + ROUNDING_S) / seconds)
    ranges = [(groups[number].start, likely_end(groups[number], groups[number + 1], last, first.size))
              for number, last in wanted.items()]  # fmt: skip
    if sum(stop - start for start, stop in ranges) > min(HOLD_BYTES, file.size_bytes // 2):
        raise IndexMismatch("too much of the file is wanted")
    file.fetch(ranges)
    islands |= {number: read(number, last) for number, last in wanted.items()}
    return joined(islands, groups)


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
    entries = sorted({(entry.timestamp, entry.pos) for entry in stream.index_entries if entry.is_keyframe})
    if not all(before[1] < after[1] for before, after in pairwise(entries)):
        raise IndexMismatch("key frames that are not in the order of their times")
    stops = [start for _, start in entries[1:]] + [size_bytes]
    return [Group(stamp, start, stop) for (stamp, start), stop in zip(entries, stops, strict=True)]


def last_wanted(groups: list[Group], stamps: np.ndarray) -> dict[int, float]:
    """The latest of the wanted stamps in each group that has any, but for the last group, which is read anyway."""
    starts = [group.stamp for group in groups]
    latest: dict[int, float] = {}
    for stamp in sorted(stamps.tolist()):
        number = max(bisect_right(starts, stamp) - 1, 0)
        if number < len(groups) - 1:
            latest[number] = stamp
    return latest


def likely_end(group: Group, following: Group, last: float, key_bytes: int) -> int:
    """Where in the file the picture at stamp `last` ends, if the others of its group are all of one size."""
    num_bytes = following.start - group.start
    share = (last - group.stamp) / (following.stamp - group.stamp) + SPARE
    if share >= 1:  # pictures of the following group have to be seen, too
        return following.start + MISS_BYTES
    end = group.start + int(key_bytes + share * max(num_bytes - key_bytes, 0))
    return end if following.start - end > MISS_BYTES else following.start


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
