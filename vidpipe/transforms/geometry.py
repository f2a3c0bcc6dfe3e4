"""Where a picture is scaled to and which part of it is cut: whole numbers of pixels, without touching a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Size = tuple[int, int]
"""Height and width in pixels."""

ASPECT_RATIOS = (3 / 4, 4 / 3)
MAX_TRIES = 10


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def scaled_size(frame: Size, crop: Size, short_side: int | None) -> Size:
    """Size of a frame with that short side, or, with None, of the smallest one of its shape that covers the crop.

    The long side is rounded down, as torchvision's Resize does.
    """
    height, width = frame
    if short_side is None:
        if crop[0] * width >= crop[1] * height:
            return crop[0], max(crop[1], crop[0] * width // height)
        return max(crop[0], crop[1] * height // width), crop[1]
    if height <= width:
        return short_side, short_side * width // height
    return short_side * height // width, short_side


def crop_box(frame: Size, crop: Size, crops: int, crop_index: int) -> Box:
    """One of 1, 3 or 5 crops; see `ViewSpec.crops`. Of 3, the first is the left or top one, the second the centre."""
    spare_height, spare_width = frame[0] - crop[0], frame[1] - crop[1]
    centre = round(spare_height / 2), round(spare_width / 2)
    if crops == 1:
        places = [centre]
    elif crops == 3 and spare_width >= spare_height:
        places = [(centre[0], 0), centre, (centre[0], spare_width)]
    elif crops == 3:
        places = [(0, centre[1]), centre, (spare_height, centre[1])]
    else:
        places = [(0, 0), (0, spare_width), (spare_height, 0), (spare_height, spare_width), centre]
    return Box(*places[crop_index], *crop)


def random_box(frame: Size, crop: Size, rng: np.random.Generator) -> Box:
    """The crop at a place of the frame that is drawn with equal chances."""
    top = int(rng.integers(frame[0] - crop[0] + 1))
    left = int(rng.integers(frame[1] - crop[1] + 1))
    return Box(top, left, *crop)


def box_of_area(frame: Size, area: tuple[float, float], rng: np.random.Generator) -> Box:
    """A random part of the frame: its share of the area from `area`, its shape from 3:4 to 4:3, as torchvision's
    RandomResizedCrop draws them; after ten that do not fit, the largest centred one of a shape that does."""
    height, width = frame
    for _ in range(MAX_TRIES):
        num_px = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])))
        box_size = round(math.sqrt(num_px / ratio)), round(math.sqrt(num_px * ratio))
        if 0 < box_size[0] <= height and 0 < box_size[1] <= width:
            return random_box(frame, box_size, rng)
    ratio = min(max(width / height, ASPECT_RATIOS[0]), ASPECT_RATIOS[1])
    box_size = min(height, round(width / ratio)), min(width, round(height * ratio))
    return crop_box(frame, box_size, 1, 0)


def source_box(box: Box, scaled: Size, frame: Size) -> Box:
    """The part of the frame that a box of the scaled frame shows, to the nearest pixel."""
    top, bottom = (round(y * frame[0] / scaled[0]) for y in (box.top, box.top + box.height))
    left, right = (round(x * frame[1] / scaled[1]) for x in (box.left, box.left + box.width))
    return Box(top, left, max(1, bottom - top), max(1, right - left))


def equally_spaced(total_frames: int, num_frames: int) -> list[int]:
    """Indices of the frames in the middle of `num_frames` equal spans, as `sampling uniform` takes them of a video."""
    return [(2 * index + 1) * total_frames // (2 * num_frames) for index in range(num_frames)]
