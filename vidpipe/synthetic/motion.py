"""What a generated video shows: a shape that moves, as frames. Knows nothing about files.

A video has a place (x, y), an angle and a size, and draws for each of the four a short sweep, whatever its label is.
The label says which one of the four sweeps runs, and which way; the other three stand still somewhere in theirs:

        sweep of y   |  . . F . .     left:  x runs from high to low; y, angle and size stand still (at F)
                     |                up:    y runs from high to low; x, angle and size stand still
        sweep of x  -+---------       grow:  size runs from low to high; x, y and angle stand still

Angles stay within a quarter turn of upright, so that a turn, too, is a way from one end to the other. That is an easier
question than which way a shape turns that may begin at any angle.

So a frame taken at a random time has the same distribution for all labels, and a video played backwards is one of the
opposite label. Only time tells. The first frame alone is not neutral: what moves right starts further left. Mirroring
swaps left and right, clockwise and counterclockwise: do not augment these videos with flips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Which of a video's four sweeps runs, and which way."""

    sweep: Literal["x", "y", "angle", "size"]
    direction: Literal[1, -1]


MOTIONS: dict[str, Motion] = {
    "left": Motion("x", -1),
    "right": Motion("x", 1),
    "up": Motion("y", -1),  # y and angles as in images: y downwards, angles clockwise
    "down": Motion("y", 1),
    "clockwise": Motion("angle", 1),
    "counterclockwise": Motion("angle", -1),
    "grow": Motion("size", 1),
    "shrink": Motion("size", -1),
}

# Signed distance to the outline, above 0 inside, for points (u, v) where the circle around the shape has radius 1.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: 1 - np.hypot(u, v),
    "square": lambda u, v: 0.7 - np.maximum(abs(u), abs(v)),
    "triangle": lambda u, v: 0.5 - np.maximum(v, 0.866 * abs(u) - 0.5 * v),
    "cross": lambda u, v: np.minimum(0.3 - np.minimum(abs(u), abs(v)), 0.95 - np.maximum(abs(u), abs(v))),
}


def _sweep(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """The ends of a sweep of random length around a random middle, within low..high."""
    length = rng.uniform(0.5, 0.9) * (high - low)
    start = rng.uniform(low, high - length)
    return start, start + length


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A soft dark texture, (H, W, 3) uint8: random colours on a 4x4 grid, interpolated, with a little noise."""
    rows, columns = (
        np.stack([np.interp(np.linspace(0, 3, size), np.arange(4), one) for one in np.eye(4)], axis=1)
        for size in (height, width)
    )
    coarse = rng.uniform(15, 105, size=(4, 4, 3))
    smooth = np.einsum("hi,wic->hwc", rows, np.einsum("wj,ijc->wic", columns, coarse))
    return (smooth + rng.normal(0, 3, size=(height, width, 1))).clip(0, 255).astype(np.uint8)


def _paint(frame: np.ndarray, shape: str, colour: np.ndarray, x: float, y: float, radius: float, angle: float) -> None:
    """Draw one shape into a frame, edges smoothed, one half of it dark, which shows how it is turned."""
    top, left = int(y - radius), int(x - radius)
    patch = frame[top : int(y + radius) + 2, left : int(x + radius) + 2]
    dy, dx = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
    cos, sin = math.cos(angle) / radius, math.sin(angle) / radius
    u, v = (dx - x) * cos + (dy - y) * sin, (dy - y) * cos - (dx - x) * sin
    inside = SHAPES[shape](u, v)
    for distance, paint in ((inside, colour), (np.minimum(inside, -0.1 - v), np.zeros(3))):
        alpha = (distance * radius + 0.5).clip(0, 1)[..., None]
        patch[:] = patch * (1 - alpha) + paint * alpha


def iter_frames(
    label: str, rng: np.random.Generator, *, num_frames: int, height: int, width: int
) -> Iterator[np.ndarray]:
    """The frames of one video, one by one, (H, W, 3) uint8.

    From the same generator state the videos of all labels show the same scene, and have one frame in common.
    """
    background = _background(rng, height, width)
    shape = str(rng.choice(list(SHAPES)))
    colour = rng.uniform(150, 255, size=3)
    middle_radius, spread = rng.uniform(0.14, 0.2) * min(height, width), rng.uniform(0.25, 0.4)
    margin = middle_radius * (1 + spread) + 1  # at its largest the shape still is in view
    sweeps = {
        "x": _sweep(rng, margin, width - margin),
        "y": _sweep(rng, margin, height - margin),
        "angle": _sweep(rng, -0.5 * math.pi, 0.5 * math.pi),
        "size": (middle_radius * (1 - spread), middle_radius * (1 + spread)),
    }
    moments = (np.arange(num_frames) + 0.5) / num_frames
    phases = {name: np.full(num_frames, rng.choice(moments)) for name in sweeps}
    phases[MOTIONS[label].sweep] = moments[:: MOTIONS[label].direction]
    paths = {name: low + (high - low) * phases[name] for name, (low, high) in sweeps.items()}
    for x, y, angle, radius in zip(paths["x"], paths["y"], paths["angle"], paths["size"], strict=True):
        frame = background.copy()
        _paint(frame, shape, colour, x, y, radius, angle)
        yield frame


def render(label: str, rng: np.random.Generator, *, num_frames: int, height: int, width: int) -> np.ndarray:
    """One video, (T, H, W, 3) uint8."""
    return np.stack(list(iter_frames(label, rng, num_frames=num_frames, height=height, width=width)))
