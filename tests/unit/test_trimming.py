"""AV1: the frames that a wanted one depends on, and nothing else, are decoded; and it comes out the same."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import av
import pytest
from odd_videos import ODD_VIDEOS

import vidpipe.decode.trimming
from vidpipe.decode.av1 import SEQUENCE_HEADER, needed_parts, units
from vidpipe.decode.pyav import PyavVideo
from vidpipe.decode.trimming import trimmed
from vidpipe.spec import ClipSpec

# One OBU: a frame header, a byte long, that orders to show what is in slot 0; it ends with a one and zeros.
SHOW_SLOT_0 = bytes([3 << 3 | 2, 1, 0b1000_1000])
PADDING, RESERVED_KIND, LAYERED = bytes([15 << 3 | 2, 0]), bytes([9 << 3 | 2, 0]), bytes([15 << 3 | 6, 0, 0])


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> list[av.Packet]:
    """64 frames with a key frame every 20, in pyramids of 16."""
    path = tmp_path_factory.mktemp("av1") / "av1.mp4"
    ODD_VIDEOS["av1.mp4"](path)
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.fixture(scope="module")
def group(pyramid: list[av.Packet]) -> list[bytes]:
    """The first group of pictures."""
    return [bytes(packet) for packet in pyramid[:20]]


def fingerprint(picture: av.VideoFrame) -> str:
    return hashlib.blake2b(picture.to_ndarray().tobytes()).hexdigest()


@pytest.mark.parametrize("name", [name for name in ODD_VIDEOS if name.startswith(("av1", "aom", "rav1e"))])
def test_each_frame_alone_is_that_of_a_full_decode(name, tmp_path, monkeypatch):
    path: Path = tmp_path / name
    ODD_VIDEOS[name](path)
    with av.open(str(path)) as container:
        expected = [fingerprint(picture) for picture in container.decode(video=0)]
    with closing(PyavVideo(str(path), ClipSpec())) as video:
        monkeypatch.setattr(video, "_resize", fingerprint)
        for index, frame in enumerate(expected):
            assert list(video.frames([index])) == [frame], index


def test_of_a_pyramid_only_the_path_to_the_wanted_frame_is_decoded(group):
    parts = needed_parts(group, [number == 7 for number in range(20)])
    # The key frame, then 16, 8, 4 and 6 of the frames hidden in the next packet, or in that of 5; and 7 itself.
    fed = [number for number, part in enumerate(parts) if part]
    assert fed == [0, 1, 5, 7]
    num_frames = sum(unit.kind == 6 for part in parts for unit in units(part))
    assert num_frames == 6
    assert parts[0] == group[0]
    assert parts[7] == group[7]
    assert all(len(parts[number]) < len(group[number]) for number in (1, 5))


def test_all_frames_are_needed_where_all_are_wanted(group):
    assert needed_parts(group, [True] * len(group)) == group


def test_nothing_is_decoded_behind_the_key_frame_when_it_is_wanted_alone(group):
    assert needed_parts(group, [True] + [False] * 19) == [group[0]] + [b""] * 19


def without_sequence_header(data: bytes) -> bytes:
    return b"".join(data[unit.start : unit.stop] for unit in units(data) if unit.kind != SEQUENCE_HEADER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group: [without_sequence_header(group[0]), *group[1:]], "may refer to any other"),
        (lambda group: [group[0], SHOW_SLOT_0, *group[2:]], "a key frame that is shown again"),
        (lambda group: [group[0], group[1] + group[2], *group[2:]], "shows one frame"),
        (lambda group: [group[0], PADDING, *group[2:]], "shows one frame"),
        (lambda group: [group[0], group[1] + RESERVED_KIND, *group[2:]], "no place here"),
        (lambda group: [group[0], group[1] + LAYERED, *group[2:]], "in layers"),
        (lambda group: [group[0], group[1][:-1], *group[2:]], "or none"),
    ],
)
def test_headers_that_are_not_plain_are_not_believed(change, message, group):
    changed = change(group)
    with pytest.raises(ValueError, match=message):
        needed_parts(changed, [number == 7 for number in range(len(changed))])


def test_padding_changes_nothing(group):
    wanted = [number == 7 for number in range(20)]
    padded = [group[0], PADDING + group[1], *group[2:]]
    assert [len(part) for part in needed_parts(padded, wanted)] == [
        len(part) + (number == 1) * len(PADDING) for number, part in enumerate(needed_parts(group, wanted))
    ]


@pytest.mark.parametrize("hold_bytes", [0, 1 << 20])
def test_where_the_headers_do_not_tell_only_packets_without_a_reference_are_left_out(hold_bytes, pyramid, monkeypatch):
    """They do not tell; or there are more packets than are held to be looked at."""
    monkeypatch.setattr(vidpipe.decode.trimming, "HOLD_BYTES", hold_bytes)
    packets = list(enumerate(pyramid[:20]))
    if hold_bytes:
        layered = av.Packet(bytes(packets[19][1]) + LAYERED)
        packets[19] = 19, layered
    fed = [position for position, _ in trimmed(iter(packets), {7}, b"")]
    assert sorted(set(range(20)) - set(fed)) == [3, 11, 15]


def test_a_packet_keeps_its_times_when_frames_are_cut_out_of_it(pyramid):
    fed = dict(trimmed(iter(enumerate(pyramid[:20])), {7}, b""))
    assert list(fed) == [0, 1, 5, 7]
    assert fed[1].size < pyramid[1].size
    assert (fed[1].pts, fed[1].dts, fed[1].is_keyframe) == (pyramid[1].pts, pyramid[1].dts, False)
