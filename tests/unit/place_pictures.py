"""Pictures whose pixels say where they come from, and transforms of them, for unit tests."""

import numpy as np
import torch

from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms import ClipTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLACK = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])
PLAIN = ModelInput(height=8, width=8, any_size=True, num_frames=None, min_frames=1, mean=MEAN, std=STD)
AUGMENTS = {
    "nothing": AugmentSpec(),
    "random crop": AugmentSpec(crop="random"),
    "short side": AugmentSpec(crop="random", short_side=(18, 24)),
    "short side, centre": AugmentSpec(short_side=(16, 32)),
    "resized": AugmentSpec(crop="resized"),
    "flip": AugmentSpec(flip=0.5),
    "translate": AugmentSpec(translate=0.3),
    "colour": AugmentSpec(color_jitter=0.4),
    "RandAugment": AugmentSpec(rand_augment=3, magnitude=15),
    "erase": AugmentSpec(erase=0.5),
    "all": AugmentSpec(
        crop="random", short_side=(18, 24), flip=0.5, translate=0.1, color_jitter=0.4, rand_augment=2, erase=0.5
    ),
}


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def pictures_of_places(num_clips: int, num_frames: int, height: int, width: int) -> torch.Tensor:
    """Red is the column, green the row, blue the frame: (B, T, H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([columns, rows, np.full_like(rows, frame)], axis=-1) for frame in range(num_frames)]
    return torch.from_numpy(np.stack([np.stack(frames)] * num_clips).astype(np.uint8))


def as_bytes(clips: torch.Tensor) -> np.ndarray:
    """The pixels 0 to 255 that a normalised (B, T, 3, h, w) shows, as (B, T, h, w, 3), each within 0.01 of a byte."""
    pixels = clips.permute(0, 1, 3, 4, 2).numpy().astype(np.float64)
    pixels = (pixels * STD + MEAN) * 255
    assert np.abs(pixels - pixels.round()).max() < 0.01
    return pixels.round().astype(int)


def transform_to(height: int, width: int, views=None, augment=None, **changes) -> ClipTransform:
    model_input = ModelInput(**{**vars(PLAIN), "height": height, "width": width, **changes})
    return ClipTransform(model_input, (height, width), views or ViewSpec(), augment or AugmentSpec())


def seeds_of(num_clips: int) -> list[tuple[int, int, int]]:
    return [(7, 2, row) for row in range(num_clips)]
