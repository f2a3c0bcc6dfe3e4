"""What few bits of a packet tell, against hand-written ones and against what a decoder makes of real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from odd_videos import ODD_VIDEOS

from vidpipe.decode import h264, mpeg4
from vidpipe.decode.av1 import Av1Headers
from vidpipe.decode.bits import BitReader, nal_units, without_escapes
from vidpipe.decode.h264 import H264Headers, Picture, recovery_frames
from vidpipe.decode.mpeg4 import Kind, Mpeg4Headers, PackedOrder, Vop


def bits(text: str) -> BitReader:
    text = text.replace(" ", "")
    return BitReader(int(text + "0" * (-len(text) % 8), 2).to_bytes(-(-len(text) // 8), "big"))


def test_bits_are_read_from_the_left():
    reader = bits("1011 0001 1111 0000")
    assert [reader.bits(1), reader.bits(3), reader.bits(6), reader.flag()] == [1, 3, 7, True]


def test_reading_past_the_end_is_an_error():
    reader = bits("1010 0000")
    reader.bits(7)
    with pytest.raises(ValueError, match="too early"):
        reader.bits(2)


@pytest.mark.parametrize(
    ("code", "number"), [("1", 0), ("010", 1), ("011", 2), ("00100", 3), ("00110", 5), ("0001000", 7)]
)
def test_exp_golomb_codes(code, number):
    assert bits(code).unsigned() == number


@pytest.mark.parametrize(("code", "number"), [("1", 0), ("010", 1), ("011", -1), ("00100", 2), ("00101", -2)])
def test_signed_exp_golomb_codes(code, number):
    assert bits(code).signed() == number


def test_zeros_are_no_exp_golomb_code():
    with pytest.raises(ValueError, match="Exp-Golomb"):
        BitReader(bytes(10)).unsigned()


def test_units_stand_behind_their_lengths_or_between_start_codes():
    assert list(nal_units(b"\0\0\0\x02ab\0\0\0\x01c", 4)) == [b"ab", b"c"]
    assert list(nal_units(b"\0\x02ab\0\x01c", 2)) == [b"ab", b"c"]
    assert list(nal_units(b"\0\0\x01ab\0\0\x01c", 0)) == [b"ab", b"c"]
    assert list(nal_units(b"\0\0\x01ab\0\0\x01\0\0\x01", 0)) == [b"ab"]


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\x09ab", b"\0\0\0\0"])
def test_a_length_past_the_end_ends_the_units(data):
    assert list(nal_units(data, 4)) == []


def test_escapes_are_taken_out():
    assert without_escapes(b"a\0\0\x03\x01\0\0\x03\0") == b"a\0\0\x01\0\0\0"


USER_DATA = b"\x05\x03abc"
LONG_USER_DATA = b"\x05\xff\x2d" + bytes([9]) * 300


@pytest.mark.parametrize(
    ("messages", "count"),
    [
        (b"\x06\x01\x80", 0),
        (b"\x06\x01\x34", 5),
        (USER_DATA + b"\x06\x01\x80", 0),
        (LONG_USER_DATA + b"\x06\x01\x34", 5),
        (USER_DATA, None),
        (b"", None),
        (b"\x06\x00", None),
        (b"\x05\xff\xff", None),
    ],
)
def test_the_recovery_point_says_how_many_frames_it_takes(messages, count):
    assert recovery_frames(b"\x06" + messages + b"\x80") == count


def picture(lsb: int, *, idr: bool = False, reference: bool = True, order_type: int | None = 0, field: bool = False):
    return Picture(idr, None, reference, order_type, lsb, 4, field)


IDR, B = {"idr": True}, {"reference": False}


@pytest.mark.parametrize(
    ("pictures", "ranks"),
    [
        pytest.param([picture(0, **IDR), picture(2), picture(4)], [0, 1, 2], id="in order"),
        pytest.param(
            [picture(0, **IDR), picture(8), picture(4), picture(2, **B), picture(6, **B)], [0, 4, 2, 1, 3], id="pyramid"
        ),
        pytest.param(
            [picture(0, **IDR), picture(6), picture(12), picture(2), picture(14, **B), picture(8)], [0, 1, 2, 4, 3, 5],
            id="the count wraps after 15",
        ),
        pytest.param(
            [picture(0, **IDR), picture(14), picture(2), picture(4)], [1, 0, 2, 3], id="a count below zero"
        ),
        pytest.param(
            [picture(0, **IDR), picture(8), picture(0, **IDR), picture(4)], [0, 1, 2, 3], id="IDR begins anew"
        ),
        pytest.param([picture(0, order_type=2, **IDR), picture(0, order_type=2)], [0, 1], id="decoding order"),
        pytest.param([picture(0, **IDR), picture(1, field=True)], None, id="fields have packets of their own"),
        pytest.param([picture(0), picture(2)], None, id="no IDR first"),
        pytest.param([picture(0, **IDR), picture(2), picture(2)], None, id="twice the same count"),
        pytest.param([picture(0, **IDR), picture(2, order_type=1)], None, id="the rare order type"),
        pytest.param([picture(0, **IDR), picture(2, order_type=None)], None, id="an unreadable header"),
    ],
)  # fmt: skip
def test_picture_order_counts_give_the_order_of_pictures(pictures, ranks):
    assert h264.display_ranks(pictures) == ranks


KIND_OF = {"I": Kind.INTRA, "P": Kind.PREDICTED, "B": Kind.BIDIRECTIONAL}


@pytest.mark.parametrize(
    ("kinds", "ranks"),
    [
        ("IPPP", [0, 1, 2, 3]),
        ("IPBBPBB", [0, 3, 1, 2, 6, 4, 5]),
        ("IPBIB", [0, 2, 1, 4, 3]),
        ("I", [0]),
        ("", []),
    ],
)
def test_kinds_of_pictures_give_the_order_of_pictures(kinds, ranks):
    assert mpeg4.display_ranks([Vop(KIND_OF[kind]) for kind in kinds]) == ranks


@pytest.mark.parametrize(
    ("kinds", "times", "gaps", "is_right"),
    [
        ("IPBBPBB", [0, 3, 1, 2, 6, 4, 5], [], True),
        ("IPPP", [0, 1, 9, 2], [], True),  # nobody goes by them
        ("IPBPBB", [0, 3, 1, 6, 4, 4], [], True),
        ("IPBBPBB", [0, 3, 1, 2, 6, 4, 6], [], False),
        ("IPBBBB", [0, 3, 1, 2, 4, 5], [], False),
        ("IPBB", [0, 3, 0, 1], [], False),
        ("IPB", [0, 3, None], [], False),
        ("IPB", [0, 70000, 1], [], False),
        ("IPBIBPB", [0, 2, 1, 50, 49, 52, 51], [3], True),
        ("IPBIBPB", [0, 2, 1, 50, 60, 52, 51], [], False),
    ],
)
def test_b_pictures_whose_times_are_not_between_their_neighbours_tell_of_damage(kinds, times, gaps, is_right):
    vops = [Vop(KIND_OF[kind], time) for kind, time in zip(kinds, times, strict=True)]
    assert mpeg4.are_in_time(vops, gaps) is is_right


@pytest.mark.parametrize("is_interlaced", [False, True])
def test_interlaced_b_pictures_at_changing_distances_tell_of_damage(is_interlaced):
    times = [0, 3, 1, 2, 6, 5]
    vops = [Vop(KIND_OF[kind], time, is_interlaced) for kind, time in zip("IPBBPB", times, strict=True)]
    assert mpeg4.are_in_time(vops) is not is_interlaced


@pytest.mark.parametrize("data", [b"", bytes(40), b"\0\0\x01\xb6\x50", bytes(40) + b"\0\0\x01\xb6"])
def test_packets_that_may_hold_no_picture_are_told_apart(data):
    assert Mpeg4Headers(b"").read(data).kind is Kind.NONE


EMPTY, EMPTY_KEY, MARK = b"\0\0\x01\xb6\x50\x4f", b"\0\0\x01\xb6\x10\x4f", b"\0\0\x01\xb2DivX503b1393"
KEY, P, B = (b"\0\0\x01\xb6" + bytes([kind << 6]) + b"\x55" * 20 for kind in range(3))


@pytest.mark.parametrize(
    ("packets", "holds"),
    [
        pytest.param([MARK + b"p" + KEY, P + B, EMPTY, P + B, B, EMPTY, P], True, id="as DivX and XviD write it"),
        pytest.param([MARK + b"p" + KEY + B, EMPTY_KEY, P], True, id="a B picture behind a key picture"),
        pytest.param([MARK + b"p" + KEY, P, B, P, B], True, id="announced, and not done"),
        pytest.param([MARK + b"p" + KEY, P + B, P + B], False, id="an empty packet is lost"),
        pytest.param([MARK + b"p" + KEY, P + B, P, B], False, id="a picture in the place of the empty packet"),
        pytest.param([MARK + b"p" + KEY, P + B, MARK + b"p" + KEY], False, id="a key picture there"),
        pytest.param([MARK + b"p" + KEY, P + B, b"\x7f"], False, id="no picture there"),
        pytest.param([MARK + b"p" + KEY, P + B + B, EMPTY], False, id="three pictures in a packet"),
        pytest.param([MARK + b"p" + KEY, P + P, EMPTY], False, id="the second one is no B picture"),
        pytest.param([MARK + KEY, P + B, EMPTY], False, id="not announced"),
        pytest.param([MARK + b"p" + KEY, P + B, EMPTY, MARK + KEY, P + B, EMPTY], False, id="not announced any more"),
    ],
)
def test_packed_pictures_are_told_from_what_is_left_of_them_when_packets_are_lost(packets, holds):
    order = PackedOrder(is_announced=False)
    assert all(map(order.holds, packets)) is holds


def packets_of(name: str, folder: Path) -> tuple[list[av.Packet], bytes]:
    ODD_VIDEOS[name](folder / name)
    with av.open(str(folder / name)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return packets, container.streams.video[0].codec_context.extradata or b""


def ranks_of(times: list[int]) -> list[int]:
    return np.argsort(np.argsort(times)).tolist()


@pytest.mark.parametrize("name", ["h264_pyramid.mp4", "h264_open_gop.mkv", "h264_mbaff.mp4", "h264_444.mp4"])
def test_headers_of_real_h264_give_the_order_that_the_container_gives(name, tmp_path):
    packets, extradata = packets_of(name, tmp_path)
    headers = H264Headers(extradata)
    ranks = h264.display_ranks([headers.read(bytes(packet)) for packet in packets])
    assert ranks == ranks_of([packet.pts for packet in packets])


def test_headers_of_real_mpeg4_give_the_order_that_the_container_gives(tmp_path):
    packets, extradata = packets_of("mpeg4_b.mp4", tmp_path)
    headers = Mpeg4Headers(extradata)
    vops = [headers.read(bytes(packet)) for packet in packets]
    assert mpeg4.display_ranks(vops) == ranks_of([packet.pts for packet in packets])
    assert [vop.time for vop in vops] == [packet.pts * packet.time_base * 25 for packet in packets]


@pytest.mark.parametrize(
    ("name", "clean"), [("h264_pyramid.mp4", True), ("h264_open_gop.mp4", True), ("h264_intra_refresh.mp4", False)]
)
def test_key_frames_are_clean_starts_but_those_of_an_intra_refresh(name, clean, tmp_path):
    packets, extradata = packets_of(name, tmp_path)
    headers = H264Headers(extradata)
    keys = [headers.read(bytes(packet)) for packet in packets if packet.is_keyframe]
    assert len(keys) > 1
    assert keys[0].is_clean_start
    assert {key.is_clean_start for key in keys[1:]} == {clean}


def shown_without(path: Path, dropped: set[int]) -> dict[int, str]:
    """A hash of each frame by its time, from a decode without the packets at these positions."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = []
        for position, packet in enumerate(container.demux(stream)):
            pictures += [] if position in dropped else stream.codec_context.decode(packet if packet.size else None)
        return {picture.pts: hashlib.blake2b(picture.to_ndarray().tobytes()).hexdigest() for picture in pictures}


@pytest.mark.parametrize(
    "name", [name for name in ("av1.mp4", "av1.mkv", "av1_10bit.mp4", "aom.mkv") if name in ODD_VIDEOS]
)
def test_without_an_idle_unit_all_other_av1_frames_are_the_same(name, tmp_path):
    packets, extradata = packets_of(name, tmp_path)
    headers = Av1Headers(extradata)
    idle = [position for position, packet in enumerate(packets) if headers.is_idle(memoryview(packet))]
    assert 4 <= len(idle) < len(packets)  # many of the others only show a picture that is there: 3 bytes
    expected = shown_without(tmp_path / name, set())
    for dropped in [{position} for position in idle] + [set(idle)]:
        others = {packet.pts for position, packet in enumerate(packets) if position not in dropped}
        assert shown_without(tmp_path / name, dropped) == {time: expected[time] for time in others}


@pytest.mark.parametrize("data", [b"", b"\x32", b"\x32\xff", bytes(20), b"\xff" * 40])
def test_an_unreadable_av1_unit_is_not_idle(data):
    assert not Av1Headers(b"").is_idle(data)
