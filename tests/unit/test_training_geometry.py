"""A run starts with the published geometry where it is new, its own where it goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
from labelled_clips import write_clips
from rank_group import job_of, tiny_config, train_alone

from vidpipe.config import TrainConfig
from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelSpec
from vidpipe.models import VideoModel, build_empty, build_model
from vidpipe.spec import ClipSpec
from vidpipe.training.checks import begin_run, check_fit, check_same_run
from vidpipe.training.clip_rows import LabelledClips, labelled_clips
from vidpipe.training.geometry import as_begun, geometry_line, with_published_geometry
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import run_training
from vidpipe.transform_spec import AugmentSpec, ViewSpec

MODEL = ModelSpec(model="frame_vote", backbone="mobilenet_v3_small", weights="none")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    spec = ClipSpec(num_frames=2, size="48x64")
    output = write_clips(tmp_path_factory.mktemp("checks") / "clips", {"train": 12, "val": 6}, spec=spec)
    return labelled_clips(str(output), "train", "val", "test")


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return build_model(MODEL, ("down", "left", "up"))


def config_of(output: Path, **changes: object) -> TrainConfig:
    settings = {"model": MODEL, "size": "32", "augment": AugmentSpec(crop="random"), "epochs": 1, "batch_size": 4}
    return TrainConfig(clips="clips", output=str(output), **{**settings, **changes})


def started(config: TrainConfig, clips: LabelledClips, model: VideoModel) -> TrainConfig:
    """The settings that `train` makes of a command before any work."""
    config = as_begun(config)
    if not config.restart:
        check_same_run(config, clips)
    config = with_published_geometry(config, clips, model)
    check_fit(config, clips, model)
    return config


def test_a_new_run_stores_the_published_geometry_and_says_it(clips, model, tmp_path):
    config = started(config_of(tmp_path), clips, model)
    assert config.views.resize_short == 37  # 256 of 224, in proportion to 32
    assert geometry_line(config, clips, model) == (
        "geometry   frames are stored at 48x64; training scales to 37x49 and takes 32x32 at one of 6 x 18 places; "
        "evaluation scales to 37x49 and takes the centre 32x32"
    )
    begin_run(config, clips)
    assert started(config_of(tmp_path), clips, model) == dataclasses.replace(config, allow_partial_weights=True)


def test_what_is_given_wins_over_the_published_geometry(clips, model, tmp_path):
    for short in (32, 48):
        given = config_of(tmp_path, views=ViewSpec(resize_short=short))
        assert started(given, clips, model).views.resize_short == short


def test_a_run_from_before_the_published_geometry_goes_on_as_it_began_and_says_so(clips, model, tmp_path):
    begin_run(config_of(tmp_path), clips)  # as the version before stored it: no short side
    config = started(config_of(tmp_path), clips, model)
    assert config.views == ViewSpec()
    assert geometry_line(config, clips, model) == (
        "geometry   frames are stored at 48x64; training scales to 32x42 and takes 32x32 at one of 1 x 11 places; "
        "evaluation scales to 32x42 and takes the centre 32x32 (as this run began; a new one would scale to a short "
        "side of 37)"
    )
    with pytest.raises(UsageError, match=r"views.resize_short None then, 37 now.*--restart"):
        started(config_of(tmp_path, views=ViewSpec(resize_short=37)), clips, model)
    anew = started(config_of(tmp_path, restart=True), clips, model)
    assert anew.views.resize_short == 37
    assert "as this run began" not in geometry_line(anew, clips, model)


def test_clips_of_the_models_own_size_keep_the_settings_that_they_always_had(model, tmp_path):
    spec = ClipSpec(num_frames=2, size="32")
    output = write_clips(tmp_path / "clips", {"train": 12, "val": 6}, spec=spec)
    small = labelled_clips(str(output), "train", "val", "test")
    config = started(config_of(tmp_path, augment=AugmentSpec()), small, model)
    assert config.views == ViewSpec()
    assert geometry_line(config, small, model) == (
        "geometry   frames are stored at 32x32; training takes all of it; evaluation takes all of it"
    )


def test_a_run_that_began_with_partial_weights_goes_on(tmp_path):
    clips = write_clips(tmp_path / "clips", {"train": 24, "val": 6})
    weights = dict(list(build_empty(MODEL, ("a",)).backbone.network.state_dict().items())[:100])
    safetensors.torch.save_file(weights, tmp_path / "half.safetensors")
    partial = dataclasses.replace(MODEL, weights=str(tmp_path / "half.safetensors"))
    config = tiny_config(clips, tmp_path / "out", model=partial, size="32", epochs=1, max_steps=1)
    with pytest.raises(UsageError, match="--allow-partial-weights"):
        train_alone(config)
    begin_run(config, labelled_clips(str(clips), "train", "val", "test"))
    assert as_begun(config).allow_partial_weights
    assert not as_begun(dataclasses.replace(config, restart=True)).allow_partial_weights
    assert config.settings == dataclasses.replace(config, allow_partial_weights=True).settings
    run_training(job_of(as_begun(config)), Ranks(0, 1, torch.device("cpu")))
