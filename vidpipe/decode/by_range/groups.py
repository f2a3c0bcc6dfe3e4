"""Groups of pictures as a file's own index lists them, and which of them hold the frames that a clip wants."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidpipe.decode.by_range.file import MISS_BYTES, Range
from vidpipe.decode.packets import HOLD_BYTES, IndexMismatch
from vidpipe.sampling import LAST_FRAMES, ROUNDING_S, video_duration_s, wanted_times_s
from vidpipe.spec import ClipSpec

SPARE = 0.15  # of a group's bytes, fetched beyond where the wanted picture is likely to end


@dataclass(frozen=True)
class Group:
    """A key frame and what follows it up to the next one: bytes `start` to before `stop` of the file."""

    stamp: int
    start: int
    stop: int


def wanted_stamps(first: int, end: Sequence[int], seconds: float, spec: ClipSpec) -> np.ndarray:
    """The timestamps at which a clip looks at the screen, of a video whose first stamp and whose last ones are known.

    The first frame's own is always among them. `seconds` is how long one unit of the stamps is.
    """
    times_s = (np.sort(end) - first) * seconds
    if len(times_s) < LAST_FRAMES:
        raise IndexMismatch(f"the last key frame is only {len(times_s)} frames before the end")
    wanted_s = wanted_times_s(video_duration_s(times_s), spec)
    if wanted_s is None:
        raise IndexMismatch(f"sampling {spec.sampling} goes by the number of frames")
    return first + (np.append(0.0, wanted_s) + ROUNDING_S) / seconds


def last_wanted(groups: list[Group], stamps: np.ndarray, *, reach: float, early: int = 0) -> dict[int, float]:
    """By number, the groups in which there are wanted stamps, and the latest one in each.

    Where the stamps may move by `reach`, the cheapest frame of all may be the first of any group up to there.
    A stamp less than `early` after a group's own counts to the group before.
    """
    starts = [group.stamp for group in groups]
    if reach:
        stamps, firsts = np.sort(stamps), np.array(starts)
        is_near = np.searchsorted(stamps, firsts - reach) < np.searchsorted(stamps, firsts + reach, side="right")
        stamps = np.concatenate([stamps - reach, stamps, stamps + reach, firsts[is_near] + early])
    return {max(bisect_right(starts, stamp - early) - 1, 0): stamp for stamp in sorted(stamps.tolist())}


def likely_ranges(groups: list[Group], wanted: dict[int, float], key_bytes: int) -> list[Range]:
    """Where in the file the groups' packets up to the wanted stamps lie, if all but the key frame are of one size."""
    ranges = [
        (groups[number].start, _likely_end(groups[number], groups[number + 1], last, key_bytes))
        for number, last in wanted.items()
        if number + 1 < len(groups)
    ]
    num_bytes = sum(stop - start for start, stop in ranges)
    if num_bytes > min(HOLD_BYTES, (groups[-1].stop - groups[0].start) // 2):
        raise IndexMismatch("too much of the file is wanted")
    return ranges


def _likely_end(group: Group, following: Group, last: float, key_bytes: int) -> int:
    num_bytes = following.start - group.start
    share = (last - group.stamp) / (following.stamp - group.stamp) + SPARE
    if share >= 1:  # pictures of the following group have to be seen, too
        return following.start + MISS_BYTES
    end = group.start + int(key_bytes + share * max(num_bytes - key_bytes, 0))
    return end if following.start - end > MISS_BYTES else following.start
