"""The augmentation of a batch, each clip by numbers from its own seed: alone and in any batch it looks the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec
from vidpipe.transforms.color import color_jitter, rand_augment
from vidpipe.transforms.geometry import Box, Size, box_of_area, crop_box, random_box, scaled_size, source_box
from vidpipe.transforms.pictures import cut, resized, standardised

ERASED_AREA = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)


def augment_clips(
    frames: torch.Tensor, size: Size, spec: AugmentSpec, seeds: Sequence[Sequence[int]], model_input: ModelInput
) -> torch.Tensor:
    """uint8 (B, T, H, W, C), at least of that size, as normalised float32 (B, T, 3, h, w)."""
    shape = (*frames.shape[:2], *size, frames.shape[-1])
    # Black, where a shift leaves something open. Pieces are cut and flipped as bytes, and become float on their way in.
    pixels = torch.zeros(shape, device=frames.device) if spec.translate else torch.empty(shape, device=frames.device)
    erased: list[Box | None] = []
    for clip, frames_of_clip, seed in zip(pixels, frames, seeds, strict=True):
        rng = np.random.default_rng(list(seed))
        piece = _framed(frames_of_clip, size, spec, rng)
        if rng.random() < spec.flip:
            piece = piece.flip(-2)
        piece = _recolored(piece, spec, rng)
        _place(clip, piece, *(round(rng.uniform(-spec.translate, spec.translate) * side) for side in size))
        erased.append(_erased_box(size, rng) if rng.random() < spec.erase else None)
    clips = standardised(pixels, model_input.mean, model_input.std)
    for clip, box in zip(clips, erased, strict=True):
        if box is not None:
            clip[..., box.top : box.top + box.height, box.left : box.left + box.width] = 0.0
    return clips


def _framed(frames: torch.Tensor, size: Size, spec: AugmentSpec, rng: np.random.Generator) -> torch.Tensor:
    """The part of a clip (T, H, W, C) that is shown, at the size that the model takes.

    Only that part is scaled, so that it costs as much as the model sees.
    """
    frame = frames.shape[-3], frames.shape[-2]
    if spec.crop == "resized":
        assert spec.area is not None
        return resized(cut(frames, box_of_area(frame, spec.area, rng)), size)
    scaled = frame
    if spec.short_side is not None:
        scaled = scaled_size(frame, size, int(rng.integers(spec.short_side[0], spec.short_side[1] + 1)))
    box = random_box(scaled, size, rng) if spec.crop == "random" else crop_box(scaled, size, 1, 0)
    return resized(cut(frames, source_box(box, scaled, frame)), size)


def _recolored(frames: torch.Tensor, spec: AugmentSpec, rng: np.random.Generator) -> torch.Tensor:
    if not spec.rand_augment and not spec.color_jitter:
        return frames
    clip = frames.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    if spec.rand_augment:
        assert spec.magnitude is not None
        clip = rand_augment(clip, spec.rand_augment, spec.magnitude, rng)
    if spec.color_jitter:
        clip = color_jitter(clip, spec.color_jitter, rng)
    return clip.permute(0, 2, 3, 1)


def _place(clip: torch.Tensor, piece: torch.Tensor, down: int, right: int) -> None:
    """Writes a piece (T, h, w, C) into a clip of the same shape, moved by whole pixels; what leaves it is lost."""
    height, width = clip.shape[-3:-1]
    into = Box(max(0, down), max(0, right), height - abs(down), width - abs(right))
    out_of = Box(max(0, -down), max(0, -right), into.height, into.width)
    cut(clip, into).copy_(cut(piece, out_of))


def _erased_box(size: Size, rng: np.random.Generator) -> Box:
    """A box of random area and shape, as torchvision's RandomErasing draws it, but cut to the picture."""
    num_px = size[0] * size[1] * rng.uniform(*ERASED_AREA)
    ratio = math.exp(rng.uniform(math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])))
    height = min(size[0], max(1, round(math.sqrt(num_px / ratio))))
    width = min(size[1], max(1, round(math.sqrt(num_px * ratio))))
    return random_box(size, (height, width), rng)
