"""How long a run would take: by the last run of the same output, or by some videos that are labelled here and now."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.checkpoints import Checkpoint
from vidpipe.clip_blocks import BlockSettings, decoded_blocks, frames_in
from vidpipe.clip_model import ClipModel
from vidpipe.run_file import RUN_FILE
from vidpipe.transfer import file_names, join, read_buffer

ENOUGH_VIDEOS = 20
SAMPLE_VIDEOS = 8
SAMPLE_S = 20.0


@dataclass(frozen=True)
class Estimate:
    seconds: float
    video_hours: float
    basis: str
    """What the estimate was made from."""


def estimate_run(
    todo: pa.Table, stored: pa.Table | None, output: str, checkpoint: Checkpoint, settings: BlockSettings
) -> Estimate:
    """For the manifest rows of `todo`, one at least; `stored` are their status rows, when their clips are there."""
    last = _last_run(output)
    if last is not None:
        num_videos, seconds, video_s = last
        share = len(todo) / num_videos
        return Estimate(seconds * share, video_s * share / 3600, f"the last run's {num_videos / seconds:.2f} videos/s")
    model = ClipModel(checkpoint)
    if stored is not None:
        return _of_stored(todo, stored, model, settings)
    return _of_sample(todo, model, settings)


def _last_run(output: str) -> tuple[int, float, float] | None:
    """Videos, seconds and seconds of video of the last run, if it labelled enough of them to go by."""
    if RUN_FILE not in file_names(output):
        return None
    run = json.loads(read_buffer(join(output, RUN_FILE)).to_pybytes())
    num_videos = run["counts"]["ok"] + run["counts"]["failed"] if run["command"] == "predict" else 0
    return (num_videos, run["seconds"], run["video_hours"] * 3600) if num_videos >= ENOUGH_VIDEOS else None


def _of_stored(todo: pa.Table, stored: pa.Table, model: ClipModel, settings: BlockSettings) -> Estimate:
    rows = stored.filter(pc.is_in(stored["video_id"], value_set=todo["video_id"].combine_chunks()))
    num_clips, video_s = (pc.sum(rows[name]).as_py() or 0 for name in ("num_clips", "duration_s"))
    batch = np.zeros((settings.clips_a_block, *settings.spec.shape), np.uint8)
    model(batch)
    start_s = time.monotonic()
    model(batch)
    clip_s = (time.monotonic() - start_s) / len(batch)
    basis = f"the model on this machine, {1 / clip_s:.1f} clips/s; reading the clips is not counted"
    return Estimate(num_clips * clip_s, video_s / 3600, basis)


def _of_sample(todo: pa.Table, model: ClipModel, settings: BlockSettings) -> Estimate:
    """Some videos of all sizes, until the time is up; what fails counts with the time that it took."""
    by_size = todo.take(pc.sort_indices(todo["size_bytes"]))
    chosen = np.unique(np.linspace(0, len(todo) - 1, SAMPLE_VIDEOS + 2).round().astype(int)[1:-1])
    order = np.random.default_rng(0).permutation(chosen)
    deadline_s = time.monotonic() + SAMPLE_S
    decode_s = model_s = video_s = 0.0
    num_videos = 0
    for place in order.tolist():
        if num_videos and time.monotonic() > deadline_s:
            break
        num_videos += 1
        for block in decoded_blocks(by_size.slice(place, 1), settings):
            closings = [json.loads(text) for text in block["closing"].drop_null().to_pylist()]
            decode_s += sum(receipt.get("decode_s") or 0.0 for receipt in closings)
            video_s += sum(receipt.get("duration_s") or 0.0 for receipt in closings)
            if len(closings) < len(block):
                model_s += model(frames_in(block, settings.spec)).model_s
    share = len(todo) / num_videos
    seconds = share * (decode_s / (os.cpu_count() or 1) + model_s)
    basis = f"{num_videos} of these videos labelled on this machine, whose {os.cpu_count()} CPUs it takes as its own"
    return Estimate(seconds, share * video_s / 3600, basis)
