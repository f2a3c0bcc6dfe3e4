"""Every bad video gets its own answer from one guarded child; every good one is delivered."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_videos import BAD_VIDEOS
from small_videos import ODD_VIDEOS, REAL_VIDEOS

from vidpipe.errors import ERROR_CODES, DecodeError
from vidpipe.guard import Clip, Guard, VideoFacts
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import ENCODINGS


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with Guard(ClipSpec(size="32"), time_limit_s=60, memory_limit_bytes=1 << 30) as guard:
        yield guard


def answer(guard: Guard, path: Path) -> str:
    """`ok` or the error's code; a video is either one whole clip and its facts or an error with a message."""
    try:
        events = list(guard.decode(str(path), path.name))
    except DecodeError as failure:
        error = failure
    else:
        assert [type(event) for event in events] == [Clip, VideoFacts]
        return "ok"
    assert error.code in ERROR_CODES
    assert str(error)
    assert str(path.parent) not in str(error), "a message must not differ from one machine's folders to another's"
    return error.code


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_a_bad_video_gets_its_code_and_the_next_one_decodes(name, guard, generated, tmp_path):
    write, expected = BAD_VIDEOS[name]
    write(tmp_path / name, np.random.default_rng(0))
    assert answer(guard, tmp_path / name) in ({expected} if isinstance(expected, str) else expected)
    assert answer(guard, generated["h264_mp4"]) == "ok"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_generated_video_is_never_flagged(encoding, guard, generated):
    assert answer(guard, generated[encoding]) == "ok"


@pytest.mark.parametrize("path", ODD_VIDEOS, ids=lambda path: path.name)
def test_an_odd_but_valid_video_is_never_flagged(path, guard):
    assert answer(guard, path) == "ok"


@pytest.mark.skipif(not REAL_VIDEOS, reason="no ../shared/data/fights here")
def test_no_real_clip_is_flagged(guard):
    assert [path.name for path in REAL_VIDEOS if answer(guard, path) != "ok"] == []


def test_a_real_broken_video_is_corrupt(guard):
    if not ODD_VIDEOS:
        pytest.skip("no ../shared/data/odd_videos here")
    assert answer(guard, ODD_VIDEOS[0].with_name("corrupted.mp4")) == "corrupt"


@pytest.mark.parametrize("encoding", ["h264_mp4", "h264_mov", "h264_mkv", "mpeg4_avi", "vp9_webm", "mpeg2_ts"])
@pytest.mark.parametrize("trailer", [bytes(1), bytes(5000), b"\xff" * 100, b"TAG" + b" " * 125])
def test_bytes_after_the_end_of_a_good_video_do_no_harm(encoding, trailer, guard, generated, tmp_path):
    whole = generated[encoding].read_bytes()
    path = tmp_path / generated[encoding].name
    path.write_bytes(whole + trailer)
    assert answer(guard, path) == "ok"


@pytest.mark.parametrize("encoding", ["h264_mp4", "h264_mkv"])
def test_a_video_that_lacks_only_its_last_byte_is_not_delivered_as_whole(encoding, guard, generated, tmp_path):
    path = tmp_path / generated[encoding].name
    path.write_bytes(generated[encoding].read_bytes()[:-1])
    assert answer(guard, path) == "truncated"


def test_an_avi_that_lacks_only_the_end_of_its_index_has_all_its_frames(guard, generated, tmp_path):
    path = tmp_path / generated["mpeg4_avi"].name
    path.write_bytes(generated["mpeg4_avi"].read_bytes()[:-1])
    assert answer(guard, path) == "ok"


@pytest.mark.parametrize("name", ["ünï cödé 視頻.mp4", "with space.mp4", "file:x.mp4", "-i.mp4", "%d.mp4", "a?b#c.mp4"])
def test_any_file_name_is_only_a_name(name, guard, generated, tmp_path):
    path = tmp_path / name
    path.write_bytes(generated["h264_mp4"].read_bytes())
    assert answer(guard, path) == "ok"


def test_the_name_says_nothing_about_the_content(guard, generated, tmp_path):
    for name in ("video.mkv", "video.txt", "video", "video.m3u8", "video.mp4.gz"):
        path = tmp_path / name
        path.write_bytes(generated["h264_mp4"].read_bytes())
        assert answer(guard, path) == "ok", name
