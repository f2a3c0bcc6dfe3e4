"""What one training run is about: what the driver hands to every worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from vidpipe.config import TrainConfig
from vidpipe.training.clip_rows import ClipRows, LabelledClips

# Called after each step with its number (over all epochs), the loss over all ranks, and the model: for tests.
OnStep = Callable[[int, torch.Tensor, nn.Module], None]


@dataclass(frozen=True)
class TrainJob:
    """A run: its settings and its clips. The model and the frames are made and read by the workers."""

    config: TrainConfig
    clips: LabelledClips
    on_step: OnStep | None = None

    @property
    def train(self) -> ClipRows:
        return self.clips.splits[self.config.train_split]

    @property
    def num_steps_an_epoch(self) -> int:
        return len(self.train) // self.config.batch_size


def precision_of(config: TrainConfig, device: torch.device) -> torch.dtype:
    """The type in which the forward pass computes."""
    if config.precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
