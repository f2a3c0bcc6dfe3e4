"""Which frames make a clip, which clips make a video: arithmetic on presentation times, without touching a video.

`times_s` is the presentation time of every frame, ascending, the first one 0.0. A frame is on screen from its own time
until the next one's; the last one stays for the usual interval. Header counts and frame rates play no part.

With a tolerance X, a wanted time w stands for all times from w - X to w + X, and of the frames that are on screen then
the cheapest is taken; of several that cost the same, the one that is on screen nearest to w.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec

# Matroska and FLV round times to a millisecond: a frame that starts up to half of that later counts as on screen.
# A little more than half, since at 16 fps or 23.976 fps the exact halves occur.
ROUNDING_S = 0.501e-3
MAX_CLIPS = 1_000_000
LAST_FRAMES = 10  # their intervals tell how long the last one stays


@dataclass(frozen=True)
class ClipPlan:
    """One clip of a video: which frames (ascending; past the video's end the last one repeats) and which span."""

    clip_index: int
    start_s: float
    end_s: float
    frame_indices: np.ndarray
    num_repeated: int
    """Frames at the clip's end that only repeat the video's last one, because the video is too short."""
    max_shift_s: float = 0.0
    """Seconds from a wanted time to the nearest moment at which its frame is on screen, at most; 0.0 when exact."""


def video_duration_s(times_s: np.ndarray) -> float:
    """Time at which the last frame leaves the screen: its own time and the usual interval there (one frame: 1/25 s).

    The end of a video alone tells it: the same whether all of the video was read or not.
    """
    if len(times_s) < 2:
        return 0.04
    return float(times_s[-1] + np.median(np.diff(times_s[-LAST_FRAMES:])))


def wanted_times_s(duration_s: float, spec: ClipSpec) -> np.ndarray | None:
    """The times at which `plan_clips` looks at the screen; None where it goes by the number of frames."""
    if spec.sampling == "uniform":
        return _uniform_times_s(duration_s, spec)
    if spec.sampling == "fps":
        assert spec.rate_fps is not None
        return np.append(np.arange(_num_fps_times(duration_s, spec)) / spec.rate_fps, duration_s)
    if spec.sampling == "windows":
        starts_s = window_starts_s(duration_s, spec)
        if _is_one_window(starts_s, spec):
            return _uniform_times_s(duration_s, spec)
        return np.minimum((starts_s[:, None] + _window_offsets_s(spec)).ravel(), duration_s)
    return None


def window_starts_s(duration_s: float, spec: ClipSpec) -> np.ndarray:
    """Where the windows of a video begin: at 0, hop, 2 hops, …; where they are shifted, the last one ends with it.

    video     |----------------------------|
    shifted   |---------|                      whole windows, and the last one moved back
                    |---------|
                          .    |---------|     <- would begin at the dot
    repeat    |---------|                      every start before the end; past it, the last frame repeats
                    |---------|
                          |---------|
                                |---------|
    """
    assert spec.window_s is not None
    assert spec.hop_s is not None
    if spec.window_end == "repeat":
        return hops_s(duration_s, spec.hop_s)
    last_s = duration_s - spec.window_s
    num_before = max(_num_starts(last_s, spec.hop_s), 0)
    _check_num_clips(num_before, duration_s)
    return np.append(np.arange(num_before) * spec.hop_s, last_s if num_before else 0.0)


def hops_s(duration_s: float, hop_s: float) -> np.ndarray:
    """0, hop, 2 hops, … seconds, as far as they lie before the end of a video."""
    num_hops = max(1, _num_starts(duration_s, hop_s))
    _check_num_clips(num_hops, duration_s)
    return np.arange(num_hops) * hop_s


def plan_clips(times_s: np.ndarray, spec: ClipSpec, video_id: str, costs: np.ndarray | None = None) -> list[ClipPlan]:
    """The clips of one video under `spec`; `video_id` makes random starts differ from video to video.

    `costs`, what each frame costs to decode, is what `spec.tolerance_s` goes by; without them nothing moves.

    Raises DecodeError `too_large` when the times ask for more than `MAX_CLIPS` clips.
    """
    return PLANNERS[spec.sampling](times_s, spec, video_id, costs)


def clip_spans_s(starts_s: np.ndarray, ends_s: np.ndarray, num_repeated: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """(N,) the seconds that clips span: a window of so many seconds has frames as far apart as the clip has.

    Start and end are those of a clip's plan; they tell it where a clip is a whole window or a whole video.
    """
    if spec.sampling == "fps":
        assert spec.rate_fps is not None
        return np.full(len(starts_s), spec.shape[0] / spec.rate_fps)
    if spec.window_end == "repeat":  # frames past the end are as far apart, whatever they show
        assert spec.window_s is not None
        return np.full(len(starts_s), spec.window_s)
    if spec.sampling == "dense":
        assert spec.frame_stride is not None
        num_source_frames = np.maximum(spec.shape[0] - num_repeated - 1, 0) * spec.frame_stride + 1
        return (ends_s - starts_s) / num_source_frames * spec.frame_stride * spec.shape[0]
    return ends_s - starts_s


def counted_s(starts_s: np.ndarray, ends_s: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Seconds of a video up to each of `times_s` as a clip counts them: one that n clips cover, 1/n for each."""
    edges_s = np.unique(np.concatenate([starts_s, ends_s]))
    num_begun, num_over = (np.searchsorted(np.sort(of_all), edges_s, side="right") for of_all in (starts_s, ends_s))
    num_clips = (num_begun - num_over)[:-1]
    lengths_s = np.where(num_clips > 0, np.diff(edges_s) / np.maximum(num_clips, 1), 0.0)
    return np.interp(times_s, edges_s, np.append(0.0, np.cumsum(lengths_s)))


def clip_weights(starts_s: np.ndarray, ends_s: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """(N,) how much each clip of one video counts for it: shifted windows by the seconds they cover, others alike."""
    if spec.window_end != "shifted":
        return np.ones(len(starts_s))
    return counted_s(starts_s, ends_s, ends_s) - counted_s(starts_s, ends_s, starts_s)


def frames_on_screen(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Index of the frame on screen at each wanted time; after the end, the last frame."""
    indices = np.searchsorted(times_s, wanted_s + ROUNDING_S, side="right") - 1
    return np.clip(indices, 0, len(times_s) - 1)


def frames_near(
    times_s: np.ndarray, wanted_s: np.ndarray, tolerance_s: float, costs: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Index of the cheapest frame within `tolerance_s` of each wanted time, and by how many seconds one moved at most.

    Wanted times that ascend give indices that ascend.
    """
    exact = frames_on_screen(times_s, wanted_s)
    if costs is None or not tolerance_s:
        return exact, 0.0
    first, last = (frames_on_screen(times_s, wanted_s + shift_s) for shift_s in (-tolerance_s, tolerance_s))
    chosen, max_shift_s = exact.copy(), 0.0
    for number, (start, index, stop) in enumerate(zip(first, exact, last + 1, strict=True)):
        cheap = start + np.flatnonzero(costs[start:stop] == costs[start:stop].min())
        shifts_s = shifts_to(times_s, wanted_s[number], index, cheap)
        nearest = int(np.argmin(shifts_s))
        chosen[number] = cheap[nearest]
        max_shift_s = max(max_shift_s, float(shifts_s[nearest]))
    return chosen, max_shift_s


def shifts_to(times_s: np.ndarray, wanted_s: float, index: int, others: np.ndarray) -> np.ndarray:
    """Seconds from a wanted time, at which frame `index` is on screen, to when each of `others` is."""
    before_s = wanted_s - times_s[np.minimum(others + 1, len(times_s) - 1)]
    shifts_s = np.where(others < index, before_s, times_s[others] - wanted_s)
    shifts_s[others == index] = -np.inf  # nothing is nearer, not even what rounding leaves on screen
    return shifts_s


def _plan_uniform(times_s: np.ndarray, spec: ClipSpec, video_id: str, costs: np.ndarray | None) -> list[ClipPlan]:
    """The video is cut into `num_frames` equal spans of time; of each, the frame on screen in its middle."""
    duration_s, num_frames = video_duration_s(times_s), spec.shape[0]
    if len(times_s) < num_frames:
        indices, num_repeated = _past_the_end(np.arange(num_frames), len(times_s))
        return [ClipPlan(0, 0.0, duration_s, indices, num_repeated)]
    indices, max_shift_s = frames_near(times_s, _uniform_times_s(duration_s, spec), spec.tolerance_s, costs)
    return [ClipPlan(0, 0.0, duration_s, indices, 0, max_shift_s)]


def _plan_dense(times_s: np.ndarray, spec: ClipSpec, video_id: str, costs: np.ndarray | None) -> list[ClipPlan]:
    """`num_clips` spans of (num_frames - 1) * frame_stride + 1 frames, from the first possible start to the last."""
    num_frames, stride, num_clips = spec.shape[0], spec.frame_stride, spec.num_clips
    assert stride is not None
    assert num_clips is not None
    last_start = max(len(times_s) - ((num_frames - 1) * stride + 1), 0)
    if spec.seed is not None:
        starts = np.sort(_generator(spec.seed, video_id).integers(0, last_start + 1, num_clips))
    elif num_clips == 1:
        starts = np.array([last_start // 2])
    else:
        starts = np.round(np.linspace(0, last_start, num_clips)).astype(np.int64)
    ends_s = np.append(times_s[1:], video_duration_s(times_s))
    clips = []
    for clip_index, start in enumerate(starts):
        indices, num_repeated = _past_the_end(start + np.arange(num_frames) * stride, len(times_s))
        span_s = float(times_s[indices[0]]), float(ends_s[indices[-1]])
        clips.append(ClipPlan(clip_index, *span_s, indices, num_repeated))
    return clips


def _plan_fps(times_s: np.ndarray, spec: ClipSpec, video_id: str, costs: np.ndarray | None) -> list[ClipPlan]:
    """The frames on screen at 0, 1/rate, 2/rate, … seconds, `num_frames` of them a clip."""
    duration_s, num_frames, rate_fps = video_duration_s(times_s), spec.shape[0], spec.rate_fps
    assert rate_fps is not None
    num_wanted = _num_fps_times(duration_s, spec)
    clips = []
    for clip_index, first in enumerate(range(0, num_wanted, num_frames)):
        wanted = first + np.arange(num_frames)
        # What repeats is the last frame of the video, not the last one that the rate happened to hit.
        wanted_s = np.where(wanted < num_wanted, wanted / rate_fps, duration_s)
        indices, max_shift_s = frames_near(times_s, wanted_s, spec.tolerance_s, costs)
        num_repeated = int((wanted >= num_wanted).sum())
        end_s = min((first + num_frames) / rate_fps, duration_s)
        clips.append(ClipPlan(clip_index, first / rate_fps, end_s, indices, num_repeated, max_shift_s))
    return clips


def _plan_windows(times_s: np.ndarray, spec: ClipSpec, video_id: str, costs: np.ndarray | None) -> list[ClipPlan]:
    """A clip of each window: `num_frames` equal spans of it, the frame in each one's middle.

    A video that is no longer than a window is one window of its own length: the clip that `uniform` makes of it.
    """
    duration_s, window_s = video_duration_s(times_s), spec.window_s
    assert window_s is not None
    starts_s = window_starts_s(duration_s, spec)
    if _is_one_window(starts_s, spec):
        return _plan_uniform(times_s, spec, video_id, costs)
    ends_s = np.minimum(starts_s + window_s, duration_s)
    if spec.window_end == "shifted":
        ends_s[-1] = duration_s
    clips = []
    for clip_index, (start_s, end_s) in enumerate(zip(starts_s.tolist(), ends_s.tolist(), strict=True)):
        wanted_s = start_s + _window_offsets_s(spec)
        num_repeated = int((wanted_s >= duration_s).sum())
        # A time past the end wants the last frame, and may move from the end as far as from anywhere.
        indices, max_shift_s = frames_near(times_s, np.minimum(wanted_s, duration_s), spec.tolerance_s, costs)
        clips.append(ClipPlan(clip_index, start_s, end_s, indices, num_repeated, max_shift_s))
    return clips


PLANNERS = {"uniform": _plan_uniform, "dense": _plan_dense, "fps": _plan_fps, "windows": _plan_windows}


def _uniform_times_s(duration_s: float, spec: ClipSpec) -> np.ndarray:
    return (np.arange(spec.shape[0]) + 0.5) * duration_s / spec.shape[0]


def _num_fps_times(duration_s: float, spec: ClipSpec) -> int:
    assert spec.rate_fps is not None
    num_wanted = max(1, _num_starts(duration_s, 1 / spec.rate_fps))
    _check_num_clips(num_wanted / spec.shape[0], duration_s)
    return num_wanted


def _is_one_window(starts_s: np.ndarray, spec: ClipSpec) -> bool:
    """Whether all of a video is its one window, and no longer than the video."""
    return spec.window_end == "shifted" and len(starts_s) == 1


def _window_offsets_s(spec: ClipSpec) -> np.ndarray:
    assert spec.window_s is not None
    return (np.arange(spec.shape[0]) + 0.5) * spec.window_s / spec.shape[0]


def _past_the_end(wanted: np.ndarray, num_frames_in_video: int) -> tuple[np.ndarray, int]:
    last = num_frames_in_video - 1
    return np.minimum(wanted, last), int((wanted > last).sum())


def _num_starts(duration_s: float, hop_s: float) -> int:
    """How many of 0, hop, 2 hops, … lie before the end (one that only rounding puts before it does not).

    Rounding moves the end twice: the last frame's time, and the interval that is added to it.
    """
    return int(min(np.ceil((duration_s - 2 * ROUNDING_S) / hop_s), 2**62))


def _check_num_clips(num_clips: float, duration_s: float) -> None:
    if num_clips > MAX_CLIPS:
        raise DecodeError(
            "too_large", f"{duration_s:.0f} s of video make {num_clips:.0f} clips, the limit is {MAX_CLIPS}"
        )


def _generator(seed: int, video_id: str) -> np.random.Generator:
    digest = hashlib.blake2b(video_id.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "big")])
