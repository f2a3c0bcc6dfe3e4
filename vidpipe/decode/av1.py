"""AV1 headers: which temporal units refresh no reference slot, so that nothing later can refer to them.

Source: AV1 Bitstream & Decoding Process Specification, 5.5 (sequence header), 5.9 (frame header).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vidpipe.decode.bits import BitReader

SEQUENCE_HEADER, FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER = 1, 3, 6, 7
KEY_FRAME, INTRA_ONLY_FRAME, SWITCH_FRAME = 0, 2, 3
SELECTED_BY_FRAME = 2


@dataclass(frozen=True)
class Sequence:
    """What is needed of a sequence header to find refresh_frame_flags in a frame header."""

    has_frame_ids: bool
    frame_id_bits: int
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int


class Av1Headers:
    """Reads temporal units one after the other; the sequence header is remembered."""

    def __init__(self, extradata: bytes) -> None:
        self._sequence: Sequence | None = None
        self._read_sequences(extradata[4:] if extradata[:1] == b"\x81" else extradata)

    def is_idle(self, data: bytes | memoryview) -> bool:
        """True when every frame of this temporal unit is shown and kept by no reference slot; when in doubt, False."""
        try:
            return self._is_idle(data)
        except (ValueError, IndexError):
            return False

    def _is_idle(self, data: bytes | memoryview) -> bool:
        has_frame = False
        for kind, payload in units(data):
            if kind == SEQUENCE_HEADER:
                self._read_sequences(data)
                return False
            if kind in (FRAME_HEADER, FRAME, REDUNDANT_FRAME_HEADER):
                if self._sequence is None or refreshed_slots(payload, self._sequence) != 0:
                    return False
                has_frame = True
        return has_frame

    def _read_sequences(self, data: bytes | memoryview) -> None:
        try:
            for kind, payload in units(data):
                if kind == SEQUENCE_HEADER:
                    self._sequence = read_sequence(payload)
        except (ValueError, IndexError):
            self._sequence = None


def units(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of the open bitstream units."""
    position = 0
    while position < len(data):
        header = data[position]
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
        yield header >> 3 & 15, bytes(data[position : position + min(size, 64)])
        position += size


def read_sequence(payload: bytes) -> Sequence | None:
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
    return Sequence(has_frame_ids, frame_id_bits, screen_content_tools, integer_mv, order_hint_bits)


def refreshed_slots(payload: bytes, sequence: Sequence) -> int:
    """refresh_frame_flags of a frame header; not 0 for everything that has to be fed in any case."""
    reader = BitReader(payload[:32])
    if reader.flag():  # show_existing_frame: may refresh, and costs nothing
        return 255
    kind = reader.bits(2)
    is_shown = reader.flag()
    if kind in (KEY_FRAME, SWITCH_FRAME):
        return 255
    if not is_shown:
        reader.bits(1)  # showable_frame
    error_resilient = reader.flag()
    reader.bits(1)  # disable_cdf_update
    tools = sequence.screen_content_tools
    if tools == SELECTED_BY_FRAME:
        tools = reader.bits(1)
    if tools and sequence.integer_mv == SELECTED_BY_FRAME:
        reader.bits(1)
    if sequence.has_frame_ids:
        reader.bits(sequence.frame_id_bits)
    reader.bits(1)  # frame_size_override
    reader.bits(sequence.order_hint_bits)
    if kind != INTRA_ONLY_FRAME and not error_resilient:
        reader.bits(3)  # primary_ref_frame
    return reader.bits(8)
