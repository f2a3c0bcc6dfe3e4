"""Does time reach the model? Three models on generated videos whose label no single frame tells: one table.

    python benchmarks/motion.py                    # all three; videos are generated once
    python benchmarks/motion.py --only conv3d

The label is how a shape moves: left, right, up, down, clockwise, counterclockwise, growing or shrinking; the shape, its
colour, its place and the background are random, and a frame alone has the same distribution for all labels. So a model
that looks at frames one by one stays near chance, and one that sees their order need not. Everything goes through the
jobs, as a user runs them; each model is trained from nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from vidpipe.synthetic import MOTIONS

JOBS = Path(__file__).parent.parent / "jobs"
COMMON = ("--weights", "none", "--size", "32", "--warmup", "0.1", "--batch-size", "16")
FRAMES = ("--backbone", "shufflenet_v2_x1_0", "--learning-rate", "2e-3", "--epochs", "4")
MODELS: dict[str, tuple[str, ...]] = {
    "frame_vote": ("--model", "frame_vote", *FRAMES),
    "cnn_rnn": ("--model", "cnn_rnn", "--rnn", "gru", *FRAMES),
    "conv3d": ("--model", "conv3d", "--backbone", "s3d", "--learning-rate", "1.5e-3", "--epochs", "2"),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train frame_vote, cnn_rnn and conv3d on motions."""

    num_videos: int = 8000
    """Generated videos, a fifth of them for validation."""
    work: str = f"{tempfile.gettempdir()}/vidpipe-benchmarks/motion"
    """Where videos, clips and models are kept: a second run finds the videos and their clips."""
    seed: int = 2
    """Of the videos. The settings above were chosen on those of seed 0."""
    only: tuple[str, ...] = ()
    """Train only these models."""
    num_workers: int = 2
    """Workers of Ray Train, one CPU each."""


def main(options: Options) -> None:
    clips = preprocessed(options)
    print("| model | settings | video top-1 on validation | 95 % interval | seconds of training |")
    print("|---|---|---|---|---|")
    for name, flags in MODELS.items():
        if options.only and name not in options.only:
            continue
        output = f"{options.work}/{name}"
        start_s = time.monotonic()
        workers = ("--num-workers", str(options.num_workers), "--cpus-per-worker", "1")
        run_job("train.py", clips, "--output", output, "--restart", *flags, *COMMON, *workers)
        seconds = time.monotonic() - start_s
        val = json.loads(Path(output, "run.json").read_text())["metrics"]["val"]
        low, high = val["top1_ci"]
        print(f"| {name} | {' '.join(flags[2:])} | {100 * val['top1']:.1f} % | {100 * low:.1f} to {100 * high:.1f} "
              f"| {seconds:.0f} |", flush=True)  # fmt: skip
    print(f"| | chance | {100 / len(MOTIONS):.1f} % | | |")


def preprocessed(options: Options) -> str:
    """Clips of 8 frames of 32 x 32, of videos that are generated where they are not there."""
    videos, manifest, clips = (f"{options.work}/{name}" for name in ("videos", "manifest.parquet", "clips"))
    if not Path(manifest).exists():
        numbers = ["--num-videos", str(options.num_videos), "--seed", str(options.seed)]
        subprocess.run([sys.executable, "-m", "vidpipe.synthetic", videos, *numbers], check=True, stdout=sys.stderr)
        run_job("index.py", videos, "--layout", "folders", "--val-fraction", "0.2", "--output", manifest)
    run_job("preprocess.py", manifest, "--output", clips, "--size", "32", "--num-frames", "8")
    return clips


def run_job(name: str, *flags: str) -> None:
    subprocess.run([sys.executable, str(JOBS / name), *flags], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main(tyro.cli(Options))
