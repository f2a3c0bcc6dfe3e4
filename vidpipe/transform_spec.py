"""How a clip becomes model input: the views of evaluation, the augmentation of training. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from vidpipe.errors import UsageError

Join = Literal["mean_softmax", "mean_logits", "vote"]

MAX_SIDE_PX = 8192
MAX_MAGNITUDE = 30
# The share of the frame that `crop resized` cuts, as in torchvision's RandomResizedCrop and the recipe of MViT.
DEFAULT_AREA = (0.08, 1.0)


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """How evaluation and prediction look at a video: which crops of a clip, and how their answers become one."""

    resize_short: int | None = None
    """Scale the frames to this short side (pixels) before the crop (default: as the model's published weights saw them,
    r3d_18 128 for a crop of 112, but never larger than they are; else until they just cover the crop)."""
    crops: Literal[1, 3, 5] = 1
    """1: the centre. 3: both ends and the centre of the longer side. 5: the four corners and the centre."""
    join: Join = "mean_softmax"
    """How the views of a video become one answer. vote: the class that most views name; the mean softmax breaks ties,
    then the class that comes first."""

    def __post_init__(self) -> None:
        if self.resize_short is not None:
            _check_side("resize_short", self.resize_short)
        _check_choice("crops", self.crops, (1, 3, 5))
        _check_choice("join", self.join, ("mean_softmax", "mean_logits", "vote"))


@dataclass(frozen=True, kw_only=True)
class AugmentSpec:
    """What training does to a clip, drawn anew each epoch and the same for all its frames; by default nothing.

    Not even a flip: where the label is a motion to the left or to the right, a flip makes it wrong.
    """

    crop: Literal["center", "random", "resized"] = "center"
    """center: as evaluation does. random: anywhere. resized: a part of random area and shape, scaled to the crop."""
    short_side: tuple[int, int] | None = None
    """Scale the frames to a short side drawn from this range (pixels) before the crop, such as 256 320."""
    area: tuple[float, float] | None = None
    """resized: the least and the greatest share of the frame (default 0.08 1.0)."""
    flip: float = 0.0
    """Probability of a horizontal flip; not for labels that tell left from right."""
    translate: float = 0.0
    """Shift the picture by up to this share of its width and height, in whole pixels; what comes in is black."""
    color_jitter: float = 0.0
    """Factors of brightness, contrast and saturation are drawn from 1 - color_jitter to 1 + color_jitter."""
    rand_augment: int = 0
    """Number of RandAugment operations (Cubuk et al. 2019, torchvision's list) drawn for a clip."""
    magnitude: int | None = None
    """rand_augment: strength of the operations, 0 to 30 (default 9)."""
    erase: float = 0.0
    """Probability that a box of 2 to 33 % of the picture is replaced by the mean colour (Zhong et al. 2017)."""
    mixup: float = 0.0
    """Above 0: clips are blended in pairs, and so are their labels, by a share drawn from Beta(mixup, mixup)."""
    cutmix: float = 0.0
    """Above 0: clips swap a box in pairs, its share drawn from Beta(cutmix, cutmix). With mixup: one or the other."""

    def __post_init__(self) -> None:
        _check_choice("crop", self.crop, ("center", "random", "resized"))
        if self.short_side is not None:
            object.__setattr__(self, "short_side", _checked_pair("short_side", self.short_side))
            if self.crop == "resized":
                raise UsageError(
                    f"short_side is for crop center or random, not resized, got {self.short_side}; drop it "
                    "(area sets the scale), or choose crop random"
                )
            for side in self.short_side:
                _check_side("short_side", side)
        self._check_area()
        for name in ("flip", "translate", "color_jitter", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be from 0 (off) to 1, got {getattr(self, name)}")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be 0 (off) or above, such as 0.8, got {getattr(self, name)}")
        if not isinstance(self.rand_augment, int) or not 0 <= self.rand_augment <= 14:
            raise UsageError(f"rand_augment must be a number of operations from 0 (off) to 14, got {self.rand_augment}")
        self._check_magnitude()

    def _check_area(self) -> None:
        if self.crop != "resized":
            if self.area is not None:
                raise UsageError(
                    f"area is for crop resized, not {self.crop}, got {self.area}; drop it, or choose crop resized"
                )
            return
        least, greatest = _checked_pair("area", DEFAULT_AREA if self.area is None else self.area)
        if not 0 < least <= greatest <= 1:
            raise UsageError(f"area must be two shares above 0 and up to 1, such as 0.08 1.0, got {self.area}")
        object.__setattr__(self, "area", (float(least), float(greatest)))

    def _check_magnitude(self) -> None:
        if not self.rand_augment:
            if self.magnitude is not None:
                raise UsageError(
                    f"magnitude is for rand_augment, which is off, got {self.magnitude}; drop it, or set rand_augment"
                )
            return
        if self.magnitude is None:
            object.__setattr__(self, "magnitude", 9)
        elif not isinstance(self.magnitude, int) or not 0 <= self.magnitude <= MAX_MAGNITUDE:
            raise UsageError(f"magnitude must be a whole number from 0 to {MAX_MAGNITUDE}, got {self.magnitude}")

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed in pairs: the loss then takes labels that are shares, and the batch wants pairs."""
        return self.mixup > 0 or self.cutmix > 0


def _check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _check_side(name: str, value: object) -> None:
    if not isinstance(value, int) or not 1 <= value <= MAX_SIDE_PX:
        raise UsageError(f"{name} must be whole pixels from 1 to {MAX_SIDE_PX}, got {value!r}")


def _checked_pair(name: str, value: Iterable[Any]) -> tuple[Any, Any]:
    """The value as a tuple of two (JSON makes it a list), the smaller first."""
    pair = tuple(value)
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise UsageError(f"{name} must be two numbers, the smaller first, got {pair}")
    return pair
