"""Skipping pictures that nothing refers to: sound streams pass, and those that only claim to be sound do not."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from film import remuxed
from full_decode import find_truth
from odd_videos import ODD_VIDEOS, X264_PYRAMID, x265

from vidpipe.decode.bits import BitReader
from vidpipe.decode.h264 import H264Headers
from vidpipe.decode.hevc import read_reference_set
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pyav import PyavVideo
from vidpipe.decode.skipping import plain_picture
from vidpipe.spec import ClipSpec

SPEC = ClipSpec(size="32")
SOUND = [
    "h264_pyramid.mp4", "h264_pyramid.ts", "h264_pyramid.avi", "h264_open_gop.mkv", "h264_intra_refresh.mp4",
    "h264_mbaff.mp4", "h264_slices.mp4", "h264_open_gop_fragmented.mp4", "vfr.mp4",
    "hevc_open_gop.mp4", "hevc_open_gop.ts", "hevc_radl.mp4", "hevc_intra_refresh.mp4", "hevc_10bit.mp4",
    "hevc_reference_sets.mp4", "begins_with_leading_pictures.mp4",
]  # fmt: skip


def frames(path: Path, indices: list[int], *, count: bool = False) -> np.ndarray:
    with closing(PyavVideo(str(path), SPEC, count=count)) as video:
        return np.stack(list(video.frames(indices)))


def positions(path: Path) -> list[tuple[int, bytes, bool]]:
    """(place in the file, bytes, is a key frame) of each packet."""
    with av.open(str(path)) as container:
        return [(packet.pos, bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]


def change_first_byte(path: Path, *, packet: int, to: int) -> None:
    """Of a packet's only NAL unit, behind its four bytes of length."""
    place, _, _ = positions(path)[packet]
    data = bytearray(path.read_bytes())
    data[place + 4] = to
    path.write_bytes(data)


@pytest.mark.parametrize("name", SOUND)
def test_in_a_sound_stream_pictures_are_skipped(name, tmp_path):
    """IndexMismatch would fly."""
    ODD_VIDEOS[name](tmp_path / name)
    for first in range(5):
        wanted = list(range(first, 40, 7))
        np.testing.assert_array_equal(
            frames(tmp_path / name, wanted), frames(tmp_path / name, wanted, count=True), strict=True
        )


@pytest.mark.parametrize(
    ("codec", "options", "mask"), [("libx264", X264_PYRAMID, 0x60), ("libx265", x265("keyint=24:bframes=4"), 0x02)]
)
def test_a_reference_marked_as_none_is_missed_or_was_none(codec, options, mask, tmp_path):
    path = tmp_path / "a.mp4"
    remuxed(path, codec, options)
    whole, packets, wanted = path.read_bytes(), positions(path), list(range(0, 64, 7))
    references = [number for number, (_, data, is_key) in enumerate(packets) if data[4] & mask and not is_key]
    num_missed = 0
    for number in references:
        path.write_bytes(whole)
        change_first_byte(path, packet=number, to=packets[number][1][4] & ~mask)
        try:
            delivered = frames(path, wanted)
        except IndexMismatch:
            num_missed += 1
        else:
            truth = find_truth(str(path), SPEC)
            for frame, index in zip(delivered, wanted, strict=True):
                assert truth.index_of(hashlib.blake2b(frame.tobytes()).hexdigest(), index) is not None
    assert num_missed > len(references) // 2


@pytest.mark.parametrize(("codec", "options"), [("libx264", X264_PYRAMID), ("libx265", x265("keyint=24:bframes=4"))])
def test_a_lost_reference_is_missed(codec, options, tmp_path):
    path = tmp_path / "a.mkv"
    # The second picture of a group is a P picture; all others lean on it.
    remuxed(path, codec, options, change=lambda packets: [(bytes(p), p) for n, p in enumerate(packets) if n != 1])
    with pytest.raises(IndexMismatch):
        frames(path, [0, 20, 50])


@pytest.mark.parametrize(("codec", "options"), [("libx264", X264_PYRAMID), ("libx265", x265("keyint=24:bframes=4"))])
def test_times_that_contradict_the_pictures_own_order_are_not_believed(codec, options, tmp_path):
    def swapped(packets: list[av.Packet]) -> list[tuple[bytes, av.Packet]]:
        packets[2].pts, packets[3].pts = packets[3].pts, packets[2].pts
        return [(bytes(packet), packet) for packet in packets]

    path = tmp_path / "a.mkv"
    remuxed(path, codec, options, change=swapped)
    with pytest.raises(IndexMismatch):
        frames(path, [0, 1, 2, 3, 20])


@pytest.mark.parametrize("name", [name for name in ODD_VIDEOS if name.startswith("h264") and name.endswith(".mp4")])
def test_a_plain_picture_is_read_as_any_other(name, tmp_path):
    ODD_VIDEOS[name](tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        headers = H264Headers(container.streams.video[0].codec_context.extradata or b"")
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    plain = [plain_picture(data, headers) for data in packets]
    assert all(picture in (None, headers.read(data)) for picture, data in zip(plain, packets, strict=True))
    if name == "h264_pyramid.mp4":
        assert sum(picture is not None for picture in plain) > len(plain) * 0.9


def bits(text: str) -> BitReader:
    text = text.replace(" ", "")
    return BitReader(int(text.ljust(64, "0"), 2).to_bytes(8, "big"))


def test_a_reference_picture_set_is_read_as_it_is_spelt():
    # Two earlier ones, at 1 and 1 + 3, the second unused; one later one, at 2.
    spelt = bits("011 010  1 1  011 0  010 1")
    assert read_reference_set(spelt, [], is_in_slice=False) == [(-1, True), (-4, False), (2, True)]


def test_a_reference_picture_set_is_read_as_a_difference():
    """8.3.2, equations 7-61 and 7-62: every entry of the earlier set and 0, moved by the same distance."""
    earlier = [(-1, True), (-4, False), (2, True)]
    moved = bits("1  1 010  1  0 1  1  1")  # by -2; the entry of -4 is kept, but not used
    assert read_reference_set(moved, [earlier], is_in_slice=False) == [(-2, True), (-3, True), (-6, False)]
