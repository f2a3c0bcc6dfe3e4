"""What the model is fed, and what of it is trained: frames and all of it, or kept features and the head alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vidpipe.models import VideoModel
from vidpipe.training.batches import FrameReader, Reader
from vidpipe.training.evaluation import MakeViews
from vidpipe.training.features import HeadOf, features_of, weights_key
from vidpipe.training.job import TrainJob, precision_of
from vidpipe.training.ranks import Ranks
from vidpipe.transform_spec import AugmentSpec
from vidpipe.transforms import ClipTransform

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Readers of the splits, the part of the model that takes what they read, and how it is made input."""

    net: nn.Module
    readers: dict[str, Reader]
    views: MakeViews
    transform: ClipTransform | None
    """Of frames; features are trained on as they are."""

    def part_of(self, model: VideoModel) -> nn.Module:
        """The part of a model, such as the moving average, that takes what is read."""
        return HeadOf(model) if isinstance(self.net, HeadOf) else model

    def training_input(self, batch: torch.Tensor, seeds: Sequence[Sequence[int]]) -> torch.Tensor:
        """A batch as it was read to a batch of model input; `seeds` are those of each clip's augmentation."""
        return batch if self.transform is None else self.transform.augmented(batch, seeds)


def make_source(job: TrainJob, model: VideoModel, transform: ClipTransform, ranks: Ranks) -> Source:
    """Frames; of a frozen backbone whose input never changes its features, computed once and kept."""
    config, crops = job.config, job.config.views.crops
    num_clips = sum(len(rows) for rows in job.clips.splits.values())
    cache_bytes = {name: (config.cache_mb << 20) * len(rows) // num_clips for name, rows in job.clips.splits.items()}

    def crops_of(frames: torch.Tensor) -> list[torch.Tensor]:
        return [transform.view(frames, crop) for crop in range(crops)]

    if not config.model.freeze_backbone or config.augment != AugmentSpec() or crops > 1:
        if config.model.freeze_backbone and ranks.is_first:
            logger.info("the frozen backbone sees every clip in every epoch: its input is augmented, or has views")
        pin_memory = ranks.device.type == "cuda"
        readers: dict[str, Reader] = {
            name: FrameReader(rows, cache_bytes[name], pin_memory=pin_memory) for name, rows in job.clips.splits.items()
        }
        return Source(model, readers, crops_of, transform)
    precision = precision_of(config, ranks.device)
    key = features_key(job, model, precision)
    kept: dict[str, Reader] = {
        name: features_of(
            model,
            rows,
            crops_of,
            ranks,
            output=config.output,
            name=f"{name}-{key}",
            batch_size=config.micro_batch_size or min(config.batch_size, 32),
            precision=precision,
            cache_bytes=cache_bytes[name],
        )
        for name, rows in job.clips.splits.items()
    }
    return Source(HeadOf(model), kept, lambda features: [features], None)


def features_key(job: TrainJob, model: VideoModel, precision: torch.dtype) -> str:
    """Names the features of these clips: other weights, input or clips have another."""
    config = job.config
    return weights_key(model, job.clips.key, config.size, config.views, config.model.backbone, precision)
