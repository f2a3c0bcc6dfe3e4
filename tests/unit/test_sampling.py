import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpipe.errors import DecodeError
from vidpipe.sampling import (
    ROUNDING_S,
    ClipPlan,
    clip_spans_s,
    clip_weights,
    plan_clips,
    video_duration_s,
    window_starts_s,
)
from vidpipe.spec import ClipSpec

VARIABLE_S = [0.0, 0.1, 0.2, 1.0, 2.0]  # usual interval 0.45 s, so 2.45 s long


def cfr(num_frames: int, fps: float = 25) -> np.ndarray:
    return np.arange(num_frames) / fps


def plans(times_s, video_id: str = "a video", **settings) -> list[ClipPlan]:
    return plan_clips(np.asarray(times_s, np.float64), ClipSpec(**settings), video_id)


def indices(times_s, video_id: str = "a video", **settings) -> list[list[int]]:
    return [plan.frame_indices.tolist() for plan in plans(times_s, video_id, **settings)]


@pytest.mark.parametrize(
    ("times_s", "num_frames", "expected", "num_repeated"),
    [
        (cfr(100), 4, [12, 37, 62, 87], 0),
        (cfr(10), 5, [1, 3, 5, 7, 9], 0),
        (cfr(5), 5, [0, 1, 2, 3, 4], 0),
        (cfr(100), 1, [50], 0),
        (VARIABLE_S, 2, [2, 3], 0),  # at 0.61 s and 1.84 s
        (VARIABLE_S, 5, [2, 2, 3, 3, 4], 0),  # what stays long on screen comes more than once
        (cfr(3), 5, [0, 1, 2, 2, 2], 2),
        (cfr(1), 4, [0, 0, 0, 0], 3),
    ],
)
def test_uniform_takes_the_frame_in_the_middle_of_each_of_num_frames_equal_spans(
    times_s, num_frames, expected, num_repeated
):
    (plan,) = plans(times_s, sampling="uniform", num_frames=num_frames)
    assert plan.frame_indices.tolist() == expected
    assert plan.num_repeated == num_repeated
    assert (plan.start_s, plan.end_s) == (0.0, video_duration_s(np.asarray(times_s)))


@pytest.mark.parametrize(
    ("times_s", "num_clips", "expected", "num_repeated"),
    [
        (cfr(20), 1, [[7, 9, 11]], 0),  # one clip comes from the middle
        (cfr(20), 2, [[0, 2, 4], [15, 17, 19]], 0),
        (cfr(20), 3, [[0, 2, 4], [8, 10, 12], [15, 17, 19]], 0),
        (cfr(5), 2, [[0, 2, 4], [0, 2, 4]], 0),
        (cfr(4), 1, [[0, 2, 3]], 1),
        (cfr(1), 2, [[0, 0, 0], [0, 0, 0]], 2),
    ],
)
def test_dense_clips_are_spread_evenly_and_repeat_the_last_frame_past_the_end(
    times_s, num_clips, expected, num_repeated
):
    made = plans(times_s, sampling="dense", num_frames=3, frame_stride=2, num_clips=num_clips)
    assert [plan.frame_indices.tolist() for plan in made] == expected
    assert {plan.num_repeated for plan in made} == {num_repeated}


def test_a_dense_clip_spans_the_time_from_its_first_frame_to_the_end_of_its_last():
    (plan,) = plans(VARIABLE_S, sampling="dense", num_frames=2, frame_stride=1)
    assert plan.frame_indices.tolist() == [1, 2]
    assert (plan.start_s, plan.end_s) == (0.1, 1.0)
    (last,) = plans(VARIABLE_S, sampling="dense", num_frames=5, frame_stride=1)
    assert (last.start_s, last.end_s) == (0.0, pytest.approx(2.45))


def test_seeded_dense_clips_are_the_same_for_a_video_and_seed_and_differ_between_videos_and_seeds():
    settings = {"sampling": "dense", "num_frames": 4, "frame_stride": 2, "num_clips": 5}
    made = indices(cfr(1000), "one", **settings, seed=1)
    assert made == indices(cfr(1000), "one", **settings, seed=1)
    assert made != indices(cfr(1000), "another", **settings, seed=1)
    assert made != indices(cfr(1000), "one", **settings, seed=2)
    starts = [clip[0] for clip in made]
    assert starts == sorted(starts)


def test_seeded_dense_clips_start_anywhere_that_holds_a_whole_clip():
    made = indices(cfr(10), sampling="dense", num_frames=4, frame_stride=2, num_clips=200, seed=0)
    assert {clip[0] for clip in made} == {0, 1, 2, 3}
    assert max(clip[-1] for clip in made) == 9


@pytest.mark.parametrize(
    ("times_s", "settings", "expected"),
    [
        (cfr(100), {"rate_fps": 1.0}, [[0], [25], [50], [75]]),
        (cfr(101), {"rate_fps": 1.0}, [[0], [25], [50], [75], [100]]),
        (cfr(100), {"rate_fps": 1.0, "num_frames": 2}, [[0, 25], [50, 75]]),
        (VARIABLE_S, {"rate_fps": 2.0}, [[0], [2], [3], [3], [4]]),
        (cfr(1), {"rate_fps": 1.0}, [[0]]),
        (cfr(2, fps=1), {"rate_fps": 2.0}, [[0], [0], [1], [1]]),
    ],
)
def test_fps_takes_the_frame_on_screen_at_each_tick(times_s, settings, expected):
    assert indices(times_s, sampling="fps", **settings) == expected


def test_the_last_fps_clip_repeats_the_last_frame_of_the_video():
    made = plans(cfr(110), sampling="fps", rate_fps=1.0, num_frames=3)
    assert [plan.frame_indices.tolist() for plan in made] == [[0, 25, 50], [75, 100, 109]]
    assert [plan.num_repeated for plan in made] == [0, 1]
    assert [(plan.start_s, plan.end_s) for plan in made] == [(0.0, 3.0), (3.0, pytest.approx(4.4))]


@pytest.mark.parametrize("fps", [10, 12.5, 15, 16, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60000 / 1001, 60, 120])
@pytest.mark.parametrize("rounded_to_ms", [False, True])
def test_fps_at_the_native_rate_takes_each_frame_once_however_the_container_rounds_times(fps, rounded_to_ms):
    for num_frames in [*range(2, 36), 133, 150]:
        times_s = cfr(num_frames, fps)
        if rounded_to_ms:
            times_s = np.floor(times_s * 1000 + 0.5) / 1000
        assert indices(times_s, sampling="fps", rate_fps=fps) == [[index] for index in range(num_frames)], num_frames


@pytest.mark.parametrize(
    ("hop_s", "expected", "num_repeated", "spans"),
    [
        (None, [[12, 37], [62, 87], [109, 109]], [0, 0, 2], [(0, 2), (2, 4), (4, 4.4)]),
        (1.0, [[12, 37], [37, 62], [62, 87], [87, 109], [109, 109]], [0, 0, 0, 1, 2], None),  # overlapping
        (3.0, [[12, 37], [87, 109]], [0, 1], [(0, 2), (3, 4.4)]),  # with gaps
    ],
)
def test_windows_that_repeat_start_every_hop_and_the_last_frame_fills_them_up(hop_s, expected, num_repeated, spans):
    made = plans(cfr(110), sampling="windows", num_frames=2, window_s=2.0, hop_s=hop_s, window_end="repeat")
    assert [plan.frame_indices.tolist() for plan in made] == expected
    assert [plan.num_repeated for plan in made] == num_repeated
    if spans:
        assert [(plan.start_s, pytest.approx(plan.end_s)) for plan in made] == spans


def test_a_window_longer_than_the_video_repeats_the_last_frame_where_windows_do():
    (plan,) = plans(cfr(25), sampling="windows", num_frames=4, window_s=2.0, window_end="repeat")
    assert plan.frame_indices.tolist() == [6, 18, 24, 24]
    assert plan.num_repeated == 2
    assert plan.end_s == 1.0


@pytest.mark.parametrize(
    ("hop_s", "expected", "starts_s"),
    [
        (None, [[12, 37], [62, 87], [72, 97]], [0, 2, 2.4]),
        (1.0, [[12, 37], [37, 62], [62, 87], [72, 97]], [0, 1, 2, 2.4]),  # overlapping: none begins after the last
        (3.0, [[12, 37], [72, 97]], [0, 2.4]),  # with gaps
        (1.2, [[12, 37], [42, 67], [72, 97]], [0, 1.2, 2.4]),  # the last one is where it would be
    ],
)
def test_the_last_window_is_moved_back_to_end_with_the_video(hop_s, expected, starts_s):
    made = plans(cfr(110), sampling="windows", num_frames=2, window_s=2.0, hop_s=hop_s)
    assert [plan.frame_indices.tolist() for plan in made] == expected
    assert [plan.start_s for plan in made] == pytest.approx(starts_s)
    assert [plan.end_s for plan in made] == pytest.approx([start_s + 2 for start_s in starts_s])
    assert made[-1].end_s == video_duration_s(cfr(110))
    assert {plan.num_repeated for plan in made} == {0}


@pytest.mark.parametrize("num_frames", [4, 40])
@pytest.mark.parametrize("window_s", [1.0, 7.0])
def test_a_video_no_longer_than_a_window_is_one_window_with_the_frames_of_uniform(num_frames, window_s):
    (window,) = plans(cfr(25), sampling="windows", num_frames=num_frames, window_s=window_s, hop_s=0.3)
    (whole,) = plans(cfr(25), sampling="uniform", num_frames=num_frames)
    assert window.frame_indices.tolist() == whole.frame_indices.tolist()
    assert (window.start_s, window.end_s, window.num_repeated) == (0, 1, whole.num_repeated)


def spans_s(times_s: np.ndarray, **settings) -> list[float]:
    made = plans(times_s, **settings)
    columns = (np.array([getattr(plan, name) for plan in made]) for name in ("start_s", "end_s", "num_repeated"))
    return clip_spans_s(*columns, ClipSpec(**settings)).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": "uniform"},
        {"sampling": "dense", "frame_stride": 3, "num_clips": 1},
        {"sampling": "fps", "rate_fps": 5.0},
        {"sampling": "windows", "window_s": 1.4},
        {"sampling": "windows", "window_s": 1.4, "window_end": "repeat"},
    ],
)
def test_a_window_of_a_clips_span_has_frames_as_far_apart_as_the_clip(settings):
    times_s = cfr(500)
    first, *_ = plans(times_s, num_frames=7, **settings)
    (span_s, *_) = spans_s(times_s, num_frames=7, **settings)
    window, *_ = plans(times_s, sampling="windows", num_frames=7, window_s=span_s)
    assert np.diff(window.frame_indices) == pytest.approx(np.diff(first.frame_indices), abs=1)
    assert np.ptp(window.frame_indices) == pytest.approx(np.ptp(first.frame_indices), abs=1)


def test_clips_that_are_filled_up_span_what_their_frames_would():
    assert spans_s(cfr(10), sampling="dense", num_frames=8, frame_stride=3) == pytest.approx([8 * 3 / 25])
    assert spans_s(cfr(10), sampling="fps", num_frames=8, rate_fps=5.0) == [8 / 5]
    assert spans_s(cfr(10), sampling="windows", window_s=2.0, window_end="repeat") == [2.0]
    assert spans_s(cfr(10), sampling="windows", window_s=2.0) == pytest.approx([0.4])


def weights(*spans: tuple[float, float]) -> list[float]:
    spec = ClipSpec(sampling="windows", window_s=2.0)
    return clip_weights(*np.array(spans, float).T, spec).tolist()


def test_each_second_of_a_video_counts_once_however_many_windows_cover_it():
    assert weights((0, 2), (2, 4), (2.5, 4.5)) == pytest.approx([2, 0.5 + 0.75, 0.75 + 0.5])
    assert weights((0, 2), (1, 3), (1.25, 3.25)) == pytest.approx([1 + 0.125 + 0.25, 0.125 + 0.25 + 0.5, 0.25 + 0.75])
    assert weights((0, 2), (5, 7)) == [2, 2]  # nobody looks at what lies between
    assert weights((0, 1.5)) == [1.5]


@settings(deadline=None, max_examples=100)
@given(duration_s=st.floats(0.05, 60), window_s=st.floats(0.1, 30), hop_s=st.floats(0.1, 30))
def test_windows_cover_and_count_all_seconds_but_those_in_gaps(duration_s, window_s, hop_s):
    spec = ClipSpec(sampling="windows", window_s=window_s, hop_s=hop_s)
    starts_s = window_starts_s(duration_s, spec)
    ends_s = np.minimum(starts_s + window_s, duration_s)
    found = clip_weights(starts_s, ends_s, spec)
    covered_s = sum(min(end_s, after_s) - start_s for start_s, end_s, after_s in zip(
        starts_s, ends_s, np.append(starts_s[1:], np.inf), strict=True
    ))  # fmt: skip
    assert found.sum() == pytest.approx(covered_s)
    assert (found > 0).all()
    if hop_s <= window_s:
        assert covered_s == pytest.approx(duration_s, abs=2 * ROUNDING_S)


def test_windows_that_repeat_and_other_clips_count_alike():
    starts_s, ends_s = np.array([0.0, 2.0, 4.0]), np.array([2.0, 4.0, 4.1])
    for spec in (ClipSpec(sampling="windows", window_end="repeat"), ClipSpec(sampling="fps", num_frames=2)):
        assert clip_weights(starts_s, ends_s, spec).tolist() == [1, 1, 1]


@pytest.mark.parametrize("settings", [{"sampling": "fps"}, {"sampling": "windows", "window_s": 1.0}])
@pytest.mark.parametrize("end_s", [1.1e6, 1e15, 1e300])
def test_times_that_ask_for_more_than_a_million_clips_are_too_large(settings, end_s):
    with pytest.raises(DecodeError, match="the limit is 1000000") as raised:
        plans([0.0, 0.04, 0.08, end_s], **settings)
    assert raised.value.code == "too_large"


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_times_without_end_do_no_harm_where_the_number_of_clips_is_fixed(sampling):
    (plan,) = plans([0.0, 0.04, 1e300], sampling=sampling, num_frames=2)
    assert plan.frame_indices.max() <= 2


times_of_videos = st.one_of(
    st.builds(cfr, st.integers(1, 120), st.sampled_from([1, 10, 24, 25, 29.97, 60])),
    st.lists(st.integers(1, 3000), max_size=80).map(lambda gaps_ms: np.cumsum([0, *gaps_ms]) / 1000),
)
specs = st.one_of(
    st.builds(ClipSpec, sampling=st.just("uniform"), num_frames=st.integers(1, 40)),
    st.builds(
        ClipSpec,
        sampling=st.just("dense"),
        num_frames=st.integers(1, 20),
        frame_stride=st.integers(1, 9),
        num_clips=st.integers(1, 6),
        seed=st.none() | st.integers(0, 9),
    ),
    st.builds(ClipSpec, sampling=st.just("fps"), num_frames=st.integers(1, 9), rate_fps=st.floats(0.2, 40)),
    st.builds(
        ClipSpec,
        sampling=st.just("windows"),
        num_frames=st.integers(1, 9),
        window_s=st.floats(0.2, 30),
        hop_s=st.none() | st.floats(0.2, 30),
        window_end=st.sampled_from(["shifted", "repeat"]),
    ),
)


@settings(deadline=None, max_examples=200)
@given(times_s=times_of_videos, spec=specs)
def test_any_plan_is_in_order_in_range_and_says_how_much_it_repeats(times_s, spec):
    made = plan_clips(times_s, spec, "a video")
    last = len(times_s) - 1
    assert [plan.clip_index for plan in made] == list(range(len(made)))
    assert made == sorted(made, key=lambda plan: (plan.start_s, plan.frame_indices[0]))
    for plan in made:
        chosen = plan.frame_indices
        assert len(chosen) == spec.num_frames
        assert chosen[0] >= 0
        assert chosen[-1] <= last
        assert (np.diff(chosen) >= 0).all()
        assert plan.start_s < plan.end_s <= video_duration_s(times_s) + 1e-9
        assert 0 <= plan.num_repeated <= spec.num_frames
        assert (chosen[spec.num_frames - plan.num_repeated :] == last).all()


@settings(deadline=None, max_examples=100)
@given(times_s=times_of_videos, spec=specs)
def test_num_repeated_counts_the_frames_that_lie_past_the_end(times_s, spec):
    num_frames, num_in_video = spec.num_frames, len(times_s)
    made = plan_clips(times_s, spec, "a video")
    for plan in made:
        if spec.window_end == "shifted" and len(made) > 1:
            expected = 0
        elif spec.sampling == "uniform" or spec.window_end == "shifted":
            expected = max(num_frames - num_in_video, 0)
        elif spec.sampling == "dense":
            wanted = plan.frame_indices[0] + np.arange(num_frames) * spec.frame_stride
            expected = np.count_nonzero(wanted >= num_in_video)
        else:
            step_s, offset = (1 / spec.rate_fps, 0) if spec.sampling == "fps" else (spec.window_s / num_frames, 0.5)
            wanted_s = plan.start_s + (np.arange(num_frames) + offset) * step_s
            end_s = video_duration_s(times_s)
            if (abs(wanted_s - end_s) < 2e-3).any():  # rounding may fall either way
                continue
            expected = np.count_nonzero(wanted_s >= end_s)
        assert plan.num_repeated == expected
