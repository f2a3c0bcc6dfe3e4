"""H.264 headers: where decoding may start, and the order of pictures in containers without timestamps.

Source: ITU-T H.264, 7.3 (syntax), 8.2.1 (picture order count), D.1.8 (recovery point), E.1.1 (VUI).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from vidpipe.decode.bits import BitReader, nal_units, without_escapes

SLICE, SLICE_A, IDR, SEI, SPS, PPS, DELIMITER = 1, 2, 5, 6, 7, 8, 9
RECOVERY_POINT = 6
EXTENDED_ASPECT_RATIO = 255
SEQUENCE_BYTES = 96  # of a sequence parameter set, all that is looked at
MAX_REORDERED = 16  # pictures; FFmpeg takes no parameter set at its word that says more
# Profiles whose sequence parameters tell the chroma format.
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


@dataclass(frozen=True)
class Sequence:
    """What is needed of a sequence parameter set."""

    frame_num_bits: int
    order_type: int
    order_lsb_bits: int
    frames_only: bool
    separate_planes: bool
    tells_reordering: bool
    """It says how far display and decoding order differ; else FFmpeg learns that from the pictures."""


class Picture(NamedTuple):
    """What the first slice of an access unit and its SEI say."""

    is_idr: bool
    recovery_frames: int | None
    is_reference: bool
    order_type: int | None
    """None where the slice header cannot be read."""
    order_lsb: int = 0
    order_lsb_bits: int = 0
    is_field: bool = False
    frame_num: int = 0
    """Counts the reference pictures, up to 2 ** frame_num_bits."""
    frame_num_bits: int = 0

    @property
    def is_clean_start(self) -> bool:
        """Everything shown from here on is exact; a key frame with a recovery count is not."""
        return self.is_idr or self.recovery_frames == 0


class H264Headers:
    """Reads access units one after the other; parameter sets are remembered."""

    def __init__(self, extradata: bytes) -> None:
        self.length_size = 0
        self.may_be_interlaced = False
        self.sequence_of: dict[int, Sequence] = {}
        """What each picture parameter set refers to, where that is known."""
        self._sequences: dict[int, Sequence] = {}
        self._references: dict[int, int] = {}
        if extradata[:1] == b"\x01" and len(extradata) > 6:
            self.length_size = (extradata[4] & 3) + 1
            self._read_avcc(extradata)
        else:
            for unit in nal_units(extradata, 0):
                self._read_parameters(unit)

    @property
    def tell_reordering(self) -> bool:
        """Every parameter set so far says how far display and decoding order differ."""
        return bool(self._sequences) and all(sequence.tells_reordering for sequence in self._sequences.values())

    def read(self, data: bytes) -> Picture:
        """The picture of one access unit."""
        return self.read_units(nal_units(data, self.length_size))

    def read_units(self, units: Iterable[bytes]) -> Picture:
        recovery: int | None = None
        for unit in units:
            kind = unit[0] & 31
            if kind in (SPS, PPS):
                self._read_parameters(unit)
            elif kind == SEI and recovery is None:
                recovery = recovery_frames(unit)
            elif kind in (SLICE, SLICE_A, IDR):
                return self._read_slice(unit, kind, recovery)
        return Picture(False, recovery, False, None)

    def _read_avcc(self, extradata: bytes) -> None:
        position, is_sequence = 6, True
        count = extradata[5] & 31
        while position + 2 <= len(extradata):
            if count == 0:
                if not is_sequence:
                    return
                is_sequence, count = False, extradata[position]
                position += 1
                continue
            size = int.from_bytes(extradata[position : position + 2], "big")
            self._read_parameters(extradata[position + 2 : position + 2 + size])
            position += 2 + size
            count -= 1

    def _read_parameters(self, unit: bytes) -> None:
        """A parameter set; one that cannot be read is left out, and its slices are then unknown."""
        try:
            if unit[:1] and unit[0] & 31 == SPS:
                number, sequence = read_sequence(unit[:SEQUENCE_BYTES])
                self._sequences[number] = sequence
                self.may_be_interlaced |= not sequence.frames_only
            elif unit[:1] and unit[0] & 31 == PPS:
                reader = BitReader(without_escapes(unit[1:25]))
                number = reader.unsigned()
                self._references[number] = reader.unsigned()
        except ValueError:
            return
        known = self._sequences
        self.sequence_of = {own: known[other] for own, other in self._references.items() if other in known}

    def _read_slice(self, unit: bytes, kind: int, recovery: int | None) -> Picture:
        is_reference = bool(unit[0] >> 5 & 3)
        unknown = Picture(kind == IDR, recovery, is_reference, None)
        try:
            reader = BitReader(without_escapes(unit[1:25]))
            reader.unsigned()  # first_mb_in_slice
            reader.unsigned()  # slice_type
            sequence = self.sequence_of.get(reader.unsigned())
            if sequence is None or kind == SLICE_A:
                return unknown
            if sequence.separate_planes:
                reader.bits(2)
            num_bits = sequence.frame_num_bits
            frame_num = reader.bits(num_bits)
            is_field = not sequence.frames_only and reader.flag()
            if is_field:
                reader.bits(1)
            if kind == IDR:
                reader.unsigned()  # idr_pic_id
            lsb = reader.bits(sequence.order_lsb_bits) if sequence.order_type == 0 else 0
        except ValueError:
            return unknown
        order = sequence.order_type, lsb, sequence.order_lsb_bits
        return Picture(kind == IDR, recovery, is_reference, *order, is_field, frame_num, num_bits)


@lru_cache(maxsize=64)  # it is read by each of several readers of a video, and most videos of an archive have the same
def read_sequence(unit: bytes) -> tuple[int, Sequence]:
    """Number and content of a sequence parameter set, from its first `SEQUENCE_BYTES`."""
    reader = BitReader(without_escapes(unit[1:]))
    profile = reader.bits(8)
    reader.bits(16)  # constraints, level
    number = reader.unsigned()
    separate_planes = profile in HIGH_PROFILES and _skip_high_profile(reader)
    frame_num_bits = reader.unsigned() + 4
    order_type = reader.unsigned()
    lsb_bits = 0
    if order_type == 0:
        lsb_bits = reader.unsigned() + 4
    elif order_type == 1:
        reader.bits(1)
        reader.signed()
        reader.signed()
        for _ in range(reader.unsigned()):
            reader.signed()
    reader.unsigned()  # max_num_ref_frames
    reader.bits(1)  # gaps_in_frame_num
    reader.unsigned()  # width
    reader.unsigned()  # height
    frames_only = reader.flag()
    tells_reordering = _tells_reordering(reader, frames_only)
    return number, Sequence(frame_num_bits, order_type, lsb_bits, frames_only, separate_planes, tells_reordering)


def _tells_reordering(reader: BitReader, frames_only: bool) -> bool:
    """Whether max_num_reorder_frames stands in the rest of a sequence parameter set (E.1.1)."""
    try:
        reader.bits(1 if frames_only else 2)
        if reader.flag():  # frame_cropping
            _skip_unsigned(reader, 4)
        if not reader.flag():  # vui_parameters
            return False
        if reader.flag() and reader.bits(8) == EXTENDED_ASPECT_RATIO:
            reader.bits(32)
        if reader.flag():  # overscan_info
            reader.bits(1)
        if reader.flag():  # video_signal_type
            reader.bits(4)
            if reader.flag():
                reader.bits(24)
        if reader.flag():  # chroma_loc_info
            _skip_unsigned(reader, 2)
        if reader.flag():  # timing_info
            reader.bits(65)
        has_hrd = [_skip_hrd(reader), _skip_hrd(reader)]
        reader.bits(1 + any(has_hrd))
        if not reader.flag():  # bitstream_restriction
            return False
        reader.bits(1)
        _skip_unsigned(reader, 4)
        return reader.unsigned() <= MAX_REORDERED
    except ValueError:
        return False


def _skip_hrd(reader: BitReader) -> bool:
    has_hrd = reader.flag()
    if has_hrd:
        count = reader.unsigned() + 1
        reader.bits(8)
        for _ in range(count):
            _skip_unsigned(reader, 2)
            reader.bits(1)
        reader.bits(20)
    return has_hrd


def _skip_unsigned(reader: BitReader, count: int) -> None:
    for _ in range(count):
        reader.unsigned()


def _skip_high_profile(reader: BitReader) -> bool:
    chroma = reader.unsigned()
    separate_planes = chroma == 3 and reader.flag()
    reader.unsigned()  # bit depths
    reader.unsigned()
    reader.bits(1)
    if reader.flag():  # scaling lists
        for index in range(12 if chroma == 3 else 8):
            if reader.flag():
                last = following = 8
                for _ in range(16 if index < 6 else 64):
                    if following:
                        following = (last + reader.signed()) % 256
                    last = following or last
    return separate_planes


def recovery_frames(unit: bytes) -> int | None:
    """recovery_frame_cnt of an SEI unit, None when it holds no recovery point: 0 means exact from here on."""
    position = 1
    while position + 2 < len(unit):
        kind, position = _sei_number(unit, position)
        size, position = _sei_number(unit, position)
        if kind == RECOVERY_POINT:
            try:
                return BitReader(without_escapes(unit[position : position + min(size, 8)])).unsigned()
            except ValueError:
                return None
        position += size
    return None


def _sei_number(unit: bytes, position: int) -> tuple[int, int]:
    value = 0
    while position < len(unit) and unit[position] == 255:
        value += 255
        position += 1
    return value + (unit[position] if position < len(unit) else 0), position + 1


def display_ranks(pictures: list[Picture]) -> list[int] | None:
    """The place of each picture in presentation order, from picture order counts; None where they do not tell."""
    keys: list[tuple[int, int]] = []
    epoch, previous_lsb, previous_msb = -1, 0, 0
    for position, picture in enumerate(pictures):
        if picture.order_type is None or picture.order_type == 1 or picture.is_field:
            return None
        if position == 0 and not picture.is_idr:
            return None
        if picture.is_idr:
            epoch, previous_lsb, previous_msb = epoch + 1, 0, 0
        if picture.order_type == 2:  # shown in decoding order
            keys.append((epoch, position))
            continue
        lsb, size = picture.order_lsb, 1 << picture.order_lsb_bits
        msb = previous_msb
        if lsb < previous_lsb and previous_lsb - lsb >= size // 2:
            msb += size
        elif lsb > previous_lsb and lsb - previous_lsb > size // 2:
            msb -= size
        if picture.is_reference:
            previous_lsb, previous_msb = lsb, msb
        keys.append((epoch, msb + lsb))
    if len(set(keys)) != len(keys):
        return None
    ranks = [0] * len(keys)
    for rank, position in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        ranks[position] = rank
    return ranks
