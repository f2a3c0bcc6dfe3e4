"""Random changes of colour and shape: a clip's uint8 pictures in, as many of that size out, all changed alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from vidpipe.transform_spec import MAX_MAGNITUDE

Change = Callable[[torch.Tensor, float], torch.Tensor]


def color_jitter(clip: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation of a clip (T, C, H, W) times factors from 1 - strength to 1 + strength, one
    after the other in random order, as torchvision's ColorJitter does; float32 from 0 to 255, not rounded in between.
    """
    pixels = clip.contiguous().float().div_(255)  # channels apart and float: a third of the time it takes on bytes
    for index in rng.permutation(len(JITTERS)):
        pixels = JITTERS[index](pixels, rng.uniform(1 - strength, 1 + strength))
    return pixels.mul_(255)


def rand_augment(clip: torch.Tensor, num_ops: int, magnitude: int, rng: np.random.Generator) -> torch.Tensor:
    """`num_ops` random operations on a clip (T, C, H, W): RandAugment (Cubuk et al. 2019), with torchvision's ranges.

    An operation may come twice; those that have a sign take either with equal chances.
    """
    for _ in range(num_ops):
        name = list(OPERATIONS)[rng.integers(len(OPERATIONS))]
        sign = -1.0 if name in SIGNED and rng.random() < 0.5 else 1.0
        clip = OPERATIONS[name](clip, sign * magnitude / MAX_MAGNITUDE)
    return clip


def _sheared(clip: torch.Tensor, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return functional.affine(clip, 0.0, [0, 0], 1.0, degrees, interpolation=InterpolationMode.BILINEAR)


def _shifted(clip: torch.Tensor, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    """Moved by up to 150 of 331 pixels: the paper's range at the size of its pictures."""
    shift = [int(150 / 331 * x * clip.shape[-1]), int(150 / 331 * y * clip.shape[-2])]
    return functional.affine(clip, 0.0, shift, 1.0, [0.0, 0.0], interpolation=InterpolationMode.NEAREST)


JITTERS: tuple[Change, ...] = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
)
# Magnitudes are from 0 to 1, for the operations of SIGNED from -1 to 1.
OPERATIONS: dict[str, Change] = {
    "identity": lambda clip, _: clip,
    "shear_x": lambda clip, magnitude: _sheared(clip, x=0.3 * magnitude),
    "shear_y": lambda clip, magnitude: _sheared(clip, y=0.3 * magnitude),
    "translate_x": lambda clip, magnitude: _shifted(clip, x=magnitude),
    "translate_y": lambda clip, magnitude: _shifted(clip, y=magnitude),
    "rotate": lambda clip, magnitude: functional.rotate(clip, 30 * magnitude, InterpolationMode.BILINEAR),
    "brightness": lambda clip, magnitude: functional.adjust_brightness(clip, 1 + 0.9 * magnitude),
    "saturation": lambda clip, magnitude: functional.adjust_saturation(clip, 1 + 0.9 * magnitude),
    "contrast": lambda clip, magnitude: functional.adjust_contrast(clip, 1 + 0.9 * magnitude),
    "sharpness": lambda clip, magnitude: functional.adjust_sharpness(clip, 1 + 0.9 * magnitude),
    "posterize": lambda clip, magnitude: functional.posterize(clip, 8 - round(4 * magnitude)),
    "solarize": lambda clip, magnitude: functional.solarize(clip, 255 * (1 - magnitude)),
    "autocontrast": lambda clip, _: functional.autocontrast(clip),
    "equalize": lambda clip, _: functional.equalize(clip),
}
SIGNED = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate"}
SIGNED |= {"brightness", "saturation", "contrast", "sharpness"}
