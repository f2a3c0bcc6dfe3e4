"""A file read by ranges gives the clips that the whole file gives, from a part of its bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from film import film
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_videos import X264_OPEN, X264_PLAIN, X264_PYRAMID, svt, x265

from vidpipe.decode import open_video
from vidpipe.decode.by_range import feed, file, fragments, groups, mp4
from vidpipe.decode.by_range.file import Range, RangeFile
from vidpipe.decode.packets import IndexMismatch
from vidpipe.errors import DecodeError
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
SHORT_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "300000"}
SEGMENTED = {"movflags": "dash+global_sidx+frag_keyframe"}
INDEX_FIRST = {"movflags": "faststart"}
IRREGULAR_MS = [40 * number + 17 * (number % 3) + 900 * (number > 220) + 3000 * (number > 340) for number in range(500)]
VP9 = {"b": "150k", "g": "30", "cpu-used": "6", "row-mt": "0"}

NUM_DAMAGED = int(os.environ.get("VIDPIPE_FUZZ_RANGES", 60))
NUM_EXAMPLES = int(os.environ.get("VIDPIPE_RANGE_EXAMPLES", 8))

long_film = partial(film, num=500, size=(128, 192))
# Those of which only a part is read; what comes of the others is read whole.
BY_RANGES: dict[str, Callable[[Path], None]] = {
    "h264_pyramid.mp4": partial(long_film, codec="libx264", options=X264_PYRAMID),
    "h264_index_first.mp4": partial(long_film, codec="libx264", options=X264_PLAIN, container_options=INDEX_FIRST),
    "h264_open_gop.mp4": partial(long_film, codec="libx264", options=X264_OPEN),
    "h264_with_sound.mp4": partial(long_film, codec="libx264", options=X264_PYRAMID, beside="aac"),
    "h264_irregular.mp4": partial(long_film, codec="libx264", options=X264_PLAIN, stamps_ms=IRREGULAR_MS),
    "h264_fragmented.mp4": partial(long_film, codec="libx264", options=X264_PYRAMID, container_options=FRAGMENTED),
    "h264_open_fragmented.mp4": partial(long_film, codec="libx264", options=X264_OPEN, container_options=FRAGMENTED),
    "h264_short_fragments.mp4": partial(
        long_film, codec="libx264", options=X264_OPEN, container_options=SHORT_FRAGMENTS
    ),
    "h264_segmented.mp4": partial(long_film, codec="libx264", options=X264_PYRAMID, container_options=SEGMENTED),
    "h264_sound_fragmented.mp4": partial(
        long_film, codec="libx264", options=X264_PLAIN, container_options=FRAGMENTED, beside="aac"
    ),
    "h264_pyramid.mkv": partial(long_film, codec="libx264", options=X264_PYRAMID),
    "h264_open_gop.mkv": partial(long_film, codec="libx264", options=X264_OPEN),
    "h264_irregular.mkv": partial(long_film, codec="libx264", options=X264_PLAIN, stamps_ms=IRREGULAR_MS),
    "h264_with_sound.mkv": partial(long_film, codec="libx264", options=X264_PYRAMID, beside="aac"),
    "hevc_open_gop.mp4": partial(long_film, codec="libx265", options=x265("open-gop=1:keyint=24:bframes=4")),
    "hevc_open_gop.mkv": partial(long_film, codec="libx265", options=x265("open-gop=1:keyint=24:bframes=4")),
    "vp9.webm": partial(long_film, codec="libvpx-vp9", options=VP9),
    "vp9.mp4": partial(long_film, codec="libvpx-vp9", options=VP9),
    "av1.mp4": partial(long_film, codec="libsvtav1", options=svt("pred-struct=2")),
    "av1.mkv": partial(long_film, codec="libsvtav1", options=svt("pred-struct=2")),
    "mpeg4.mp4": partial(long_film, codec="mpeg4", options={"g": "12", "bf": "2"}),
    "mpeg4.avi": partial(long_film, codec="mpeg4", options={"g": "12"}),
    "mpeg4_b.avi": partial(long_film, codec="mpeg4", options={"g": "12", "bf": "2"}),
    "mpeg4_sound.avi": partial(long_film, codec="mpeg4", options={"g": "12", "bf": "2"}, beside="mp2"),
    "msmpeg4.avi": partial(long_film, codec="msmpeg4", options={"g": "12"}),
    "mjpeg.avi": partial(long_film, codec="mjpeg", pixel_format="yuvj420p"),
    "mjpeg.mp4": partial(long_film, codec="mjpeg", pixel_format="yuvj420p"),
}  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    paths = {name: folder / name for name in BY_RANGES}
    for name, path in paths.items():
        BY_RANGES[name](path)
    return paths


class Source:
    """A file that is fetched by ranges into a copy, as from a storage, and what has been fetched of it."""

    def __init__(self, path: Path, copy: Path) -> None:
        self.data = path.read_bytes()
        self.num_bytes = self.num_requests = 0
        self.copy = copy
        with copy.open("wb") as file:
            file.truncate(len(self.data))
        head = 0, min(HEAD_BYTES, len(self.data))
        self.fetch([head])
        self.file = RangeFile(str(copy), len(self.data), [head], self.fetch)

    def fetch(self, ranges: list[Range]) -> None:
        with self.copy.open("r+b") as file:
            for start, stop in ranges:
                assert 0 <= start < stop <= len(self.data)
                os.pwrite(file.fileno(), self.data[start:stop], start)
                self.num_bytes += stop - start
                self.num_requests += 1


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in proportion to small files, so that most of one is indeed not here."""
    monkeypatch.setattr(file, "MISS_BYTES", 4096)
    monkeypatch.setattr(groups, "MISS_BYTES", 4096)
    monkeypatch.setattr(file, "TAIL_BYTES", 4096)
    monkeypatch.setattr(file, "GAP_BYTES", 1024)
    monkeypatch.setattr(feed, "GAP_BYTES", 1024)
    monkeypatch.setattr(fragments, "HEAD_BYTES", 2048)
    monkeypatch.setattr(mp4, "LONG_PACKETS", 0)


HEAD_BYTES = 4096
Clips = list[tuple[float, float, int, list[float], np.ndarray]]


def clips_of(source: str | RangeFile, spec: ClipSpec) -> Clips:
    """The clips of a video, with their times."""
    with open_video(source, spec) as video:
        plans = plan_clips(video.times_s, spec, "a video")
        needed = np.unique(np.concatenate([plan.frame_indices for plan in plans]))
        frames = dict(zip(needed.tolist(), video.frames(needed), strict=True))
        return [
            (
                plan.start_s,
                plan.end_s,
                plan.num_repeated,
                video.times_s[plan.frame_indices].tolist(),
                np.stack([frames[index] for index in plan.frame_indices.tolist()]),
            )
            for plan in plans
        ]


def assert_same(clips: Clips, others: Clips) -> None:
    assert len(clips) == len(others)
    for mine, theirs in zip(clips, others, strict=True):
        assert mine[:4] == theirs[:4]
        np.testing.assert_array_equal(mine[4], theirs[4])


SPECS = st.one_of(
    st.builds(ClipSpec, num_frames=st.integers(1, 8), size=st.just("32")),
    st.builds(ClipSpec, sampling=st.just("fps"), rate_fps=st.floats(0.05, 0.7), size=st.just("32")),
    st.builds(
        ClipSpec,
        sampling=st.just("windows"),
        num_frames=st.integers(1, 4),
        window_s=st.floats(0.1, 2),
        window_end=st.sampled_from(["shifted", "repeat"]),
        hop_s=st.floats(2, 20),
        size=st.just("32"),
    ),
)
DENSE = ClipSpec(sampling="dense", num_frames=4, frame_stride=2, num_clips=3, size="32")


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("name", BY_RANGES)
def test_ranges_give_the_clips_of_the_whole_file(name: str, films: dict[str, Path], tmp_path: Path):
    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(spec=SPECS)
    def check(spec: ClipSpec) -> None:
        source = Source(films[name], tmp_path / "copy")
        try:
            clips = clips_of(source.file, spec)
        except IndexMismatch as mismatch:
            reasons.append(str(mismatch))
        else:
            reasons.append("")
            assert_same(clips, clips_of(str(films[name]), spec))
        finally:
            source.file.close()

    reasons: list[str] = []
    check()
    assert set(reasons) <= {"", "too much of the file is wanted", "a wanted picture needs packets that were left out"}
    assert reasons.count("") >= len(reasons) / 4


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, with a stretch of zeros, or with flipped bits anywhere or in the index at one of the ends."""
    kind = rng.choice(["cut", "zeros", "anywhere", "head", "tail"])
    if kind == "cut":
        return data[: rng.integers(100, len(data))]
    changed = np.frombuffer(data, np.uint8).copy()
    if kind == "zeros":
        start = rng.integers(len(data))
        changed[start : start + rng.choice([16, 200, 3000])] = 0
        return changed.tobytes()
    low, high = {"anywhere": (0, len(data)), "head": (0, 4096), "tail": (len(data) - 8192, len(data))}[kind]
    for place in rng.integers(low, high, rng.choice([1, 4, 32])):
        changed[place] ^= 1 << rng.integers(8)
    return changed.tobytes()


@pytest.mark.usefixtures("small_steps")
def test_a_damaged_file_ends_with_a_code_or_is_read_whole_or_gives_right_frames(films: dict[str, Path], tmp_path: Path):
    """Damage in bytes that are not read is not seen; frames that both ways put at the same times are the same."""
    rng, spec = np.random.default_rng(0), ClipSpec(num_frames=4, size="32")
    num_compared = 0
    for _ in range(NUM_DAMAGED):
        name = rng.choice(list(films))
        path = tmp_path / name
        path.write_bytes(damaged(films[name].read_bytes(), rng))
        source = Source(path, tmp_path / "copy")
        try:
            clips = clips_of(source.file, spec)
            whole = clips_of(str(path), spec)
        except (DecodeError, IndexMismatch):
            continue
        finally:
            source.file.close()
        if clips[0][:4] == whole[0][:4]:
            assert_same(clips, whole)
            num_compared += 1
    assert num_compared > NUM_DAMAGED / 4
