"""Wanted times may move to frames that cost less: how far, to which, and what that saves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from film import film
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_videos import FRAGMENTED, ODD_VIDEOS, X264_OPEN, X264_PLAIN, svt
from test_plan import AV1, CLOSED, INTRA_ONLY, OPEN, REFRESHED

from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.plan import Pictures, frame_costs, plan_runs
from vidpipe.decode.pyav import PyavVideo
from vidpipe.guard import Clip, Guard
from vidpipe.parts import clips_schema
from vidpipe.sampling import ROUNDING_S, ClipPlan, frames_near, frames_on_screen, plan_clips, video_duration_s
from vidpipe.spec import ClipSpec

TIMES_S = np.arange(12) / 10
COSTS = np.array([1, 3, 2, 4, 1, 6, 2, 3, 5, 4, 1, 2])


@pytest.mark.parametrize(
    ("wanted_s", "tolerance_s", "expected"),
    [
        pytest.param(0.55, 0.0, 5, id="no tolerance, no move"),
        pytest.param(0.55, 0.04, 5, id="within its own time on screen a frame has no other"),
        pytest.param(0.55, 0.06, 4, id="the key frame that leaves the screen just before"),
        pytest.param(0.35, 0.06, 4, id="the key frame that comes just after"),
        pytest.param(0.85, 0.1, 7, id="no key frame in reach: the one that needs fewest packets"),
        pytest.param(0.71, 0.25, 4, id="of two key frames the nearer one: before"),
        pytest.param(0.79, 0.35, 10, id="of two key frames the nearer one: after"),
        pytest.param(0.75, 0.35, 4, id="of two that are as near the earlier one"),
        pytest.param(0.03, 5.0, 0, id="at the beginning"),
        pytest.param(1.19, 0.02, 11, id="at the end"),
        pytest.param(1.19, 0.11, 10, id="from the end as from anywhere"),
    ],
)
def test_a_wanted_time_moves_to_the_cheapest_frame_within_the_tolerance(wanted_s, tolerance_s, expected):
    (chosen,), max_shift_s = frames_near(TIMES_S, np.array([wanted_s]), tolerance_s, COSTS)
    assert chosen == expected
    assert max_shift_s <= tolerance_s
    assert (max_shift_s > 0) == (expected != int(10 * wanted_s))


def test_the_shift_is_the_time_to_when_the_frame_is_on_screen():
    assert frames_near(TIMES_S, np.array([0.55]), 0.1, COSTS)[1] == pytest.approx(0.05)  # frame 4 leaves at 0.5
    assert frames_near(TIMES_S, np.array([0.32]), 0.1, COSTS)[1] == pytest.approx(0.08)  # frame 4 comes at 0.4


def test_nothing_moves_where_all_frames_cost_the_same_or_nobody_knows():
    wanted_s = np.array([0.0, 0.0997, 0.33, 0.6, 1.15])
    for costs in (None, np.ones(12, np.int64)):
        chosen, max_shift_s = frames_near(TIMES_S, wanted_s, 0.5, costs)
        assert chosen.tolist() == frames_on_screen(TIMES_S, wanted_s).tolist()
        assert max_shift_s == 0.0


videos = st.integers(1, 80).flatmap(
    lambda num: st.tuples(
        st.lists(st.integers(1, 900), min_size=num, max_size=num).map(lambda ms: (np.cumsum(ms) - ms[0]) / 1000),
        st.lists(st.integers(1, 9), min_size=num, max_size=num).map(np.array),
    )
)
moving_specs = st.one_of(
    st.builds(ClipSpec, sampling=st.just("uniform"), num_frames=st.integers(1, 20), tolerance_s=st.floats(0, 6)),
    st.builds(
        ClipSpec,
        sampling=st.just("fps"),
        num_frames=st.integers(1, 5),
        rate_fps=st.floats(0.2, 30),
        tolerance_s=st.floats(0, 6),
    ),
    st.builds(
        ClipSpec,
        sampling=st.just("windows"),
        num_frames=st.integers(1, 9),
        window_s=st.floats(0.2, 30),
        hop_s=st.none() | st.floats(0.2, 30),
        window_end=st.sampled_from(["shifted", "repeat"]),
        tolerance_s=st.floats(0, 6),
    ),
)


def wanted_times_s(plan: ClipPlan, spec: ClipSpec, duration_s: float) -> np.ndarray:
    """What the README says: middles of equal spans, or ticks of the rate; what is past the end is the end."""
    numbers = np.arange(spec.num_frames)
    if spec.sampling == "fps":
        return np.minimum(plan.start_s + numbers / spec.rate_fps, duration_s)
    span_s = spec.window_s if spec.window_end == "repeat" else plan.end_s - plan.start_s
    return np.minimum(plan.start_s + (numbers + 0.5) * span_s / spec.num_frames, duration_s)


@settings(deadline=None, max_examples=300)
@given(video=videos, spec=moving_specs)
def test_every_frame_is_on_screen_within_the_tolerance_in_order_and_never_dearer(video, spec):
    times_s, costs = video
    duration_s, ends_s = video_duration_s(times_s), np.append(times_s[1:], np.inf)
    moved = plan_clips(times_s, spec, "a", costs)
    exact = plan_clips(times_s, spec, "a")
    assert [(plan.start_s, plan.end_s, plan.num_repeated) for plan in moved] == [
        (plan.start_s, plan.end_s, plan.num_repeated) for plan in exact
    ]
    for plan, other in zip(moved, exact, strict=True):
        assert (np.diff(plan.frame_indices) >= 0).all()
        assert (costs[plan.frame_indices] <= costs[other.frame_indices]).all()
        is_whole = spec.sampling == "uniform" or (spec.window_end == "shifted" and len(moved) == 1)
        if is_whole and len(times_s) < spec.num_frames:  # all of them, and the last one again
            assert plan.frame_indices.tolist() == other.frame_indices.tolist()
            continue
        wanted_s = wanted_times_s(plan, spec, duration_s)
        shifts_s = np.maximum(times_s[plan.frame_indices] - wanted_s, wanted_s - ends_s[plan.frame_indices])
        assert shifts_s.max() <= spec.tolerance_s + ROUNDING_S + 1e-9
        moves_s = shifts_s[plan.frame_indices != other.frame_indices]
        assert plan.max_shift_s == pytest.approx(moves_s.max(initial=0.0))
    firsts_and_lasts = [plan.frame_indices[[0, -1]] for plan in moved]
    assert (np.diff(firsts_and_lasts, axis=0) >= 0).all()  # clips end in the order in which they begin


@settings(deadline=None, max_examples=100)
@given(video=videos, spec=moving_specs)
def test_the_frame_taken_is_the_cheapest_one_in_reach_and_the_nearest_of_these(video, spec):
    times_s, costs = video
    wanted_s = np.linspace(0, times_s[-1], 7)
    chosen, _ = frames_near(times_s, wanted_s, spec.tolerance_s, costs)
    ends_s = np.append(times_s[1:], np.inf)
    for want_s, exact, choice in zip(wanted_s, frames_on_screen(times_s, wanted_s), chosen, strict=True):
        if not spec.tolerance_s:
            assert choice == exact
            continue
        shifts_s = np.maximum(np.maximum(times_s - want_s, want_s - ends_s), 0)
        in_reach = shifts_s < spec.tolerance_s - 2 * ROUNDING_S
        assert costs[choice] <= min(costs[in_reach], default=costs[exact])
        as_cheap = in_reach & (costs == costs[choice])
        assert shifts_s[choice] <= min(shifts_s[as_cheap], default=np.inf) + ROUNDING_S + 1e-9


def fed_for(pictures: Pictures, frames: np.ndarray) -> int:
    return sum(len(run.feed) for run in plan_runs(pictures, pictures.in_order[frames].tolist()))


@pytest.mark.parametrize("pictures", [CLOSED, OPEN, REFRESHED, INTRA_ONLY, AV1])
def test_a_frame_costs_the_packets_that_its_plan_feeds(pictures):
    check_costs(pictures, frame_costs(pictures))


def check_costs(pictures: Pictures, costs: np.ndarray) -> None:
    fed = [fed_for(pictures, np.array([frame])) for frame in range(len(costs))]
    if pictures.is_idle.any() and not pictures.is_start.all():  # those are fed or not, as it turns out
        assert (costs >= fed).all()
        assert (costs[1:] > 1).any()
    else:
        assert costs.tolist() == fed


PLANNED = ["h264_open_gop.mp4", "h264_pyramid.avi", "hevc_open_gop.mkv", "av1.mp4", "vp9_alt_ref.webm", "mjpeg.avi"]
PLANNED += ["trimmed_by_an_edit_list.mp4", "vfr.mkv", "hevc_radl.mp4", "h264_intra_refresh.mp4"]


@pytest.mark.parametrize("name", PLANNED)
def test_of_a_real_video_the_costs_are_those_of_its_plan_and_all_together_never_rise(name, tmp_path):
    ODD_VIDEOS[name](tmp_path / name)
    with closing(PyavVideo(str(tmp_path / name), ClipSpec(tolerance_s=1))) as video:
        times_s, costs, pictures = video.times_s, video.costs, video._pictures
    assert pictures is not None
    assert costs is not None
    check_costs(pictures, costs)
    for rate_fps in (0.7, 2.3, 11, 25):
        before = None
        for tolerance_s in (0, 0.04, 0.1, 0.3, 1.0, 9.0):
            spec = ClipSpec(sampling="fps", rate_fps=rate_fps, tolerance_s=tolerance_s)
            plans = plan_clips(times_s, spec, "a", costs)
            fed = fed_for(pictures, np.unique(np.concatenate([plan.frame_indices for plan in plans])))
            assert before is None or fed <= before, (rate_fps, tolerance_s)
            before = before or fed


def test_the_pictures_of_a_video_that_are_counted_do_not_move(tmp_path):
    film(tmp_path / "a.mp4", "libx264", X264_PLAIN)
    with closing(PyavVideo(str(tmp_path / "a.mp4"), ClipSpec(tolerance_s=1), count=True)) as video:
        assert video.costs is None


def clips_of(path: Path, **settings: object) -> list[Clip]:
    with Guard(ClipSpec(size="16", **settings), time_limit_s=60, memory_limit_bytes=1 << 30) as guard:  # type: ignore[arg-type]
        return [event for event in guard.decode(str(path), "a") if isinstance(event, Clip)]


def test_clips_hold_the_frames_at_the_times_they_name_and_how_far_these_were_moved(tmp_path):
    film(tmp_path / "a.mp4", "libx264", X264_OPEN, num=90)  # a key frame every 18 frames, 0.72 s
    exact = clips_of(tmp_path / "a.mp4", sampling="fps", rate_fps=25)
    frames = {clip.frame_pts_s[0]: clip.payload for clip in exact}
    moved = clips_of(tmp_path / "a.mp4", sampling="fps", rate_fps=1, tolerance_s=0.3)
    assert [clip.frame_pts_s for clip in moved] == [[0.0], [pytest.approx(0.72)], [pytest.approx(2.16)], [2.88]]
    assert [clip.max_shift_s for clip in moved] == pytest.approx([0.0, 0.24, 0.16, 0.08])
    assert [clip.payload for clip in moved] == [frames[clip.frame_pts_s[0]] for clip in moved]
    assert {clip.max_shift_s for clip in exact} == {0.0}


def test_the_metadata_of_clips_says_whether_they_are_exact():
    def says(**settings: object) -> bytes:
        return clips_schema(ClipSpec(**settings), {}).metadata[b"vidpipe"]  # type: ignore[arg-type]

    assert b'"is_exact": true' in says()
    assert b'"is_exact": false' in says(tolerance_s=0.5)
    assert b'"is_exact": false' in says(skip_loop_filter=True)
    assert b'"is_exact": false' in says(on_damage="keep")
    assert b'"is_exact": false' in says(decoder="decord")


@contextmanager
def by_ranges(path: Path, copy: Path) -> Iterator[RangeFile]:
    """The file as the child has a large remote one: empty, and filled as it asks."""
    whole = path.read_bytes()
    copy.write_bytes(b"")
    os.truncate(copy, len(whole))

    def fetch(ranges: list[tuple[int, int]]) -> None:
        with copy.open("r+b") as file:
            for start, stop in ranges:
                file.seek(start)
                file.write(whole[start:stop])

    fetch([(0, 4096)])
    with closing(RangeFile(str(copy), len(whole), [(0, 4096)], fetch)) as file:
        yield file


@pytest.mark.parametrize(
    ("suffix", "codec", "movflags"),
    [
        (".mp4", "libx264", "faststart"),
        (".mp4", "libx264", FRAGMENTED["movflags"]),
        (".mkv", "libx264", ""),
        (".avi", "mpeg4", ""),
        (".mp4", "libsvtav1", "faststart"),
    ],
)
def test_the_same_frames_are_chosen_of_a_file_that_is_read_by_ranges(suffix, codec, movflags, tmp_path):
    path = tmp_path / f"a{suffix}"
    options = {
        "libx264": X264_OPEN | {"crf": "8", "g": "30"},
        "libsvtav1": svt("crf=20"),
        "mpeg4": {"bf": "2", "g": "30", "qmax": "3"},
    }[codec]
    film(path, codec, options, num=2000, size=(96, 176), container_options={"movflags": movflags} if movflags else {})
    for tolerance_s in (0.1, 0.5, 1.5, 4.0):
        spec = ClipSpec(sampling="fps", rate_fps=0.03, tolerance_s=tolerance_s, size="16")
        with closing(PyavVideo(str(path), spec)) as video:
            expected = chosen_and_delivered(video, spec)
        with by_ranges(path, tmp_path / "copy") as file, closing(PyavVideo(file, spec)) as video:
            found = chosen_and_delivered(video, spec)
        assert found[0] == expected[0], tolerance_s
        np.testing.assert_array_equal(found[1], expected[1])


def chosen_and_delivered(video: PyavVideo, spec: ClipSpec) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Time and shift of each one-frame clip, and the frames."""
    plans = plan_clips(video.times_s, spec, "a", video.costs)
    frames = np.stack(list(video.frames(np.unique([plan.frame_indices[0] for plan in plans]))))
    return [(float(video.times_s[plan.frame_indices[0]]), plan.max_shift_s) for plan in plans], frames
