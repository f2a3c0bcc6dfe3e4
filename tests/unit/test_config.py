"""Flags become settings: what is not given takes the default that belongs to what is given."""

import pytest
import tyro

from vidpipe.cli import with_flags
from vidpipe.config import PredictConfig, PreprocessConfig, TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.spec import SAMPLING_FIELDS, ClipSpec


def preprocess_flags(*flags: str) -> PreprocessConfig:
    return tyro.cli(PreprocessConfig, args=["videos", "--output", "out", *flags])


def train_flags(*flags: str) -> TrainConfig:
    return tyro.cli(TrainConfig, args=["clips", "--output", "out", *flags])


@pytest.mark.parametrize("sampling", SAMPLING_FIELDS)
def test_a_sampling_mode_starts_from_its_own_defaults(sampling):
    assert preprocess_flags("--sampling", sampling).clip == ClipSpec(sampling=sampling)


@pytest.mark.parametrize("model", ["frame_vote", "cnn_rnn", "conv3d", "transformer"])
def test_a_model_starts_from_its_own_defaults(model):
    assert train_flags("--model", model).model == ModelSpec(model=model)


def test_settings_built_in_python_equal_those_of_flags():
    assert preprocess_flags() == PreprocessConfig(source="videos", output="out")
    assert train_flags() == TrainConfig(clips="clips", output="out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"warmup": 1}, "warmup must be from 0 to below 1, got 1"),
        ({"num_workers": "4-2"}, "num_workers must be auto, a number, or a range such as 2-8, got '4-2'"),
        ({"num_workers": "many"}, "num_workers must be auto"),
        ({"num_workers": "2-8", "batch_size": 4}, "8 workers need 8 or more"),
        ({"size": "12by3"}, "size must be pixels such as 112"),
        ({"plateau_best": True}, "plateau_best is for schedule plateau, not cosine"),
        ({"val_split": "train"}, "train_split and val_split are both train"),
        ({"plateau_factor": 1.0, "schedule": "plateau"}, "plateau_factor must be between 0 and 1"),
        ({"sync_batch_norm": True, "device": "cpu"}, "sync_batch_norm works on GPUs only"),
    ],
)
def test_a_wrong_setting_is_an_error_with_the_value_and_the_rule(flags, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(clips="clips", output="out", **flags)


@pytest.mark.parametrize(
    ("config_class", "message", "shown"),
    [
        (PredictConfig, "num_actors 6 leaves no CPU; give 5", "--num-actors 6 leaves no CPU; give 5"),
        (PredictConfig, "top must be above 0, got 0", "--top must be above 0, got 0"),
        (PredictConfig, "include_labels and exclude_labels exclude", "--include-labels and --exclude-labels exclude"),
        (PredictConfig, "source of num_workers", "source of --num-workers"),
        (PredictConfig, "/data/num_workers/x has no 'num_workers'", "/data/num_workers/x has no 'num_workers'"),
        (PredictConfig, "--num-workers of the top", "--num-workers of the top"),
        (PreprocessConfig, "num_frames must be above 0", "--num-frames must be above 0"),
        (PreprocessConfig, "clip is no flag", "clip is no flag"),
        (TrainConfig, "resize_short is a flag with a prefix", "resize_short is a flag with a prefix"),
    ],
)
def test_messages_on_the_command_line_name_flags(config_class, message, shown):
    assert with_flags(message, config_class) == shown


def test_what_changes_no_result_is_not_among_the_settings_of_a_run():
    one = TrainConfig(clips="clips", output="out")
    other = TrainConfig(clips="clips", output="elsewhere", num_workers="3", device="cpu", checkpoint_every_s=1.0)
    assert one.settings == other.settings
    assert one.settings != TrainConfig(clips="clips", output="out", seed=1).settings
