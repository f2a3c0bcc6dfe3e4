"""Headers that claim what is not there: each such file ends ok or with a code, within its limits of time and memory.

Of those that end ok, every frame is that of a full decode of the same lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_videos import patched
from full_decode import FullDecoder
from odd_videos import ODD_VIDEOS
from test_fuzz import MEMORY_LIMIT, SPEC, TIME_LIMIT_S, try_file

from vidpipe.errors import ERROR_CODES
from vidpipe.guard import Guard

Lie = Callable[[bytes], bytes]
MOST, HALF = 0xFFFFFFFF, 0x80000000


def at(mark: bytes, offset: int, value: bytes) -> Lie:
    """Write `value` so many bytes behind the last `mark`."""

    def change(whole: bytes) -> bytes:
        assert mark in whole
        return patched(whole, whole.rindex(mark) + len(mark) + offset, value)

    return change


def number(mark: bytes, offset: int, value: int) -> Lie:
    return at(mark, offset, struct.pack(">I", value))


def little(mark: bytes, offset: int, value: int) -> Lie:
    return at(mark, offset, struct.pack("<I", value))


# Behind a box's name: 4 bytes of version and flags, then what is named here.
MP4: dict[str, Lie] = {
    "stts of 2^31 frames": number(b"stts", 8, HALF),
    "stts of 2^32 entries": number(b"stts", 4, MOST),
    "stts of 2^31 ticks": number(b"stts", 12, HALF),
    "stts of no ticks": number(b"stts", 12, 0),
    "ctts of 2^31 frames": number(b"ctts", 8, HALF),
    "ctts of 2^32 entries": number(b"ctts", 4, MOST),
    "ctts backwards": number(b"ctts", 12, HALF),
    "stsz of 2^31 frames": number(b"stsz", 8, HALF),
    "stsz of 2^31 bytes each": number(b"stsz", 4, HALF),
    "stsz of one byte each": number(b"stsz", 4, 1),
    "stsz first frame of 2^32 bytes": number(b"stsz", 12, MOST),
    "stsc of 2^32 entries": number(b"stsc", 4, MOST),
    "stsc of 2^31 frames a chunk": number(b"stsc", 12, HALF),
    "stsc first chunk 2^31": number(b"stsc", 8, HALF),
    "stco of 2^32 entries": number(b"stco", 4, MOST),
    "stco past the end": number(b"stco", 8, MOST),
    "stco at the headers": number(b"stco", 8, 0),
    "stss of 2^32 entries": number(b"stss", 4, MOST),
    "stss of no such frame": number(b"stss", 8, MOST),
    "no ticks a second": number(b"mdhd", 12, 0),
    "2^32 ticks a second": number(b"mdhd", 12, MOST),
    "duration of 2^32 ticks": number(b"mdhd", 16, MOST),
    "elst of 2^32 entries": number(b"elst", 4, MOST),
    "elst that lasts for 2^32 ticks": number(b"elst", 8, MOST),
    "elst that begins at the end of time": number(b"elst", 12, 0x7FFFFFFF),
    "elst that plays at no speed": number(b"elst", 16, 0),
    "stsd of 2^32 entries": number(b"stsd", 4, MOST),
    "avcC of 31 parameter sets": at(b"avcC", 5, b"\xff"),
    "avcC with a parameter set of 64 KB": at(b"avcC", 6, b"\xff\xff"),
    "trak of 2^32 bytes": number(b"trak", -8, MOST),
    "moov of no bytes": number(b"moov", -8, 0),
}
AVI: dict[str, Lie] = {
    "2^32 frames": little(b"strh", 4 + 32, MOST),
    "2^32 frames in the file": little(b"avih", 4 + 16, MOST),
    "no rate": little(b"strh", 4 + 24, 0),
    "no scale": little(b"strh", 4 + 20, 0),
    "starts at 2^32": little(b"strh", 4 + 28, MOST),
    "2^32 bytes a frame": little(b"strh", 4 + 44, MOST),
    "bitmap header of 2^31 bytes": little(b"strf", 0, HALF),
    "a palette of 2^32 colours": little(b"strf", 4 + 32, MOST),
    "index of 2^31 bytes": little(b"idx1", 0, HALF),
    "index of a frame of 2^32 bytes": little(b"idx1", 4 + 12, MOST),
    "2^32 streams": little(b"avih", 4 + 24, MOST),
}
MKV: dict[str, Lie] = {
    "no ticks": at(b"\x2a\xd7\xb1", 1, b"\0\0\0"),
    "huge ticks": at(b"\x2a\xd7\xb1", 1, b"\xff\xff\xff"),
    "lasts for ever": at(b"\x44\x89", 1, struct.pack(">d", 1e300)),
    "lasts for no number": at(b"\x44\x89", 1, struct.pack(">d", float("nan"))),
    "cues of unknown length": at(b"\x1c\x53\xbb\x6b", 0, b"\x01" + b"\xff" * 7),
    "a cluster of 2^56 bytes": at(b"\x1f\x43\xb6\x75", 0, b"\x01" + b"\xfe" * 7),
}
LIES: dict[str, tuple[str, Lie]] = {
    **{f"mp4: {name}": ("h264_pyramid.mp4", lie) for name, lie in MP4.items()},
    **{f"avi: {name}": ("mpeg4_b.avi", lie) for name, lie in AVI.items()},
    **{f"mkv: {name}": ("h264_open_gop.mkv", lie) for name, lie in MKV.items()},
    "mp4 fragments: a fragment of 2^32 frames": ("h264_open_gop_fragmented.mp4", number(b"trun", 4, MOST)),
    "mp4 fragments: data 2^31 bytes away": ("h264_open_gop_fragmented.mp4", number(b"trun", 8, 0x7FFFFFFF)),
    "gif: 65535 by 65535": ("gif.gif", at(b"GIF89a", 0, b"\xff\xff\xff\xff")),
    "flv: a first packet of 16 MB": ("flv1.flv", lambda whole: patched(whole, 14, b"\xff\xff\xff")),
    "ivf: 2^32 frames": ("vp9_alt_ref.ivf", lambda whole: patched(whole, 24, b"\xff\xff\xff\xff")),
    "ivf: a frame of 2^32 bytes": ("vp9_alt_ref.ivf", lambda whole: patched(whole, 32, b"\xff\xff\xff\xff")),
    "ivf: no rate": ("vp9_alt_ref.ivf", lambda whole: patched(whole, 16, bytes(8))),
}


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard(SPEC, time_limit_s=TIME_LIMIT_S, memory_limit_bytes=MEMORY_LIMIT) as guard:
        yield guard


@pytest.fixture(scope="module")
def full_decoder() -> Iterator[FullDecoder]:
    with FullDecoder(SPEC, time_limit_s=TIME_LIMIT_S, memory_limit_bytes=MEMORY_LIMIT) as full_decoder:
        yield full_decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lies")


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_costs_at_most_its_own_video(name, guard, full_decoder, folder):
    original, lie = LIES[name]
    whole, path = folder / original, folder / f"lie_{original}"
    if not whole.exists():
        ODD_VIDEOS[original](whole)
    changed = lie(whole.read_bytes())
    assert changed != whole.read_bytes()
    path.write_bytes(changed)
    before = full_decoder.decode(whole)
    assert before is not None
    outcome = try_file(path, original, 0, guard, full_decoder, before)
    assert outcome.code in {"ok", *ERROR_CODES} - {"crash", "timeout"}
    assert outcome.num_wrong == 0
