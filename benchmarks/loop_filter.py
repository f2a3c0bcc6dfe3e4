"""What leaving out the loop filter saves, and how far pictures drift: 16 uniform frames, exact and with it left out.

python benchmarks/loop_filter.py                 # generated videos, and real clips where there are some
python benchmarks/loop_filter.py --videos FOLDER --rounds 9
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import av
import numpy as np
import tyro
from content import FIGHTS, generated

from vidpipe.decode import open_video
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

STYLES = ("h264-340", "h264-720p", "h264-1080p", "hevc-720p", "vp8-360p", "vp9-720p", "av1-720p", "xvid")
NUM_REAL = 12


@dataclass(frozen=True, kw_only=True)
class Options:
    """With and without the loop filter."""

    videos: str | None = None
    """A folder of your own videos."""
    rounds: int = 7
    """Each decode is timed so often, in turns."""


@dataclass(frozen=True)
class Result:
    """One video with the loop filter left out, against itself."""

    cpu_share: float
    """CPU time, in that of the exact decode."""
    psnr_db: list[float]
    """Of each frame in full size, gray; infinite where it is the same."""


def main(options: Options) -> None:
    print(
        f"16 uniform frames; medians of {options.rounds} rounds; {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, "
        f"load {', '.join(f'{load:.1f}' for load in os.getloadavg())}\n"
    )
    print("| content (videos) | CPU saved | mean PSNR, dB | worst frame, dB | frames unchanged |")
    print("|---|---|---|---|---|")
    for content, paths in contents(options):
        results = [compare(str(path), options.rounds) for path in paths]
        saved = 1 - statistics.median(result.cpu_share for result in results)
        psnr_db = np.array([value for result in results for value in result.psnr_db])
        changed, unchanged = psnr_db[np.isfinite(psnr_db)], np.isinf(psnr_db).mean()
        figures = f"{changed.mean():.1f} | {changed.min():.1f}" if len(changed) else "– | –"
        print(f"| {content} ({len(results)}) | {100 * saved:.0f} % | {figures} | {100 * unchanged:.0f} % |")


def contents(options: Options) -> Iterator[tuple[str, list[Path]]]:
    if options.videos is not None:
        yield from ((path.name, [path]) for path in sorted(Path(options.videos).rglob("*")) if path.is_file())
        return
    clips = sorted(FIGHTS.rglob("*.mp4"))
    if clips:
        yield "fights (real, H.264)", clips[:: max(len(clips) // NUM_REAL, 1)]
    yield from ((style, [generated(style, 0)]) for style in STYLES)


def compare(path: str, num_rounds: int) -> Result:
    specs = ClipSpec(), ClipSpec(skip_loop_filter=True)
    times_s = [[decode(path, spec)[0] for spec in specs] for _ in range(num_rounds)]
    exact_s, without_s = (statistics.median(column) for column in zip(*times_s, strict=True))
    with av.open(path) as container:
        context = container.streams.best("video").codec_context
        full = ClipSpec(size=f"{context.height}x{context.width}", resize="squash", color="gray")
    pairs = zip(decode(path, full)[1], decode(path, replace(full, skip_loop_filter=True))[1], strict=True)
    return Result(without_s / exact_s, [psnr_db(*pair) for pair in pairs])


def decode(path: str, spec: ClipSpec) -> tuple[float, list[np.ndarray]]:
    """CPU seconds from the file to its frames, and the frames."""
    start_s = time.process_time()
    with open_video(path, spec) as video:
        (plan,) = plan_clips(video.times_s, spec, path)
        frames = list(video.frames(np.unique(plan.frame_indices)))
    return time.process_time() - start_s, frames


def psnr_db(frame: np.ndarray, other: np.ndarray) -> float:
    error = float(((frame.astype(np.float64) - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


if __name__ == "__main__":
    main(tyro.cli(Options))
