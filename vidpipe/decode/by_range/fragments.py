"""Fragmented MP4: where its fragments lie, and a view of the file in which most of them are padding.

    file   |ftyp|moov|moof|mdat|moof|mdat|moof|mdat|moof|mdat|moof|mdat|mfra|
    view   |ftyp|moov|moof|mdat|free               |moof|mdat|moof|mdat|mfra|

Source: ISO/IEC 14496-12, 8.8 (movie fragments, 8.8.10 random access) and 8.16.3 (segment index).
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import replace

from av.video.stream import VideoStream

from vidpipe.decode.by_range.file import Range, RangeFile
from vidpipe.decode.by_range.groups import Group, last_wanted, likely_ranges, wanted_stamps
from vidpipe.decode.by_range.mp4 import read_hollow
from vidpipe.decode.container import Box, top_boxes
from vidpipe.decode.packets import IndexMismatch, PacketIndex
from vidpipe.sampling import LAST_FRAMES
from vidpipe.spec import ClipSpec

LAST_BOX_BYTES = 16
MAX_INDEX_BYTES = 64 << 20
TAIL_BYTES = 64 << 10  # the index at the end is shorter, most of the time
NEAR_S = 1.0  # by which index and fragment may differ: one may give the key frame's time, the other the earliest
HEAD_BYTES = 64 << 10  # of a fragment: its own index is shorter, most of the time


def read_fragments(file: RangeFile, groups: list[Group], stream: VideoStream, spec: ClipSpec) -> PacketIndex:
    """The packets of the fragments with the wanted times, of the first and of the last ones, without their payload."""
    seconds, chosen, index = float(stream.time_base or 0), {0}, PacketIndex()
    for last in range(len(groups) - 1, 0, -1):
        chosen.add(last)
        index = _read_chosen(file, groups, chosen, stream.index)
        end = index.pts[bisect_left(index.offset, groups[last].start) :]
        if len(end) >= LAST_FRAMES:
            break
    first = min(_times(index.pts))
    groups = [replace(group, stamp=group.stamp - groups[0].stamp + first) for group in groups]
    stamps = wanted_stamps(first, _times(end), seconds, spec)
    wanted = last_wanted(groups, stamps, reach=spec.tolerance_s / seconds)
    file.fetch(likely_ranges(groups, wanted, index.size[0]))
    more = set(wanted)
    while more - chosen:
        chosen |= more
        index = _read_chosen(file, groups, chosen, stream.index)
        more = _beyond(index, groups, chosen, wanted)
    _check_times(index, groups, chosen, seconds)
    after_gap = sorted(groups[number].start for number in chosen if number and number - 1 not in chosen)
    return replace(index, gaps=[bisect_left(index.offset, start) for start in after_gap])


def _read_chosen(file: RangeFile, groups: list[Group], chosen: set[int], stream_index: int) -> PacketIndex:
    file.fetch([(groups[number].start, groups[number].start + HEAD_BYTES) for number in chosen])
    show_only(file, groups, sorted(chosen))
    index = read_hollow(file, stream_index)
    if not len(index) or None in index.pts or None in index.dts or index.offset != sorted(index.offset):
        raise IndexMismatch("fragments whose packets have no times, or are in no order")
    return index


def _check_times(index: PacketIndex, groups: list[Group], chosen: set[int], seconds: float) -> None:
    """Raise IndexMismatch where a fragment is not at the time that the file's index gives it."""
    for number in chosen:
        start, stop = _positions(index, groups[number])
        late = min(_times(index.pts[start:stop]), default=groups[number].stamp) - groups[number].stamp
        if abs(late) * seconds > NEAR_S:
            raise IndexMismatch(f"the fragment at byte {groups[number].start} is not at the time in the index")


def _beyond(index: PacketIndex, groups: list[Group], chosen: set[int], wanted: dict[int, float]) -> set[int]:
    """The neighbours of wanted groups that are needed, too: for their key frame, or as they may show wanted pictures.

    No packet shows its picture before its own decoding time, so what follows the last packet of a group is shown
    after the time at which that one is decoded.
    """
    missing, pts, dts = set(), _times(index.pts), _times(index.dts)
    for number, latest in wanted.items():
        start, stop = _positions(index, groups[number])
        if start == stop or dts[stop - 1] <= latest:
            missing.add(number + 1)
        while number in chosen and not (start < stop and index.is_key[start] and pts[start] <= latest):
            number -= 1
            start, stop = _positions(index, groups[max(number, 0)])
        missing.add(number)
    return missing & set(range(len(groups)))


def _times(times: list[int | None]) -> list[int]:
    """The same; `_read_chosen` has seen that every packet has one."""
    return [time for time in times if time is not None]


def _positions(index: PacketIndex, group: Group) -> tuple[int, int]:
    return bisect_left(index.offset, group.start), bisect_left(index.offset, group.stop)


def fragment_groups(file: RangeFile, boxes: list[Box], track_id: int) -> list[Group]:
    """The fragments that the file's own index lists; `boxes` are those before the first fragment."""
    entries, end = _random_access(file, track_id) or _segment_index(file, boxes)
    first = {}
    for stamp, start in sorted(entries, reverse=True):
        first[start] = stamp  # the earliest one in each
    starts = sorted(first)
    stamps = [first[start] for start in starts]
    if end > file.size_bytes or len(starts) < 2 or stamps != sorted(set(stamps)):
        raise IndexMismatch("fragmented, with an index that is no list of fragments")
    stops = [*starts[1:], end]
    return [Group(stamp, start, stop) for stamp, start, stop in zip(stamps, starts, stops, strict=True)]


def show_only(file: RangeFile, groups: list[Group], chosen: list[int]) -> None:
    """Let the file look as if it had the chosen fragments alone, and their payload as if it were zeros."""
    hollow: list[Range] = []
    disguise: list[tuple[int, bytes]] = []
    position = groups[0].start
    for number in [*chosen, None]:
        start = groups[number].start if number is not None else groups[-1].stop
        if start - position >= 16:
            disguise.append((position, struct.pack(">I4sQ", 1, b"free", start - position)))
            hollow.append((position, start))
        if number is not None:
            hollow += _payloads(file, groups[number])
            position = groups[number].stop
    file.hollow, file.disguise = hollow, disguise


def _payloads(file: RangeFile, group: Group) -> list[Range]:
    boxes = list(top_boxes(file, group.stop, group.start))
    if not boxes or boxes[0].start != group.start or boxes[-1].stop != group.stop:
        raise IndexMismatch(f"no fragment from byte {group.start} to {group.stop}")
    for box in boxes:
        if box.kind == b"moof" and b"tfdt" not in file.read_at(box.start, min(box.stop - box.start, MAX_INDEX_BYTES)):
            raise IndexMismatch("a fragment that does not tell its time")
    return [(box.start + box.header_bytes, box.stop) for box in boxes if box.kind == b"mdat"]


def _random_access(file: RangeFile, track_id: int) -> tuple[list[tuple[int, int]], int] | None:
    """(time, place of the fragment) of each key frame in the file's last box (mfra), and where that box begins."""
    file.fetch([(file.size_bytes - TAIL_BYTES, file.size_bytes)])
    size, kind, _, num_bytes = struct.unpack(">I4sII", file.read_at(file.size_bytes - LAST_BOX_BYTES, LAST_BOX_BYTES))
    if (size, kind) != (LAST_BOX_BYTES, b"mfro") or not 8 < num_bytes < min(MAX_INDEX_BYTES, file.size_bytes):
        return None
    start = file.size_bytes - num_bytes
    data = file.read_at(start, num_bytes)
    position = 8
    while position + 24 <= num_bytes:
        size, kind, version, number, lengths, count = struct.unpack_from(">I4sB3x3I", data, position)
        if kind == b"tfra" and number == track_id:
            layout = ">QQ" if version == 1 else ">II"
            step = struct.calcsize(layout) + 3 + (lengths >> 4 & 3) + (lengths >> 2 & 3) + (lengths & 3)
            at = position + 24
            if at + count * step > num_bytes:
                return None
            return [struct.unpack_from(layout, data, at + number * step) for number in range(count)], start
        position += max(size, 8)
    return None


def _segment_index(file: RangeFile, boxes: list[Box]) -> tuple[list[tuple[int, int]], int]:
    """The same from the box before the fragments (sidx), and where the last of its segments ends."""
    index = next((box for box in boxes if box.kind == b"sidx"), None)
    if index is None or index.stop - index.start > MAX_INDEX_BYTES:
        raise IndexMismatch("fragmented, without an index of the fragments")
    data = file.read_at(index.start, index.stop - index.start)
    at = index.header_bytes
    layout = ">QQ2xH" if data[at] == 1 else ">II2xH"
    stamp, offset, count = struct.unpack_from(layout, data, at + 12)
    at += 12 + struct.calcsize(layout)
    position = index.stop + offset
    entries = []
    for _ in range(count):
        size, duration, _ = struct.unpack_from(">III", data, at)
        if size >> 31:
            raise IndexMismatch("an index of indices")
        entries.append((stamp, position))
        stamp, position, at = stamp + duration, position + size, at + 12
    if any(box.kind == b"moof" for box in top_boxes(file, file.size_bytes, position)):
        raise IndexMismatch("an index of some fragments only")
    return entries, position
