"""Videos to clips, against a bare loop over the same decode and against what people use instead: one table.

    python benchmarks/preprocess.py                        # real clips where there are some, and generated videos
    python benchmarks/preprocess.py --videos FOLDER        # your own
    python benchmarks/preprocess.py --long                 # memory on a 30-minute 720p video

The rounds are interleaved, each contender of each round in a process of its own; figures are medians.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from contenders import CONTENDERS
from content import KINDS, default_content, long_video
from measure import DecodingWatch, run_watched

HERE = Path(__file__).parent
FLOOR = next(iter(CONTENDERS))
START_LIMIT_S, VIDEO_LIMIT_S = 120, 1.0  # past these a contender hangs


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare preprocess with others over the same files."""

    videos: str | None = None
    """Folder with videos (default: the real clips of ../shared/data/fights where there are, and generated ones)."""
    kinds: tuple[str, ...] = KINDS
    """Of the default content, the kinds to take."""
    generate: int = 24
    """Of the default content, generated videos of each style."""
    copies: int = 1
    """Of the default content, copies of each real clip."""
    rounds: int = 3
    """Times that each contender runs; figures are medians."""
    only: tuple[str, ...] = ()
    """Run only contenders whose name begins like one of these (the bare loop always runs)."""
    long: bool = False
    """Instead: the memory that a long 720p video with `windows` takes."""
    long_minutes: int = 30
    """How long the long video is."""


def main(options: Options) -> None:
    if options.long:
        measure_long_video(options.long_minutes)
        return
    folder = Path(options.videos or default_content([*options.kinds], options.generate, options.copies))
    num_videos = sum(path.is_file() for path in folder.rglob("*"))
    names = [name for name in CONTENDERS if name == FLOOR or not options.only or name.startswith(options.only)]
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            rounds[name].append(run_contender(name, folder, num_videos))
    print_table(folder, num_videos, rounds)


def run_contender(name: str, folder: Path, num_videos: int) -> dict[str, Any]:
    """The figures of one run; one that broke delivered nothing."""
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        script, limit_s = str(HERE / "contenders.py"), START_LIMIT_S + VIDEO_LIMIT_S * num_videos
        figures = run_watched(script, name, str(folder), f"{scratch}/out", limit_s=limit_s)
    if figures is None:
        return {"num_delivered": 0}
    rate = figures["num_delivered"] / figures["seconds"]
    return {**figures, "rate": rate, "cpu_s": figures["cpu_s"] / num_videos, "peak_mb": figures["peak_bytes"] / 1e6}


def print_table(folder: Path, num_videos: int, rounds: dict[str, list[dict[str, Any]]]) -> None:
    num_rounds = len(rounds[FLOOR])
    print(f"{num_videos} videos in {folder}; medians of {num_rounds} rounds; ratios within a round\n")
    print("| | videos/s | × bare loop | CPU s a video | peak MB | start-up s | videos delivered |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in rounds.items():
        done = [(run, floor) for run, floor in zip(runs, rounds[FLOOR], strict=True) if run["num_delivered"]]
        if not done:
            print(f"| {name} | broke | | | | | 0 of {num_videos} |")
            continue
        ratios = [run["rate"] / floor["rate"] for run, floor in done]
        median = {key: statistics.median(run[key] for run, _ in done) for key in done[0][0]}
        print(
            f"| {name} | {median['rate']:.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {median['cpu_s']:.3f} | {median['peak_mb']:.0f} | {median['start_s']:.1f} "
            f"| {min(run['num_delivered'] for run in runs)} of {num_videos} |"
        )


def measure_long_video(minutes: int) -> None:
    """Print what worker and child hold at most while a long video becomes clips, a window of 10 s each."""
    video = long_video(minutes)
    print(f"{minutes} minutes of 720p H.264, {video.stat().st_size / 1e6:.0f} MB, in windows of 10 s\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        source = Path(scratch, "videos")
        source.mkdir()
        shutil.copyfile(video, source / "long.mp4")
        flags = ["--sampling", "windows", "--output", f"{scratch}/out", "--num-workers", "1"]
        job = str(HERE.parent / "jobs" / "preprocess.py")
        process = subprocess.Popen([sys.executable, job, str(source), *flags])
        watch = DecodingWatch(process.pid)
        process.wait()
        watch.stop()
    worker_mb, child_mb, both_mb = (
        num_bytes / 1e6 for num_bytes in (watch.worker_bytes, watch.child_bytes, watch.peak_bytes)
    )
    print(f"\npeak RSS   worker {worker_mb:.0f} MB, child {child_mb:.0f} MB, both at once {both_mb:.0f} MB (goal: 500)")


if __name__ == "__main__":
    main(tyro.cli(Options))
