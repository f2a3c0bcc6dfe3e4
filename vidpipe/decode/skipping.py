"""Whether pictures that are skipped leave all others as they are, told by the headers of what passes by.

FFmpeg skips H.264 and HEVC pictures by a mark in the first byte, without reading on. In a sound stream nothing is lost
with them. But in a full decode a damaged one may have others thrown away: the decoder goes by its frame number (H.264)
or its list of references (HEVC). And some sound ones are no references to their like, but to others (HEVC's layers).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import av

from vidpipe.decode import h264, hevc
from vidpipe.decode.bits import BitReader, nal_units
from vidpipe.decode.packets import IndexMismatch, PacketIndex
from vidpipe.decode.plan import Pictures, Run

# First bytes of units that are not skipped with a picture's slices, or lost with them: slices marked as references, and
# parameter sets that are not.
NEVER_SKIPPED = {*(mark << 5 | kind for mark in (1, 2, 3) for kind in (h264.SLICE, h264.IDR)), h264.SPS, h264.PPS}
NOWHERE = -1 << 40  # no picture order count
START_BITS = 12  # of a slice: in so few, nearly all say where it begins, its type and its parameter set
PLAIN_HEAD = struct.Struct(">IBQ")  # length and first byte of a unit, and the bits behind it


class SkipCheck(Protocol):
    """Is shown the packets of a run, fed and skipped ones, in decoding order; raises IndexMismatch."""

    def begin(self, before: bytes | None) -> None:
        """A run begins, behind that packet."""

    def add(self, data: bytes, stamp: int, *, is_next: bool) -> bool:
        """A packet and its presentation time; not `is_next` when packets before it were left out.

        True for a picture that the decoder skips when told to.
        """

    def end(self) -> None:
        """The run is over."""


def checked(
    packets: Iterator[tuple[int, av.Packet]],
    check: SkipCheck | None,
    run: Run,
    pictures: Pictures,
    index: PacketIndex,
) -> Iterator[tuple[int, av.Packet, bool]]:
    """The packets of a run while `check` looks at them, and at their neighbours where these are in memory.

    With each, whether it may be fed as one to skip; without a check all may.

    The one before shows whether any are lost in between; those behind, which of them are shown before the run's last.
    """
    if check is None:
        yield from ((position, packet, True) for position, packet in packets)
        return
    held, stamp, previous = index.held, pictures.stamp, run.start - 1
    stamps = stamp[run.start : run.stop].tolist()
    knows_before = held is not None and run.start > 0 and run.start not in index.gaps
    check.begin(bytes(held[previous]) if held is not None and knows_before else None)
    for position, packet in packets:
        can_be_skipped = check.add(bytes(packet), stamps[position - run.start], is_next=position == previous + 1)
        previous = position
        yield position, packet, can_be_skipped
    latest = stamp[run.feed].max()
    following = run.stop
    while held is not None and following < len(held) and stamp[following] < latest:
        check.add(bytes(held[following]), int(stamp[following]), is_next=True)
        following += 1
    check.end()


class _Order:
    """Picture order counts against presentation times: a decoder shows pictures by the former."""

    def __init__(self) -> None:
        self.epoch = 0
        self._anchor = 0
        self._shown: list[tuple[int, int, int]] = []

    def restart(self) -> None:
        """Counts begin anew, and everything before is shown before."""
        self.epoch += 1
        self._anchor = 0

    def show(self, stamp: int, lsb: int, num_bits: int, *, is_anchor: bool) -> int:
        """A picture is shown; its full count is the nearest one to the last anchor's."""
        anchor, half = self._anchor, 1 << num_bits - 1
        full = anchor + (lsb - anchor + half & 2 * half - 1) - half
        if is_anchor:
            self._anchor = full
        self._shown.append((stamp, self.epoch, full))
        return full

    def check(self) -> None:
        counts = [count for _, *count in sorted(self._shown)]
        if any(before >= after for before, after in pairwise(counts)):
            raise IndexMismatch("the pictures' own order is not that of their times")


class H264Check:
    """Frame numbers count reference pictures; where one jumps, the decoder makes up the missing ones."""

    def __init__(self, extradata: bytes) -> None:
        self._headers = h264.H264Headers(extradata)

    def begin(self, before: bytes | None) -> None:
        self._order = _Order()
        previous = self._headers.read(before) if before is not None else None
        self._previous = previous.frame_num if previous is not None and previous.order_type is not None else None
        self._reference: int | None = None

    def add(self, data: bytes, stamp: int, *, is_next: bool) -> bool:
        picture = plain_picture(data, self._headers) or self._read(data)
        is_idr, _, is_reference, order_type, lsb, lsb_bits, _, number, number_bits = picture
        if is_idr:
            self._order.restart()
        elif is_next:
            last, previous, reference = (1 << number_bits) - 1, self._previous, self._reference
            if (previous is not None and (number - previous) & last > 1) or (
                reference is not None and (number - reference) & last > 1
            ):
                raise IndexMismatch(
                    f"frame number {number} comes after {previous}, that of a reference after {reference}"
                )
        else:
            self._reference = None
        self._previous = number
        if is_reference:
            self._reference = number
        if order_type == 0:
            self._order.show(stamp, lsb, lsb_bits, is_anchor=is_reference)
        return not is_reference

    def _read(self, data: bytes) -> h264.Picture:
        units = list(nal_units(data, self._headers.length_size))
        picture = self._headers.read_units(units)
        if picture.order_type is None or (picture.is_idr and not picture.is_reference):
            raise IndexMismatch("a picture whose header cannot be read")
        if not picture.is_reference and any(unit[0] in NEVER_SKIPPED for unit in units):
            raise IndexMismatch("units of a picture that contradict each other")
        return picture

    def end(self) -> None:
        self._order.check()


def plain_picture(data: bytes, headers: h264.H264Headers) -> h264.Picture | None:
    """As `headers.read`, in a fifth of the time; None for all but packets of one slice that is read as most are."""
    start, num_bytes = 4, len(data)
    if headers.length_size != 4 or num_bytes < 32:
        return None
    if data[4] & 31 == h264.DELIMITER:
        start += 4 + data[3]
        if num_bytes < start + 9:
            return None
    unit_bytes, head, value = PLAIN_HEAD.unpack_from(data, start - 4)
    if unit_bytes != num_bytes - start or head & 31 != h264.SLICE or data.find(b"\0\0\3", start, start + 9) >= 0:
        return None
    num_bits, parameters = _plain_start(value >> 64 - START_BITS)
    sequence = headers.sequence_of.get(parameters)
    if sequence is None or not sequence.frames_only or sequence.separate_planes:
        return None
    number_bits, lsb_bits, order_type = sequence.frame_num_bits, sequence.order_lsb_bits, sequence.order_type
    left = 64 - num_bits - number_bits
    if left < lsb_bits:
        return None
    number = value >> left & (1 << number_bits) - 1
    lsb = value >> left - lsb_bits & (1 << lsb_bits) - 1 if order_type == 0 else 0
    return h264.Picture(False, None, head > h264.SLICE, order_type, lsb, lsb_bits, False, number, number_bits)


@lru_cache(maxsize=1 << START_BITS)
def _plain_start(value: int) -> tuple[int, int]:
    """Of a slice's first bits: how many say where it begins and of what type it is, and the parameter set; else -1."""
    reader = BitReader((value << 16 - START_BITS).to_bytes(2, "big"))
    try:
        reader.unsigned()  # first_mb_in_slice
        reader.unsigned()  # slice_type
        parameters = reader.unsigned()
    except ValueError:
        return 0, -1
    num_bits = 16 - reader.num_left
    return (num_bits, parameters) if num_bits <= START_BITS else (0, -1)


class HevcCheck:
    """Each picture lists the references that it leaves in the decoder, and one that is needed later has to be there."""

    def __init__(self, extradata: bytes) -> None:
        self._headers = hevc.HevcHeaders(extradata)

    def begin(self, before: bytes | None) -> None:
        self._order = _Order()
        self._held: set[int] = set()
        self._num_entries = 0

    def add(self, data: bytes, stamp: int, *, is_next: bool) -> bool:
        try:
            picture = self._headers.read(data)
        except ValueError as error:
            raise IndexMismatch(f"a picture whose header cannot be read: {error}") from None
        if not picture.is_shown:
            raise IndexMismatch("a picture that is not to be shown")
        kind, lsb, lsb_bits = picture.kind, picture.order_lsb, picture.order_lsb_bits
        is_entry = kind >= hevc.FIRST_IRAP
        self._num_entries += is_entry
        if kind in hevc.SKIPPED_LEADING and self._num_entries == 1:
            return False  # it refers to what was before the entry; the decoder leaves it out
        if kind in hevc.IDR or kind in hevc.BLA:
            self._order.restart()
            self._held = set()
        full = self._order.show(stamp, lsb, lsb_bits, is_anchor=picture.anchors_order)
        named = [(full + delta, is_used) for delta, is_used in picture.references]
        named += [self._long_term(entry, full, picture) for entry in picture.long_term]
        held, kept = self._held, set()
        for count, is_used in named:
            if count in held:
                kept.add(count)
            elif is_used and not is_entry:
                raise IndexMismatch("a reference that was skipped, or never came")
        if picture.is_reference:
            kept.add(full)
        self._held = kept
        return not picture.is_reference

    def _long_term(self, entry: hevc.LongTerm, full: int, picture: hevc.Picture) -> tuple[int, bool]:
        """The count of a long-term reference; without its high bits, whichever is there."""
        lsb, turns, is_used = entry
        size = 1 << picture.order_lsb_bits
        if turns is not None:
            return full - full % size - turns * size + lsb, is_used
        found = [count for count in self._held if count % size == lsb]
        return found[0] if found else NOWHERE, is_used

    def end(self) -> None:
        self._order.check()


SKIP_CHECKS: dict[str, Callable[[bytes], SkipCheck]] = {"h264": H264Check, "hevc": HevcCheck}
