"""HEVC headers: the order of pictures, and which earlier ones each leaves in the decoder.

Source: ITU-T H.265, 7.3.1 (NAL unit header), 7.3.2 (parameter sets), 7.3.4 (scaling lists), 7.3.6 (slice header),
7.4.8 (reference picture sets), 8.3.1 (picture order count).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vidpipe.decode.bits import BitReader, nal_units, without_escapes

FIRST_IRAP, IDR, LAST_IRAP, SPS, PPS = 16, (19, 20), 23, 33, 34
BLA = (16, 17, 18)
LEADING, SKIPPED_LEADING = (6, 7, 8, 9), (8, 9)
MAX_REFERENCES = 16

ReferenceSet = list[tuple[int, bool]]
"""(difference of picture order counts, is used by this picture): earlier ones, nearest first, then later ones."""

LongTerm = tuple[int, int | None, bool]
"""(low bits of a picture order count, turns of the high bits back from here or unknown, is used)"""


@dataclass(frozen=True)
class Sequence:
    """What is needed of a sequence parameter set."""

    separate_planes: bool
    order_lsb_bits: int
    reference_sets: list[ReferenceSet]
    has_long_term: bool
    long_term: list[tuple[int, bool]]
    """(low bits of a picture order count, is used)"""


@dataclass(frozen=True)
class Parameters:
    """What is needed of a picture parameter set."""

    sequence: int
    has_output_flag: bool
    num_extra_bits: int


class Picture(NamedTuple):
    """What the first slice of an access unit says."""

    kind: int
    temporal_layer: int
    is_shown: bool
    order_lsb: int
    order_lsb_bits: int
    references: ReferenceSet
    long_term: list[LongTerm]

    @property
    def is_reference(self) -> bool:
        """FFmpeg decodes it when it skips what is no reference."""
        return self.kind >= FIRST_IRAP or self.kind % 2 == 1

    @property
    def anchors_order(self) -> bool:
        """Later pictures count their order from this one."""
        return self.temporal_layer == 0 and self.is_reference and self.kind not in LEADING


class HevcHeaders:
    """Reads access units one after the other; parameter sets are remembered."""

    def __init__(self, extradata: bytes) -> None:
        self.length_size = 0
        self._sequences: dict[int, Sequence] = {}
        self._parameters: dict[int, Parameters] = {}
        if extradata[:1] == b"\x01" and len(extradata) > 23:
            self.length_size = (extradata[21] & 3) + 1
            self._read_hvcc(extradata)
        else:
            for unit in nal_units(extradata, 0):
                self._read_parameters(unit)

    def read(self, data: bytes) -> Picture:
        """The picture of one access unit; raises ValueError where there is none that can be read."""
        for unit in nal_units(data, self.length_size):
            kind = unit[0] >> 1 & 63
            if kind in (SPS, PPS):
                self._read_parameters(unit)
            elif kind <= LAST_IRAP and len(unit) > 2 and unit[0] & 1 == 0 and unit[1] >> 3 == 0:  # of the base layer
                return self._read_slice(unit, kind)
        raise ValueError("no picture")

    def _read_hvcc(self, extradata: bytes) -> None:
        position = 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[position + 1 : position + 3], "big")
            position += 3
            for _ in range(count):
                size = int.from_bytes(extradata[position : position + 2], "big")
                self._read_parameters(extradata[position + 2 : position + 2 + size])
                position += 2 + size

    def _read_parameters(self, unit: bytes) -> None:
        """A parameter set; one that cannot be read is left out, and its slices are then unknown."""
        try:
            reader = BitReader(without_escapes(unit[2:]))
            if unit[:1] and unit[0] >> 1 & 63 == SPS:
                number, sequence = read_sequence(reader)
                self._sequences[number] = sequence
            elif unit[:1] and unit[0] >> 1 & 63 == PPS:
                number, sequence_number = reader.unsigned(), reader.unsigned()
                reader.bits(1)  # dependent_slice_segments
                self._parameters[number] = Parameters(sequence_number, reader.flag(), reader.bits(3))
        except ValueError:
            return

    def _read_slice(self, unit: bytes, kind: int) -> Picture:
        reader = BitReader(without_escapes(unit[2:66]))
        if not reader.flag():
            raise ValueError("the first slice is missing")
        if kind >= FIRST_IRAP:
            reader.bits(1)  # no_output_of_prior_pics
        parameters = self._parameters.get(reader.unsigned())
        sequence = self._sequences.get(parameters.sequence) if parameters else None
        if parameters is None or sequence is None:
            raise ValueError("a slice of unknown parameters")
        reader.bits(parameters.num_extra_bits)
        reader.unsigned()  # slice_type
        is_shown = not parameters.has_output_flag or reader.flag()
        reader.bits(2 if sequence.separate_planes else 0)
        layer, lsb_bits = (unit[1] & 7) - 1, sequence.order_lsb_bits
        if kind in IDR:
            return Picture(kind, layer, is_shown, 0, lsb_bits, [], [])
        lsb, sets = reader.bits(lsb_bits), sequence.reference_sets
        if not reader.flag():
            references = read_reference_set(reader, sets, is_in_slice=True)
        else:
            number = reader.bits((len(sets) - 1).bit_length()) if sets else 0
            if number >= len(sets):
                raise ValueError("no such reference picture set")
            references = sets[number]
        long_term = read_long_term(reader, sequence) if sequence.has_long_term else []
        return Picture(kind, layer, is_shown, lsb, lsb_bits, references, long_term)


def read_sequence(reader: BitReader) -> tuple[int, Sequence]:
    """Number and content of a sequence parameter set."""
    reader.bits(4)
    num_layers = reader.bits(3)  # besides the lowest
    reader.bits(1)
    _skip_profile(reader, num_layers)
    number = reader.unsigned()
    separate_planes = reader.unsigned() == 3 and reader.flag()
    _skip_unsigned(reader, 2)  # width, height
    if reader.flag():
        _skip_unsigned(reader, 4)  # conformance window
    _skip_unsigned(reader, 2)  # bit depths
    lsb_bits = reader.unsigned() + 4
    if lsb_bits > 16:
        raise ValueError("no such picture order count")
    _skip_unsigned(reader, 3 * (num_layers + 1 if reader.flag() else 1))
    _skip_unsigned(reader, 6)  # block sizes and depths
    if reader.flag() and reader.flag():
        _skip_scaling_lists(reader)
    reader.bits(2)  # amp, sao
    if reader.flag():  # pcm
        reader.bits(8)
        _skip_unsigned(reader, 2)
        reader.bits(1)
    sets: list[ReferenceSet] = []
    for _ in range(_small(reader.unsigned(), 64)):
        sets.append(read_reference_set(reader, sets, is_in_slice=False))
    has_long_term = reader.flag()
    num_long_term = _small(reader.unsigned(), 32) if has_long_term else 0
    long_term = [(reader.bits(lsb_bits), reader.flag()) for _ in range(num_long_term)]
    return number, Sequence(separate_planes, lsb_bits, sets, has_long_term, long_term)


def read_reference_set(reader: BitReader, sets: list[ReferenceSet], *, is_in_slice: bool) -> ReferenceSet:
    """st_ref_pic_set(): spelt out, or as the difference from an earlier one."""
    if sets and reader.flag():
        back = reader.unsigned() + 1 if is_in_slice else 1
        if back > len(sets):
            raise ValueError("no such reference picture set")
        is_negative = reader.flag()
        shift = reader.unsigned() + 1
        shift = -shift if is_negative else shift
        found = []
        for delta in [*(delta for delta, _ in sets[-back]), 0]:
            is_used = reader.flag()
            if (is_used or reader.flag()) and delta + shift:
                found.append((delta + shift, is_used))
        return sorted(found, key=lambda reference: (reference[0] > 0, abs(reference[0])))
    counts = [_small(reader.unsigned(), MAX_REFERENCES) for _ in range(2)]
    found = []
    for count, sign in zip(counts, (-1, 1), strict=True):
        delta = 0
        for _ in range(count):
            delta += sign * (reader.unsigned() + 1)
            found.append((delta, reader.flag()))
    return found


def read_long_term(reader: BitReader, sequence: Sequence) -> list[LongTerm]:
    num_known = reader.unsigned() if sequence.long_term else 0
    found: list[LongTerm] = []
    turns = 0
    for number in range(_small(num_known + reader.unsigned(), 32)):
        if number < num_known:
            entry = reader.bits((len(sequence.long_term) - 1).bit_length())
            lsb, is_used = sequence.long_term[_small(entry, len(sequence.long_term) - 1)]
        else:
            lsb, is_used = reader.bits(sequence.order_lsb_bits), reader.flag()
        has_turns = reader.flag()
        turns = 0 if number in (0, num_known) else turns
        turns += reader.unsigned() if has_turns else 0
        found.append((lsb, turns if has_turns else None, is_used))
    return found


def _small(number: int, most: int) -> int:
    if number > most:
        raise ValueError(f"{number}, where at most {most} may be")
    return number


def _skip_unsigned(reader: BitReader, count: int) -> None:
    for _ in range(count):
        reader.unsigned()


def _skip_profile(reader: BitReader, num_layers: int) -> None:
    """profile_tier_level()"""
    reader.bits(96)
    present = [(reader.flag(), reader.flag()) for _ in range(num_layers)]
    reader.bits(2 * (8 - num_layers) if num_layers else 0)
    for has_profile, has_level in present:
        reader.bits(88 * has_profile + 8 * has_level)


def _skip_scaling_lists(reader: BitReader) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not reader.flag():
                reader.unsigned()
                continue
            for _ in range(min(64, 1 << (4 + 2 * size)) + (size > 1)):
                reader.signed()
