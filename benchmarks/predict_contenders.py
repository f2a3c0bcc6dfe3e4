"""One contender of predict.py, run once: `python benchmarks/predict_contenders.py NAME VIDEOS CHECKPOINT OUTPUT`.

All read the same videos and have the same checkpoint. The clock starts when the model is loaded and warm. The last line
of output is a JSON object with the figures.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from contenders import NUM_WARM_UP, in_two_processes
from measure import BEGIN

BATCH_CLIPS = 8
Figures = dict[str, Any]


# --- vidpipe ----------------------------------------------------------------------------------------------------------


def vidpipe_predict(videos: list[str], checkpoint: str, output: str) -> Figures:
    """The whole stage; its clock runs from the first clips that a model gets to the last answer.

    The videos of the first batch were decoded before, and are not counted.
    """
    return predicted(manifest_of(videos, output), checkpoint, output)


def predict_prepared_clips(videos: list[str], checkpoint: str, output: str) -> Figures:
    """The same of clips that preprocess has made: on a GPU this shows how well it is fed."""
    from vidpipe.config import PreprocessConfig
    from vidpipe.stages.preprocess import preprocess

    spec = spec_of(checkpoint)
    with redirect_stdout(sys.stderr):
        preprocess(PreprocessConfig(source=manifest_of(videos, output), output=f"{output}-clips", clip=spec))
    return predicted(f"{output}-clips", checkpoint, output)


def predicted(source: str, checkpoint: str, output: str) -> Figures:
    from vidpipe.config import PredictConfig
    from vidpipe.stages.predict import predict

    start_s = time.monotonic()
    print(BEGIN, flush=True)
    with redirect_stdout(sys.stderr):
        predict(PredictConfig(source=source, checkpoint=checkpoint, output=output, max_failure_rate=1.0))
    run = json.loads(Path(output, "run.json").read_text())
    seconds = run["working_s"]
    num_ok = run["counts"]["ok"]
    return {
        "start_s": time.monotonic() - start_s - seconds,
        "seconds": seconds,
        "num_delivered": num_ok,
        "num_timed": max(num_ok - (4 if on_gpu() else 1) * BATCH_CLIPS, 1),
        "model_busy_share": run["model_busy_share"],
    }


def manifest_of(videos: list[str], output: str) -> str:
    path = Path(f"{output}-videos.csv")
    path.write_text("\n".join(["path", *videos]))
    return str(path)


# --- its two stages alone ---------------------------------------------------------------------------------------------


def decode_alone(videos: list[str], checkpoint: str, output: str) -> Figures:
    """The decode of predict, a process a core, without Ray and without a model."""
    os.environ["VIDPIPE_BENCHMARK_CHECKPOINT"] = checkpoint
    return in_two_processes(decode_share, videos, output)


def decode_share(videos: list[str], output: str) -> int:
    import pyarrow as pa

    from vidpipe.clip_blocks import CLOSING_INDEX, BlockSettings, decoded_blocks

    spec = spec_of(os.environ["VIDPIPE_BENCHMARK_CHECKPOINT"])
    settings = BlockSettings(spec=spec, clips_a_block=BATCH_CLIPS, time_limit_s=600, memory_limit_bytes=2 << 30)
    rows = [{"video_id": path, "url": path, "version": "1", "size_bytes": os.path.getsize(path)} for path in videos]
    num_done = 0
    for block in decoded_blocks(pa.Table.from_pylist(rows), settings):
        num_done += int(np.sum(block["clip_index"].to_numpy() == CLOSING_INDEX))
    return num_done


def model_alone(videos: list[str], checkpoint: str, output: str) -> Figures:
    """The model of predict on clips in memory, on all cores or the GPU: as many clips as the videos have."""
    model, clips = warm_model(checkpoint, videos[0])
    num_clips = len(videos) * len(clips)
    batch = np.resize(clips, (BATCH_CLIPS * (4 if on_gpu() else 1), *clips.shape[1:]))
    model(batch)
    with timed() as figures:
        for first in range(0, num_clips, len(batch)):
            model(batch[: num_clips - first])
    return {**figures, "num_delivered": len(videos)}


# --- what people write instead ----------------------------------------------------------------------------------------


def plain_loop(videos: list[str], checkpoint: str, output: str) -> Figures:
    """Decode a video, show it to the model, next video: in one process, the model on all cores or the GPU."""
    model, _ = warm_model(checkpoint, videos[0])
    spec = spec_of(checkpoint)
    with timed() as figures:
        for path in videos:
            model(clips_of(path, spec))
    return {**figures, "num_delivered": len(videos)}


def transformers_pipeline(videos: list[str], checkpoint: str, output: str) -> Figures:
    """`pipeline("video-classification")`, which decodes with PyAV up to the last frame it wants and takes one clip."""
    import torch
    from transformers import pipeline

    answer = pipeline(
        "video-classification", model=checkpoint, device=0 if on_gpu() else -1,
        dtype=torch.bfloat16 if on_gpu() else torch.float32,
    )  # fmt: skip
    for path in videos[:NUM_WARM_UP]:
        answer(path)
    with timed() as figures:
        num_done = sum(len(answer(path)) > 0 for path in videos)
    return {**figures, "num_delivered": num_done}


# --- what they share --------------------------------------------------------------------------------------------------


def warm_model(checkpoint: str, video: str) -> tuple[Any, np.ndarray]:
    """The checkpoint's model as predict runs it, and the clips (N, T, H, W, C) of a video that it has seen."""
    from vidpipe.checkpoints import load_checkpoint
    from vidpipe.clip_model import ClipModel

    model = ClipModel(load_checkpoint(checkpoint, "cuda" if on_gpu() else "cpu"), precision="auto")
    clips = clips_of(video, spec_of(checkpoint))
    model(clips)
    return model, clips


def clips_of(path: str, spec: Any) -> np.ndarray:
    """The clips of a video, decoded in this process."""
    from vidpipe.child import assemble_clips
    from vidpipe.decode import open_video
    from vidpipe.sampling import plan_clips

    with open_video(path, spec) as video:
        plans = plan_clips(video.times_s, spec, path, video.costs)
        return np.stack([frames for _, frames in assemble_clips(video, plans, spec)])


def spec_of(checkpoint: str) -> Any:
    """The ClipSpec of a checkpoint."""
    from vidpipe.checkpoint_facts import facts_from_json

    return facts_from_json(Path(checkpoint, "checkpoint.json").read_bytes(), checkpoint)[0].clip


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def timed() -> Iterator[Figures]:
    """The seconds of what is done inside, and those since the process began."""
    figures: Figures = {"start_s": time.monotonic() - STARTED_S}
    print(BEGIN, flush=True)
    begin_s = time.monotonic()
    yield figures
    if on_gpu():
        import torch

        torch.cuda.synchronize()
    figures["seconds"] = time.monotonic() - begin_s


STARTED_S = time.monotonic()
DECODE, MODEL, PREDICT, PREPARED = "decode alone", "model alone", "vidpipe predict", "vidpipe predict, prepared clips"
CONTENDERS: dict[str, Callable[[list[str], str, str], Figures]] = {
    DECODE: decode_alone,
    MODEL: model_alone,
    PREDICT: vidpipe_predict,
    PREPARED: predict_prepared_clips,
    "plain loop": plain_loop,
    "transformers pipeline": transformers_pipeline,
}


def main(name: str, folder: str, checkpoint: str, output: str) -> None:
    videos = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    print(json.dumps(CONTENDERS[name](videos, checkpoint, output)))


if __name__ == "__main__":
    main(*sys.argv[1:])
