"""The size that frames are scaled to where none is given: as the published weights saw them, or as the run began."""

from __future__ import annotations

from dataclasses import replace

from vidpipe.config import TrainConfig
from vidpipe.models import VideoModel
from vidpipe.training.checks import input_size, settings_before
from vidpipe.training.clip_rows import LabelledClips
from vidpipe.transforms.published import evaluation_text, published_short, training_text


def as_begun(config: TrainConfig) -> TrainConfig:
    """The settings of a run that goes on: the size that frames are scaled to is that of its beginning where none is
    given now, and weights that it could start from stay good enough."""
    before = settings_before(config)
    if before is None:
        return config
    views = config.views
    if views.resize_short is None:
        views = replace(views, resize_short=before.get("views.resize_short"))
    return replace(config, views=views, allow_partial_weights=True)


def with_published_geometry(config: TrainConfig, clips: LabelledClips, model: VideoModel) -> TrainConfig:
    """The settings of a new run, with the size that frames are scaled to as the model's published weights saw them,
    where none is given. One that goes on keeps its own, and what it began without stays away: the frames then just
    cover the crop."""
    if config.views.resize_short is not None or settings_before(config) is not None:
        return config
    short = published_short(model.input, clips.spec.shape[1:3], input_size(config, model))
    return replace(config, views=replace(config.views, resize_short=short))


def geometry_line(config: TrainConfig, clips: LabelledClips, model: VideoModel) -> str:
    """Says what training and evaluation take of the stored frames, and whether that is the rule of an older run."""
    frame, crop = clips.spec.shape[1:3], input_size(config, model)
    trained = training_text(frame, crop, config.views, config.augment)
    seen = evaluation_text(frame, crop, config.views)
    line = f"geometry   frames are stored at {frame[0]}x{frame[1]}; training {trained}; evaluation {seen}"
    short = published_short(model.input, frame, crop)
    if config.views.resize_short is None and short is not None:
        line += f" (as this run began; a new one would scale to a short side of {short})"
    return line
