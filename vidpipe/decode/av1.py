"""AV1 headers: which frames each frame refers to, and which temporal units hold none that another one can refer to.

Source: AV1 Bitstream & Decoding Process Specification, 5.5 (sequence header), 5.9 (frame header).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vidpipe.decode.bits import BitReader

SEQUENCE_HEADER, DELIMITER, FRAME_HEADER, TILE_GROUP, METADATA, FRAME, REDUNDANT_FRAME_HEADER = range(1, 8)
PADDING = 15
KEY_FRAME, INTRA_ONLY_FRAME, SWITCH_FRAME = 0, 2, 3
SELECTED_BY_FRAME = 2
NUM_SLOTS, NUM_REFERENCES = 8, 7
HEADER_BYTES = 64  # of a unit, all that is looked at
NOTHING = -1  # in a slot
FRAME_BYTES = 16  # of a frame header


@dataclass(frozen=True)
class SequenceHeader:
    """What is needed of a sequence header to find refresh_frame_flags in a frame header."""

    has_frame_ids: bool
    frame_id_bits: int
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int


class Frame(NamedTuple):
    """What a frame header says about other frames."""

    is_shown: bool
    refreshed: int
    """Bit i: this frame goes into reference slot i. All bits where that is not looked at."""
    references: tuple[int, ...] | None
    """The slots that it refers to; None where that is not looked at."""
    is_old: bool = False
    """Not a frame, but the order to show the one that it refers to."""


ALL_SLOTS = (1 << NUM_SLOTS) - 1
UNKNOWN_FRAME = Frame(False, ALL_SLOTS, None)


class Unit(NamedTuple):
    """An open bitstream unit: bytes `start` to before `stop` of a temporal unit, and the first ones of its payload."""

    kind: int
    start: int
    stop: int
    payload: bytes
    is_plain: bool
    """In no layer, and without bits that are reserved."""


class Av1Headers:
    """Reads temporal units one after the other; the sequence header is remembered."""

    def __init__(self, extradata: bytes) -> None:
        self._sequence: SequenceHeader | None = None
        self._read_sequences(extradata[4:] if extradata[:1] == b"\x81" else extradata)

    def is_idle(self, data: bytes | memoryview) -> bool:
        """True when every frame of this temporal unit is shown and kept by no reference slot; when in doubt, False."""
        try:
            return self._is_idle(data)
        except (ValueError, IndexError):
            return False

    def _is_idle(self, data: bytes | memoryview) -> bool:
        has_frame = False
        for unit in units(data):
            if unit.kind == SEQUENCE_HEADER:
                self._read_sequences(data)
                return False
            if unit.kind in (FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER):
                if self._sequence is None:
                    return False
                frame = read_frame(unit.payload, self._sequence)
                if frame.refreshed or frame.is_old:  # the latter may refresh, and costs nothing
                    return False
                has_frame = True
        return has_frame

    def _read_sequences(self, data: bytes | memoryview) -> None:
        try:
            for unit in units(data):
                if unit.kind == SEQUENCE_HEADER:
                    self._sequence = read_sequence(unit.payload)
        except (ValueError, IndexError):
            self._sequence = None


def needed_parts(temporal_units: Sequence[bytes | memoryview], wanted: Sequence[bool]) -> list[bytes]:
    """Of temporal units from a key frame on, what has to be decoded for the wanted ones; b"" for one that has not.

    A frame depends on those in the slots that its header names, and on nothing else. Of a pyramid that is a path:

        shown as    0   1   2   3   4   5   6   7   8
        refers to       0,2 0,4 2,4 0,8 4,6 4,8 6,8 0       wanted: 5     decoded: 0, 8, 4, 6, 5

    A temporal unit may hold several frames, to be shown later; those that are not needed are cut out of it. Raises
    ValueError or LookupError where the headers do not tell, or are not those of a sound stream: then all have to be
    decoded.
    """
    frames = _Frames()
    parts = [frames.add(data, is_wanted=is_wanted) for data, is_wanted in zip(temporal_units, wanted, strict=True)]
    needed = frames.needed()
    return [
        b"".join(part for frame, part in of_unit if frame is None or frame in needed)
        if any(frame in needed for frame, _ in of_unit)
        else b""
        for of_unit in parts
    ]


class _Frames:
    """The frames of a stream from a key frame on, by their numbers, and which earlier ones each depends on."""

    def __init__(self) -> None:
        self._depends_on: list[set[int]] = []
        self._keys = set[int]()
        self._wanted = set[int]()
        self._slots = [NOTHING] * NUM_SLOTS  # the frame in each
        self._sequence: SequenceHeader | None = None

    def add(self, data: bytes | memoryview, *, is_wanted: bool) -> list[tuple[int | None, bytes | memoryview]]:
        """The units of a temporal unit, and whose frame's each is."""
        found = list(units(data))
        if not all(unit.is_plain for unit in found) or found[-1].stop != len(data):
            raise ValueError("units in layers, or none")
        first = len(self._depends_on)
        parts: list[tuple[int | None, bytes | memoryview]] = []
        shown: list[int] = []
        for unit in found:
            frame = None
            if unit.kind == SEQUENCE_HEADER:
                self._sequence = read_sequence(unit.payload)
            elif unit.kind in (FRAME_HEADER, FRAME):
                frame = len(self._depends_on)
                if self._add_frame(unit.payload):
                    shown.append(frame)
            elif unit.kind in (TILE_GROUP, REDUNDANT_FRAME_HEADER) and len(self._depends_on) > first:
                frame = len(self._depends_on) - 1
            elif unit.kind not in (DELIMITER, METADATA, PADDING):
                raise ValueError("a unit that has no place here")
            parts.append((frame, data[unit.start : unit.stop]))
        if len(shown) != 1:
            raise ValueError("a temporal unit shows one frame")
        if any(unit.kind == SEQUENCE_HEADER for unit in found):
            self._wanted.update(range(first, len(self._depends_on)))
        elif is_wanted:
            self._wanted.update(shown)
        return parts

    def _add_frame(self, payload: bytes) -> bool:
        """True for a frame that is shown."""
        frame = read_frame(payload, self._sequence) if self._sequence is not None else UNKNOWN_FRAME
        if frame.references is None:
            raise ValueError("a frame that may refer to any other")
        depends_on = {self._slots[slot] for slot in frame.references}
        if NOTHING in depends_on:
            raise ValueError("a frame that refers to nothing")
        if frame.is_old and depends_on & self._keys:
            raise ValueError("a key frame that is shown again, and goes into all slots")
        number = len(self._depends_on)
        self._depends_on.append(depends_on)
        if frame.refreshed == ALL_SLOTS:
            self._keys.add(number)
            self._slots = [number] * NUM_SLOTS
        elif frame.refreshed:
            self._slots = [number if frame.refreshed >> slot & 1 else old for slot, old in enumerate(self._slots)]
        return frame.is_shown

    def needed(self) -> set[int]:
        """The frames that have to be decoded for those that are wanted."""
        needed = set(self._wanted)
        for number in reversed(range(len(self._depends_on))):
            if number in needed:
                needed |= self._depends_on[number]
        return needed


def units(data: bytes | memoryview) -> Iterator[Unit]:
    """The open bitstream units of a temporal unit."""
    position = 0
    while position < len(data):
        start, header = position, data[position]
        position += 2 if header & 4 else 1
        size = len(data) - position
        if header & 2:
            size = shift = 0
            while True:
                byte = data[position]
                position += 1
                size |= (byte & 127) << shift
                shift += 7
                if not byte & 128:
                    break
        payload = bytes(data[position : position + min(size, HEADER_BYTES)])
        position += size
        yield Unit(header >> 3 & 15, start, position, payload, not header & 0b10000101)


def read_sequence(payload: bytes) -> SequenceHeader | None:
    """A sequence header; None for the rare kinds whose frame headers are laid out differently."""
    reader = BitReader(payload[:64])
    reader.bits(4)  # profile, still_picture
    if reader.flag():  # reduced_still_picture_header
        return None
    if reader.flag():  # timing_info
        reader.bits(64)
        if reader.flag():
            reader.unsigned()
        if reader.flag():  # decoder_model_info
            return None
    has_display_delay = reader.flag()
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)
        if reader.bits(5) > 7:
            reader.bits(1)
        if has_display_delay and reader.flag():
            reader.bits(4)
    width_bits, height_bits = reader.bits(4) + 1, reader.bits(4) + 1
    reader.bits(width_bits)
    reader.bits(height_bits)
    has_frame_ids, frame_id_bits = reader.flag(), 0
    if has_frame_ids:
        delta_bits = reader.bits(4) + 2
        frame_id_bits = reader.bits(3) + delta_bits + 1
    reader.bits(3 + 4)  # superblocks and intra tools; inter tools
    has_order_hint = reader.flag()
    if has_order_hint:
        reader.bits(2)
    screen_content_tools = SELECTED_BY_FRAME if reader.flag() else reader.bits(1)
    integer_mv = SELECTED_BY_FRAME
    if screen_content_tools and not reader.flag():
        integer_mv = reader.bits(1)
    order_hint_bits = reader.bits(3) + 1 if has_order_hint else 0
    return SequenceHeader(has_frame_ids, frame_id_bits, screen_content_tools, integer_mv, order_hint_bits)


def read_frame(payload: bytes, sequence: SequenceHeader) -> Frame:
    """A frame header as far as it names other frames; raises ValueError for one that ends before."""
    reader = BitReader(payload[:FRAME_BYTES])
    head = reader.bits(4)
    if head & 8:  # show_existing_frame
        return Frame(True, 0, (head & 7,), is_old=True)
    kind, is_shown = head >> 1, bool(head & 1)
    if kind == KEY_FRAME and is_shown:
        return Frame(True, ALL_SLOTS, ())
    if kind in (KEY_FRAME, SWITCH_FRAME):
        return UNKNOWN_FRAME
    flags = reader.bits(2 if is_shown else 3)  # showable_frame, error_resilient_mode, disable_cdf_update
    error_resilient = bool(flags & 2)
    tools = sequence.screen_content_tools
    if tools == SELECTED_BY_FRAME:
        tools = reader.bits(1)
    if tools and sequence.integer_mv == SELECTED_BY_FRAME:
        reader.bits(1)
    if sequence.has_frame_ids:
        reader.bits(sequence.frame_id_bits)
    has_primary = kind != INTRA_ONLY_FRAME and not error_resilient
    reader.bits(1 + sequence.order_hint_bits + 3 * has_primary)  # frame_size_override, order_hint, primary_ref_frame
    refreshed = reader.bits(NUM_SLOTS)
    if kind == INTRA_ONLY_FRAME:
        return Frame(is_shown, refreshed, ())
    if error_resilient or sequence.has_frame_ids or (sequence.order_hint_bits and reader.flag()):
        return Frame(is_shown, refreshed, None)  # more stands before the references, or something else instead
    slots = reader.bits(3 * NUM_REFERENCES)
    return Frame(is_shown, refreshed, tuple([slots >> place & 7 for place in range(0, 3 * NUM_REFERENCES, 3)]))
