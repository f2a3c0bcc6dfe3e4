"""Makes the golden outputs beside this file: what an earlier version left behind, and every later one goes on with.

They were made by commit 4d62fbf, in a checkout of it, and are never made again; a later version gets its own folder:

    PYTHONPATH=CHECKOUT python tests/golden/make.py tests/golden/4d62fbf

Paths in them are replaced where a test copies the outputs (tests/golden_outputs.py).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vidpipe.config import TrainConfig
from vidpipe.manifest import MANIFEST_SCHEMA, video_id
from vidpipe.model_spec import ModelSpec
from vidpipe.synthetic import ENCODINGS, MOTIONS, iter_frames, write_video
from vidpipe.training.checks import begin_run
from vidpipe.training.clip_rows import labelled_clips
from vidpipe.training.job import TrainJob
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import run_training
from vidpipe.transform_spec import AugmentSpec

LABELS = [*MOTIONS][:3]
NUM_FRAMES = [20, 26, 31, 37]  # at 30 a second: none is a multiple of a window
SPLITS = ["train", "train", "val", "train"]
TINY = ModelSpec(
    model="transformer",
    backbone="videomae",
    weights="none",
    model_config=(
        *("hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=32"),
        *("image_size=16", "num_frames=4", "tubelet_size=2", "patch_size=8"),
    ),
)
HALF = {"ema_decay": 0.9, "epochs": 3, "augment": AugmentSpec(crop="random", flip=0.5), "optimizer": "sgd"}
HALF_STEP = 3
JOBS = Path(sys.modules["vidpipe"].__file__).parent.parent / "jobs"


class EndOfProcessError(Exception):
    """Stands for a kill."""


def end(number: int, loss: torch.Tensor, model: torch.nn.Module) -> None:
    if number == HALF_STEP:
        raise EndOfProcessError


def run(job: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, JOBS / f"{job}.py", *map(str, arguments)], check=True)


def make_videos(folder: Path) -> Path:
    """Twelve short videos, a long one, one that is none, a damaged one, and their manifest with ids of its own."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(12):
        name, label = f"{number:02d}.mp4", LABELS[number % 3]
        rng = np.random.default_rng(number)
        frames = iter_frames(label, rng, num_frames=NUM_FRAMES[number // 3], height=48, width=64)
        write_video(folder / name, frames, encoding=ENCODINGS["h264_mp4"], fps=30)
        rows.append((name, label, SPLITS[number // 3], f"group {number // 2}"))
    frames = iter_frames(LABELS[0], np.random.default_rng(12), num_frames=62, height=48, width=64)
    write_video(folder / "long.mp4", frames, encoding=ENCODINGS["h264_mp4"], fps=5)
    rows.append(("long.mp4", LABELS[0], "val", None))
    (folder / "broken.mp4").write_bytes(b"not a video" * 20)
    data = (folder / "09.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :])
    rows += [("broken.mp4", LABELS[0], "train", None), ("damaged.mp4", LABELS[1], "train", None)]
    names, labels, splits, groups = zip(*rows, strict=True)
    columns = {"video_id": [video_id(name) for name in names], "url": [str(folder / name) for name in names]}
    columns |= {"version": ["v1"] * len(rows), "size_bytes": [(folder / name).stat().st_size for name in names]}
    columns |= {"label": labels, "split": splits, "group": groups}
    table = pa.table([pa.array(columns[f.name], f.type) for f in MANIFEST_SCHEMA], schema=MANIFEST_SCHEMA)
    pq.write_table(table, folder / "manifest.parquet")
    return folder / "manifest.parquet"


def train(clips: Path, output: Path, *, on_step: object = None, **settings: object) -> None:
    config = TrainConfig(
        clips=str(clips), output=str(output), model=TINY, batch_size=4, learning_rate=0.01, checkpoint_every_s=1e-9,
        **settings,
    )  # fmt: skip
    rows = labelled_clips(config.clips, config.train_split, config.val_split, "test")
    begin_run(config, rows)
    run_training(TrainJob(config, rows, on_step), Ranks(0, 1, torch.device("cpu")))
    shutil.rmtree(output / "tensorboard", ignore_errors=True)


def make(folder: Path) -> None:
    torch.set_num_threads(1)
    manifest = make_videos(folder / "videos")
    clip = ("--size", "24x32", "--num-frames", "4", "--on-damage", "keep")
    run("preprocess", manifest, "--output", folder / "clips", *clip)
    windows = ("--sampling", "windows", "--window-s", "0.4", "--hop-s", "0.3")
    run("preprocess", manifest, "--output", folder / "windows", *clip, *windows)
    train(folder / "clips", folder / "model", epochs=2)
    with contextlib.suppress(EndOfProcessError):
        train(folder / "clips", folder / "half", on_step=end, **HALF)
    train(folder / "clips", folder / "whole", **HALF)
    for name in ("best", "last", "state", "settings.json"):
        path = folder / "whole" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    best = folder / "model" / "best"
    run("predict", manifest, "--checkpoint", best, "--output", folder / "predictions", "--features", "--all-scores")
    segments = ("--segments", "--features", "--all-scores")
    run("predict", manifest, "--checkpoint", best, "--output", folder / "segments", *segments)
    short = ("--window-s", "0.4", "--hop-s", "0.3")
    run("predict", manifest, "--checkpoint", best, "--output", folder / "short_segments", *segments, *short)
    run("evaluate", folder / "predictions", "--manifest", manifest, "--output", folder / "report")
    for name in ("report.html", "predictions.jsonl"):
        (folder / "report" / name).unlink(missing_ok=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
