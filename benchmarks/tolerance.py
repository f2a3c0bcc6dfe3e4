"""What a tolerance saves: the cost of one frame every ten seconds of a two-hour video, and how far the frames move.

python benchmarks/tolerance.py                   # a generated H.264 video of 360p, a key frame every 10 s
python benchmarks/tolerance.py --video FILE --rate-fps 0.5 --rounds 5
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import tyro
from content import archive_video

from vidpipe.child import assemble_clips
from vidpipe.decode.plan import plan_runs
from vidpipe.decode.pyav import PyavVideo
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

TOLERANCES_S = (0, 0.04, 0.1, 0.25, 0.5, 1, 2, 5)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Cost against tolerance."""

    video: str | None = None
    """A file of your own (default: a generated one)."""
    minutes: int = 120
    """Length of the generated video."""
    rate_fps: float = 0.1
    """Frames a second that are wanted."""
    rounds: int = 3
    """Each tolerance is measured so often, in turns; the table has medians."""


@dataclass(frozen=True)
class Round:
    """One decode of all wanted frames."""

    open_s: float
    """CPU seconds until the times and the costs of all frames are known."""
    cpu_s: float
    """CPU seconds in all."""
    num_frames: int
    num_packets: int
    shifts_s: list[float]


def main(options: Options) -> None:
    path = options.video or str(archive_video(options.minutes))
    rounds: dict[float, list[Round]] = {tolerance_s: [] for tolerance_s in TOLERANCES_S}
    for _ in range(options.rounds):
        for tolerance_s, done in rounds.items():
            done.append(decode(path, ClipSpec(sampling="fps", rate_fps=options.rate_fps, tolerance_s=tolerance_s)))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"{os.path.basename(path)}, {os.path.getsize(path) / 1e6:.0f} MB, {options.rate_fps:g} frames a second; "
        f"medians of {options.rounds} rounds; {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, load {load}\n"
    )
    print(
        "| tolerance, s | frames | packets decoded | CPU s | of them opening | CPU of exact | mean shift, s | largest |"
    )
    print("|---|---|---|---|---|---|---|---|")
    exact_s = statistics.median(one.cpu_s for one in rounds[0])
    for tolerance_s, done in rounds.items():
        cpu_s, open_s = (statistics.median(getattr(one, name) for one in done) for name in ("cpu_s", "open_s"))
        shifts_s = done[0].shifts_s
        print(
            f"| {tolerance_s:g} | {done[0].num_frames} | {done[0].num_packets} | {cpu_s:.2f} | {open_s:.2f} "
            f"| {100 * cpu_s / exact_s:.0f} % | {np.mean(shifts_s):.2f} | {max(shifts_s):.2f} |"
        )


def decode(path: str, spec: ClipSpec) -> Round:
    start_s = time.process_time()
    video = PyavVideo(path, spec)
    open_s = time.process_time() - start_s
    plans = plan_clips(video.times_s, spec, path, video.costs)
    num_clips = sum(1 for _ in assemble_clips(video, plans, spec))
    cpu_s = time.process_time() - start_s
    assert num_clips == len(plans)
    wanted = np.unique(np.concatenate([plan.frame_indices for plan in plans]))
    assert video._pictures is not None, "the pictures of this video are counted, so nothing moves"
    runs = plan_runs(video._pictures, video._pictures.in_order[wanted].tolist())
    video.close()
    num_packets = sum(len(run.feed) for run in runs)
    return Round(open_s, cpu_s, len(wanted), num_packets, [plan.max_shift_s for plan in plans])


if __name__ == "__main__":
    main(tyro.cli(Options))
