"""Mixup and cutmix: two clips and their labels become two blends, clip 2k with clip 2k + 1 of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vidpipe.transform_spec import AugmentSpec

# Behind a clip's seed, so that mixing draws other numbers than the clip's own augmentation does.
MIXING = 1


def mix(
    clips: torch.Tensor, targets: torch.Tensor, seeds: Sequence[Sequence[int]], spec: AugmentSpec
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (B, T, C, H, W), which are changed in place, and targets (B, K), shares that add up to 1, mixed in pairs.

    Of a pair, each clip keeps a share of itself and takes the rest from the other, and so does its target: blended
    (mixup, Zhang et al. 2018) or in a box that all frames share (cutmix, Yun et al. 2019). `seeds`, one a clip as for
    `ClipTransform.augmented`, make a pair's mix the same in any batch that holds both as a pair. The last clip of an
    odd batch stays as it is.
    """
    targets = targets.clone()
    for index in range(0, len(clips) - 1, 2):
        rng = np.random.default_rng([*seeds[index], MIXING])
        by_box = spec.cutmix > 0 and (spec.mixup == 0 or rng.random() < 0.5)
        one, other = clips[index], clips[index + 1]
        if by_box:
            kept = _swap_box(one, other, rng.beta(spec.cutmix, spec.cutmix), rng)
        else:
            kept = float(rng.beta(spec.mixup, spec.mixup))
            change = (other - one).mul_(1 - kept)
            one.add_(change)
            other.sub_(change)
        change = (targets[index + 1] - targets[index]) * (1 - kept)
        targets[index] += change
        targets[index + 1] -= change
    return clips, targets


def _swap_box(one: torch.Tensor, other: torch.Tensor, kept: float, rng: np.random.Generator) -> float:
    """Swaps a box around a random point, cut at the edges; returns the share of the picture that stays."""
    height, width = one.shape[-2:]
    box_height, box_width = round(height * (1 - kept) ** 0.5), round(width * (1 - kept) ** 0.5)
    top, left = int(rng.integers(height)) - box_height // 2, int(rng.integers(width)) - box_width // 2
    rows = slice(max(0, top), min(height, top + box_height))
    columns = slice(max(0, left), min(width, left + box_width))
    held = one[..., rows, columns].clone()
    one[..., rows, columns] = other[..., rows, columns]
    other[..., rows, columns] = held
    return 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
