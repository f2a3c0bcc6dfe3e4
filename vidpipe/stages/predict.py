"""A video and a checkpoint to labels with scores."""

from __future__ import annotations

import torch

from vidpipe.checkpoints import load_checkpoint
from vidpipe.config import PredictConfig
from vidpipe.errors import DecodeError, FailureRateError
from vidpipe.guard import Guard
from vidpipe.label_video import VideoAnswer, label_video


def predict(config: PredictConfig) -> None:
    """Run the stage; raises ValueError before any work, and FailureRateError when the video cannot be delivered."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda needs a GPU, and this machine has none; drop it, or give --device cpu")
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    checkpoint = load_checkpoint(config.checkpoint, "cuda" if on_gpu else "cpu")
    guard = Guard(
        checkpoint.facts.clip,
        time_limit_s=config.video_timeout_s,
        memory_limit_bytes=config.video_memory_mb << 20,
    )
    with guard:
        try:
            answer = label_video(config.video, checkpoint, guard)
        except DecodeError as error:
            raise FailureRateError(f"{config.video} has no labels: {error.code}: {error}") from error
    print_answer(config, checkpoint.checkpoint_id, answer)


def print_answer(config: PredictConfig, checkpoint_id: str, answer: VideoAnswer) -> None:
    print(f"video      {config.video}")
    print(f"by         {config.checkpoint} ({checkpoint_id}), {answer.num_clips} clips x {answer.num_crops} crops")
    for label, score in list(zip(answer.labels, answer.scores, strict=True))[: config.top]:
        print(f"{score:10.4f} {label}")
