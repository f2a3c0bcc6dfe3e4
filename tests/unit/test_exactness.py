"""Frame i is the i-th frame of a full sequential decode, bit for bit: any file, any wanted frames, each way to them.

Compared is what the decoder hands to the resize: every byte of every plane. More examples, for a run by hand:

    VIDPIPE_EXACT_EXAMPLES=5000 python -m pytest tests/unit/test_exactness.py
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_videos import ODD_VIDEOS
from small_videos import ODD_VIDEOS as REAL_ODD_VIDEOS

import vidpipe.decode.packets
import vidpipe.decode.pyav
from vidpipe.decode.pyav import IndexMismatch, PyavVideo
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

PATHS = [*ODD_VIDEOS, *REAL_ODD_VIDEOS]
NUM_PAIRS = int(os.environ.get("VIDPIPE_EXACT_EXAMPLES", "0"))
PAIRS_A_FILE = -(-NUM_PAIRS // len(PATHS)) or 4
ALIKE = {"joined.ts", "joined.mpg"}  # the same recording twice
MODES = {
    "uniform": ClipSpec(),
    "dense": ClipSpec(sampling="dense", num_frames=5, frame_stride=3, num_clips=4, seed=1),
    "fps": ClipSpec(sampling="fps", rate_fps=3),
    "windows": ClipSpec(sampling="windows", num_frames=3, window_s=0.7, hop_s=0.5),
    "moved": ClipSpec(sampling="fps", rate_fps=5, tolerance_s=0.15),
}


class Fingerprint:
    """Takes the place of the resize: a picture becomes a hash of its planes, its size and its pixel format."""

    width = height = 0

    def __init__(self, spec: ClipSpec) -> None: ...

    def __call__(self, picture: av.VideoFrame) -> bytes:
        return fingerprint(picture)


def fingerprint(picture: av.VideoFrame) -> bytes:
    digest = hashlib.blake2b(f"{picture.width}x{picture.height} {picture.format.name}".encode(), digest_size=16)
    for number, plane in enumerate(picture.planes):
        sample_bits = [8 * -(-part.bits // 8) for part in picture.format.components if part.plane == number]
        pixel_bits = sum(sample_bits) if len(picture.planes) > 1 else picture.format.padded_bits_per_pixel
        lines = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
        digest.update(np.ascontiguousarray(lines[:, : -(-plane.width * pixel_bits // 8)]))  # without the padding
    return digest.digest()


@pytest.fixture(scope="module", autouse=True)
def _no_resize() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vidpipe.decode.pyav, "Resizer", Fingerprint)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(params=PATHS, ids=lambda path: path if isinstance(path, str) else f"real {path.name}")
def path(request: pytest.FixtureRequest, folder: Path) -> Path:
    """One video after the other, made when first asked for."""
    return request.param if isinstance(request.param, Path) else written(folder, request.param)


def written(folder: Path, name: str) -> Path:
    """A video that is made once: not all encoders make the same of it each time, and `full_decode` remembers paths."""
    path = folder / name
    if not path.exists():
        ODD_VIDEOS[name](path)
    return path


@cache
def full_decode(path: Path, **options: str) -> list[bytes]:
    """All pictures that a plain sequential decode shows; what it cannot decode, it leaves out."""
    shown = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.options = options
        for packet in container.demux(stream):
            try:
                shown += map(fingerprint, packet.decode())
            except av.error.InvalidDataError:
                continue
    return shown


def delivered(path: Path, indices: list[int], way: str) -> list[bytes]:
    """As the child process does: where the packets promised too much, the pictures are counted."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "packets read again":
            patch.setattr(vidpipe.decode.packets, "HOLD_BYTES", 0)
        if way == "pictures decoded again":
            patch.setattr(vidpipe.decode.pyav, "HOLD_BYTES", 0)
        try:
            with closing(PyavVideo(str(path), ClipSpec(), count=way.startswith("pictures"))) as video:
                return list(video.frames(indices))
        except IndexMismatch:
            with closing(PyavVideo(str(path), ClipSpec(), count=True)) as video:
                return list(video.frames(indices))


WAYS = ["packets held", "packets read again", "pictures held", "pictures decoded again"]


@st.composite
def wanted(draw: st.DrawFn, num_frames: int) -> list[int]:
    """A random set of frames, or a window with a stride."""
    if draw(st.booleans()):
        return sorted(draw(st.sets(st.integers(0, num_frames - 1), min_size=1, max_size=24)))
    first, stride = draw(st.integers(0, num_frames - 1)), draw(st.integers(1, 9))
    return list(range(first, num_frames, stride))[: draw(st.integers(1, 16))]


def test_any_frames_asked_for_are_those_of_a_full_decode(path):
    expected = full_decode(path)

    @settings(
        max_examples=PAIRS_A_FILE,
        deadline=None,
        database=None,
        derandomize=not NUM_PAIRS,
        suppress_health_check=list(HealthCheck),
    )
    @given(indices=wanted(len(expected)), way=st.sampled_from(WAYS))
    def check(indices: list[int], way: str) -> None:
        assert delivered(path, indices, way) == [expected[index] for index in indices]

    check()


@pytest.mark.parametrize("count", [False, True])
def test_there_are_as_many_times_as_frames_they_ascend_and_nothing_looks_damaged(path, count):
    with closing(PyavVideo(str(path), ClipSpec(), count=count)) as video:
        assert len(video.times_s) == len(full_decode(path))
        assert video.times_s[0] == 0.0
        assert (np.diff(video.times_s) > 0).all()
        assert len(list(video.frames(range(0, len(video.times_s), 5)))) == -(-len(video.times_s) // 5)
        assert video.num_damaged == 0


def test_every_way_of_sampling_delivers_the_frames_it_names(path):
    expected = full_decode(path)
    with closing(PyavVideo(str(path), MODES["moved"])) as video:
        for mode, spec in MODES.items():
            if mode != "uniform" and video.times_s[-1] > 3600:
                continue  # hours of nothing: thousands of clips of the same frame
            plans = plan_clips(video.times_s, spec, "a", video.costs)
            needed = np.unique(np.concatenate([plan.frame_indices for plan in plans]))
            assert list(video.frames(needed)) == [expected[index] for index in needed], mode


FILTERED = ["h264_pyramid.mp4", "h264_open_gop.avi", "hevc_open_gop.mkv", "hevc_intra_refresh.mp4", "vp8_alt_ref.webm"]


@pytest.mark.parametrize("name", FILTERED)
def test_without_the_loop_filter_frames_are_those_of_a_full_decode_without_it(name, folder):
    path = written(folder, name)
    filtered, expected = full_decode(path), full_decode(path, skip_loop_filter="nokey")
    assert filtered[0] == expected[0]  # a key frame
    assert sum(one == other for one, other in zip(filtered, expected, strict=True)) < len(expected) / 2
    wanted = [0, 1, 14, 15, 16, 17, 18, 30, 50, 63]
    with closing(PyavVideo(str(path), ClipSpec(skip_loop_filter=True))) as video:
        assert list(video.frames(wanted)) == [expected[index] for index in wanted]


@pytest.mark.parametrize("name", ["vp9_alt_ref.webm", "av1.mp4", "mpeg4_b.avi", "mjpeg.avi"])
def test_where_there_is_no_loop_filter_to_leave_out_frames_stay_exact(name, folder):
    path = written(folder, name)
    with closing(PyavVideo(str(path), ClipSpec(skip_loop_filter=True))) as video:
        assert list(video.frames([3, 17, 40])) == [full_decode(path)[index] for index in (3, 17, 40)]


def test_no_two_frames_of_a_made_video_are_alike(path):
    """Or else a wrong one could pass for the right one."""
    if path.name not in ALIKE and path.name in ODD_VIDEOS:
        assert len(set(full_decode(path))) == len(full_decode(path))
