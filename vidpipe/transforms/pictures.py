"""What is done to pixels: cut, scale, normalise. Frames are uint8 (..., H, W, C), the layout of stored clips."""

from __future__ import annotations

import functools

import torch
from torchvision.transforms.v2 import functional

from vidpipe.transforms.geometry import Box, Size

Color = tuple[float, float, float]


def cut(frames: torch.Tensor, box: Box) -> torch.Tensor:
    """That part of the frames, without copying it."""
    return frames[..., box.top : box.top + box.height, box.left : box.left + box.width, :]


def resized(frames: torch.Tensor, size: Size) -> torch.Tensor:
    """The frames at that size in pixels: bilinear, antialiased, rounded to uint8."""
    if tuple(frames.shape[-3:-1]) == size:
        return frames
    pictures = frames.flatten(0, -4).permute(0, 3, 1, 2)  # (..., H, W, C) -> (N, C, H, W)
    pictures = functional.resize(pictures, list(size), antialias=True)
    return pictures.permute(0, 2, 3, 1).unflatten(0, frames.shape[:-3])


def normalised(frames: torch.Tensor, mean: Color, std: Color) -> torch.Tensor:
    """uint8 (B, T, h, w, C) as float32 (B, T, 3, h, w): (x / 255 - mean) / std."""
    pixels = torch.empty(frames.shape, device=frames.device)
    return standardised(pixels.copy_(frames), mean, std)


def standardised(pixels: torch.Tensor, mean: Color, std: Color) -> torch.Tensor:
    """float32 from 0 to 255, contiguous (B, T, h, w, C), as (B, T, 3, h, w): (x / 255 - mean) / std.

    In place where C is 3: one pass, over rows long enough for the vector unit, and the channels stay last in memory.
    """
    width, num_channels = pixels.shape[-2:]
    if num_channels == 1:
        scale, shift = (row.view(3, 1, 1) for row in _scale_and_shift(mean, std, 1, pixels.device))
        return torch.addcmul(shift, pixels.permute(0, 1, 4, 2, 3), scale)  # (B, T, 1, h, w) -> (B, T, 3, h, w)
    scale, shift = _scale_and_shift(mean, std, width, pixels.device)
    rows = pixels.view(-1, width * num_channels)
    torch.addcmul(shift, rows, scale, out=rows)
    return pixels.permute(0, 1, 4, 2, 3)  # (B, T, h, w, C) -> (B, T, C, h, w)


@functools.cache
def _scale_and_shift(mean: Color, std: Color, num_px: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What x is multiplied with and what is added, each for the channels of `num_px` pixels in a row."""
    means, stds = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    constants = (1 / (255 * stds), -means / stds)
    scale, shift = (values.repeat(num_px).to(device, torch.float32) for values in constants)
    return scale, shift
