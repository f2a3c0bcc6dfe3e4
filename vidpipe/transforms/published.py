"""The size that frames are scaled to before the crop, as a model's published weights saw them; and that in words."""

from __future__ import annotations

from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms.geometry import Size, scaled_size


def published_short(model_input: ModelInput, frame: Size, crop: Size) -> int | None:
    """`resize_short` that leaves as much of a frame around the crop as the published evaluation of the weights did.

    Frames are never enlarged for it: smaller ones stay as they are. None where frames that just cover the crop come to
    the same, and where frames are too small for the crop.

                           published: r3d_18    here: 128x171        240x320          112x112
        frames are scaled to     128x171        (as they are)        128x170          (as they are)
        and cut to               112x112        112x112              112x112          112x112
    """
    if model_input.resize_short is None or frame[0] < crop[0] or frame[1] < crop[1]:
        return None
    covering = scaled_size(frame, crop, None)
    ratio = model_input.resize_short / min(model_input.height, model_input.width)
    short = min(round(min(covering) * ratio), *frame)
    scaled = scaled_size(frame, crop, short)
    is_larger = scaled != covering and scaled[0] >= crop[0] and scaled[1] >= crop[1]
    return short if is_larger else None


def training_text(frame: Size, crop: Size, views: ViewSpec, augment: AugmentSpec) -> str:
    """Says what training takes of stored frames, as `scales to 128x170 and takes 112x112 at one of 17 x 59 places`."""
    scaled = scaled_size(frame, crop, views.resize_short)
    if augment.crop == "resized":
        assert augment.area is not None
        least, most = augment.area
        return f"takes {100 * least:g} to {100 * most:g} % of the frame and scales that to {_text(crop)}"
    if augment.short_side is not None:
        low, high = augment.short_side
        place = "centre" if augment.crop == "center" else "random"
        return f"scales to a short side of {low} to {high} and takes a {place} crop of {_text(crop)}"
    if augment.crop == "center":
        return evaluation_text(frame, crop, ViewSpec(resize_short=views.resize_short))
    num_places = f"{scaled[0] - crop[0] + 1} x {scaled[1] - crop[1] + 1}"
    return f"{_scaling(frame, scaled)}takes {_text(crop)} at one of {num_places} places"


def evaluation_text(frame: Size, crop: Size, views: ViewSpec) -> str:
    """Says what evaluation takes of stored frames, as `takes the centre 112x112`."""
    scaled = scaled_size(frame, crop, views.resize_short)
    if scaled == crop:
        return f"{_scaling(frame, scaled)}takes all of it"
    taken = f"the centre {_text(crop)}" if views.crops == 1 else f"{views.crops} crops of {_text(crop)}"
    return f"{_scaling(frame, scaled)}takes {taken}"


def _scaling(frame: Size, scaled: Size) -> str:
    return "" if scaled == frame else f"scales to {_text(scaled)} and "


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
