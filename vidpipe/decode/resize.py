"""One decoded picture to one frame of the wanted size: rotated, scaled once (area filter), cut or padded."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from vidpipe.decode.container import MAX_PIXELS
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec


def scaled_size(height: int, width: int, spec: ClipSpec) -> tuple[int, int]:
    """Height and width to scale a displayed picture to, before cutting (crop) or padding (letterbox)."""
    if spec.resize == "squash":
        return spec.height, spec.width
    factors = spec.height / height, spec.width / width
    factor = max(factors) if spec.resize == "crop" else min(factors)
    scaled = max(round(height * factor), 1), max(round(width * factor), 1)
    if spec.resize == "crop":  # rounding never leaves the picture a pixel short
        return max(scaled[0], spec.height), max(scaled[1], spec.width)
    return min(scaled[0], spec.height), min(scaled[1], spec.width)


def fit(image: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """Cut the centre of (h, w, C), or pad it with black, to (spec.height, spec.width, C)."""
    height, width = image.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return image
    if height >= spec.height and width >= spec.width:
        top, left = (height - spec.height) // 2, (width - spec.width) // 2
        return image[top : top + spec.height, left : left + spec.width]
    canvas = np.zeros((spec.height, spec.width, image.shape[2]), np.uint8)
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    canvas[top : top + height, left : left + width] = image
    return canvas


def interleaved(planes: Sequence[VideoPlane], height: int, width: int) -> np.ndarray:
    """Planes of gray, or of G, B and R, as pixels (height, width, C): `to_ndarray` takes four times as long."""
    channels = (1, 2, 0) if len(planes) == 3 else (0,)
    image = np.empty((height, width, len(channels)), np.uint8)
    for channel, plane in zip(channels, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        image[:, :, channel] = rows[:height, :width]
    return image


class Resizer:
    """Turns decoded pictures into frames; keeps the scaler between calls and notes the displayed size."""

    def __init__(self, spec: ClipSpec) -> None:
        self.spec = spec
        self.width = self.height = 0
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        """The frame (H, W, C) uint8 of a picture; the rotation in its metadata is applied."""
        if picture.width * picture.height > MAX_PIXELS:
            size = f"{picture.width}x{picture.height}"
            raise DecodeError("too_large", f"a picture of {size}, the limit is {MAX_PIXELS} pixels")
        num_quarter_turns = round(picture.rotation / 90) % 4  # counter-clockwise, as np.rot90 turns
        sideways = num_quarter_turns % 2 == 1
        self.height, self.width = picture.height, picture.width
        if sideways:
            self.height, self.width = self.width, self.height
        scaled = scaled_size(self.height, self.width, self.spec)
        height, width = reversed(scaled) if sideways else scaled
        shrinks = height <= picture.height and width <= picture.width
        # To planes of R, G and B: faster than to RGB pixels, and exact to a level, where those come out 1.5 too dark.
        planes = self._reformatter.reformat(
            picture,
            width,
            height,
            "gbrp" if self.spec.color == "rgb" else "gray",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        ).planes
        image = interleaved(planes, height, width)
        return fit(np.rot90(image, num_quarter_turns) if num_quarter_turns else image, self.spec)
