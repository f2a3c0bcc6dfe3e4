"""Labels of whole videos against labels of windows (predict --segments), on fresh generated videos: top-1 side by side.

    python benchmarks/segments.py demo/model          # the demo's model, or any other that was trained on such videos

The videos are like the demo's and none of them is in it: another seed. The long ones show one motion again and again,
with other shapes each time, and break off in the middle of one: there a whole video's few frames say little.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from vidpipe.checkpoints import load_checkpoint
from vidpipe.cli import setup_logging
from vidpipe.config import PredictConfig
from vidpipe.predictions import read_predictions
from vidpipe.stages.predict import predict
from vidpipe.synthetic import ENCODINGS, MOTIONS, generate_folder, iter_frames, write_video

FPS, NUM_FRAMES, SIZE = 25, 48, {"height": 96, "width": 128}  # of the demo's videos


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare whole videos with windows of several lengths."""

    checkpoint: tyro.conf.Positional[str]
    """The output of a training run on videos of vidpipe.synthetic."""
    num_videos: int = 400
    """Videos of one motion, as long as the demo's."""
    num_long: int = 80
    """Videos in which the motion comes again and again."""
    sweeps: float = 5.4
    """How often it does."""
    seed: int = 1
    """The demo's is 0."""


def main(options: Options) -> None:
    setup_logging()
    span_s = load_checkpoint(options.checkpoint).facts.clip_span_s
    asked: dict[str, dict[str, Any]] = {"whole videos": {}, "segments, defaults": {"segments": True}}
    if span_s is not None:
        for name, factor in (("half the span", 0.5), ("double the span", 2)):
            asked[f"segments, {name}"] = {"segments": True, "window_s": round(span_s * factor, 3)}
    asked["segments, 10 s"] = {"segments": True, "window_s": 10.0}
    with tempfile.TemporaryDirectory() as folder:
        short, long = f"{folder}/short", f"{folder}/long"
        generate_folder(short, num_videos=options.num_videos, seed=options.seed, num_frames=NUM_FRAMES, **SIZE)
        write_long(Path(long), options)
        rows = []
        for name, flags in asked.items():
            outputs = [f"{folder}/{number}" for number in range(len(rows) * 2, len(rows) * 2 + 2)]
            for source, output in zip((short, long), outputs, strict=True):
                predict(PredictConfig(source=source, checkpoint=options.checkpoint, output=output, **flags))
            rows.append((name, *map(figures, outputs)))
    seconds = NUM_FRAMES / FPS
    print(f"\nclips spanned {span_s} s in training\n")
    print(f"| asked | top-1 of {options.num_videos} videos of {seconds:g} s | windows | ", end="")
    print(f"top-1 of {options.num_long} videos of {seconds * options.sweeps:g} s | windows |\n|---|---|---|---|---|")
    for name, (top1, num_clips), (long_top1, long_clips) in rows:
        print(f"| {name} | {100 * top1:.1f} % | {num_clips:.1f} | {100 * long_top1:.1f} % | {long_clips:.1f} |")


def write_long(folder: Path, options: Options) -> None:
    """Write FOLDER/LABEL/NUMBER.mp4."""
    for number in range(options.num_long):
        label = list(MOTIONS)[number % len(MOTIONS)]
        path = folder / label / f"{number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = islice(again_and_again(label, [options.seed, number]), round(NUM_FRAMES * options.sweeps))
        write_video(path, frames, encoding=ENCODINGS["h264_mp4"], fps=FPS)


def again_and_again(label: str, seed: list[int]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield from iter_frames(label, rng, num_frames=NUM_FRAMES, **SIZE)


def figures(output: str) -> tuple[float, float]:
    """The share of videos with the label of their folder, failed ones counting as wrong, and windows per video."""
    rows = read_predictions(output, ["video_id", "url", "label", "num_clips"]).to_pylist()
    right = [row["label"] == row["url"].split("/")[-2] for row in rows]
    return float(np.mean(right)), float(np.mean([row["num_clips"] for row in rows]))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
