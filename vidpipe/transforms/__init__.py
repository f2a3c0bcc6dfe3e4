"""Stored frames become model input, on the batch and on its device: crops, augmentation, mean and standard deviation.

transform = ClipTransform(model.input, (112, 112), ViewSpec(crops=3), AugmentSpec(flip=0.5))
transform.check(clip.shape)                               # before any work: do such clips fit?
clips = transform.augmented(frames, seeds)                # training
clips = transform.view(frames, crop_index)                # evaluation: the crops 0, 1 and 2
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms.augment import augment_clips
from vidpipe.transforms.geometry import Size, crop_box, equally_spaced, scaled_size
from vidpipe.transforms.mixing import mix
from vidpipe.transforms.pictures import cut, normalised, resized

__all__ = ["ClipTransform", "mix"]


class ClipTransform:
    """From uint8 frames (B, T, H, W, C) as clips hold them, C 3 or 1, to (B, T, 3, h, w) float32 on the same device.

    What comes out is stored as (B, T, h, w, 3), the frames' own order: as a tensor for convolutions, channels last.
    """

    def __init__(self, model_input: ModelInput, size: Size, views: ViewSpec, augment: AugmentSpec) -> None:
        """Raises UsageError for a size, height and width in pixels, that the model does not take."""
        wanted = model_input.height, model_input.width
        if not model_input.any_size and tuple(size) != wanted:
            raise UsageError(
                f"size {_text(size)} does not fit the model, which takes {_text(wanted)} only; leave the size out"
            )
        self.input, self.size, self.views, self.augment = model_input, (size[0], size[1]), views, augment

    def check(self, shape: Sequence[int]) -> None:
        """Raises UsageError when clips of that shape, (T, H, W, C), do not give the model what it wants, or when a
        setting asks for what they cannot give."""
        num_frames, frame = shape[0], (shape[1], shape[2])
        wanted = max(self.input.num_frames or 0, self.input.min_frames)
        if num_frames < wanted:
            raise UsageError(
                f"clips have {num_frames} frames, the model takes {wanted}; preprocess again with --num-frames {wanted}"
            )
        if self.views.resize_short is None and (frame[0] < self.size[0] or frame[1] < self.size[1]):
            raise UsageError(
                f"frames of {_text(frame)} are too small for the model's {_text(self.size)}; preprocess again with "
                f"--size {_text(self.size)}, or give --views.resize-short {max(self.size)} to enlarge them"
            )
        scaled = self._covering("resize_short", frame, self.views.resize_short)
        crops = self.views.crops
        if len({crop_box(scaled, self.size, crops, index) for index in range(crops)}) < crops:
            raise UsageError(
                f"crops {crops} of {_text(self.size)} are not all different in frames that come to {_text(scaled)}; "
                f"give fewer --views.crops, or --views.resize-short above {max(self.size)}"
            )
        if self.augment.short_side is not None:
            for side in self.augment.short_side:
                self._covering("short_side", frame, side)
        elif self.augment.crop == "random" and scaled == self.size:
            raise UsageError(
                f"crop random has nothing to choose: the frames come to {_text(scaled)}, the crop's own size; "
                "preprocess again with a larger --size, or give --crop resized, or --views.resize-short or "
                f"--short-side above {max(self.size)}"
            )

    def view(self, frames: torch.Tensor, crop_index: int = 0) -> torch.Tensor:
        """One crop of each clip as evaluation sees it, normalised; `crop_index` from 0 to `views.crops` - 1."""
        pictures = self._scaled(self._chosen(frames))
        box = crop_box((pictures.shape[2], pictures.shape[3]), self.size, self.views.crops, crop_index)
        return normalised(cut(pictures, box), self.input.mean, self.input.std)

    def augmented(self, frames: torch.Tensor, seeds: Sequence[Sequence[int]]) -> torch.Tensor:
        """The clips as training sees them, each changed by numbers drawn from its own seed: whole numbers from 0, such
        as (seed, epoch, row). With an `AugmentSpec` that asks for nothing, the centre crop of `view`."""
        if len(seeds) != len(frames):
            raise UsageError(f"{len(frames)} clips need as many seeds, got {len(seeds)}")
        pictures = self._chosen(frames)
        if self.augment.short_side is None and self.augment.crop != "resized":
            pictures = self._scaled(pictures)
        return augment_clips(pictures, self.size, self.augment, seeds, self.input)

    def _chosen(self, frames: torch.Tensor) -> torch.Tensor:
        """Checked, and as many frames as the model takes."""
        self.check(frames.shape[1:])
        wanted = self.input.num_frames
        return frames if wanted in (None, frames.shape[1]) else frames[:, equally_spaced(frames.shape[1], wanted)]

    def _scaled(self, frames: torch.Tensor) -> torch.Tensor:
        frame = frames.shape[2], frames.shape[3]
        return resized(frames, scaled_size(frame, self.size, self.views.resize_short))

    def _covering(self, name: str, frame: Size, short_side: int | None) -> Size:
        """Size that frames are scaled to, checked to cover the crop."""
        scaled = scaled_size(frame, self.size, short_side)
        if scaled[0] < self.size[0] or scaled[1] < self.size[1]:
            raise UsageError(
                f"{name} {short_side} scales frames of {_text(frame)} to {_text(scaled)}, less than the model's "
                f"{_text(self.size)}; set it to {max(self.size)} or more"
            )
        return scaled


def _text(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
