"""Training is the same on any number of ranks, and a killed run ends as an undisturbed one: in plain torch, by gloo."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled_clips import write_clips
from rank_group import (
    EndAt,
    EndOfProcessError,
    KeepSteps,
    KillOnce,
    history_of,
    largest_difference,
    tiny_config,
    train_alone,
    train_group,
)

import vidpipe.training.run
from vidpipe.checkpoints import load_checkpoint
from vidpipe.model_spec import ModelSpec
from vidpipe.spec import ClipSpec
from vidpipe.training.optimization import warmed_up_decay
from vidpipe.training.saved_state import load_state, state_names
from vidpipe.training.trainer import Trainer
from vidpipe.transform_spec import AugmentSpec

FROZEN_RNN = ModelSpec(
    model="cnn_rnn", backbone="mobilenet_v3_small", weights="none", freeze_backbone=True, dropout=0.3
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """53 videos to train on, 13 and 11 to evaluate, two clips each, uneven in every way; two more failed."""
    output = tmp_path_factory.mktemp("exactness") / "clips"
    return write_clips(output, {"train": 53, "val": 13, "test": 11}, num_clips=2, failed={"val": 2})


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 3e-4},
        {
            "optimizer": "sgd",
            "micro_batch_size": 3,
            "class_weights": "balanced",
            "label_smoothing": 0.1,
            "clip_grad_norm": 0.5,
        },
        {"optimizer": "sgd", "augment": AugmentSpec(flip=0.5, translate=0.2, mixup=0.8), "ema_decay": 0.9},
    ],
    ids=["adamw", "slices, weights, smoothing, clipping", "augmentation, mixup, moving average"],
)
def test_twenty_steps_have_the_same_losses_and_gradients_on_one_two_and_three_ranks(
    clips: Path, tmp_path: Path, settings: dict[str, Any]
):
    # Adam divides by the gradient's size: where that is rounding alone, so is the step, and at ten times this learning
    # rate 20 steps of it come to 3e-5.
    for num_ranks in (1, 2, 3):
        config = tiny_config(clips, tmp_path / f"on {num_ranks}", **settings)
        codes = train_group(config, num_ranks, KeepSteps(tmp_path / f"steps {num_ranks}"))
        assert codes == [0] * num_ranks
    for num_ranks in (2, 3):
        num_steps, losses, gradients = largest_difference(tmp_path / "steps 1", tmp_path / f"steps {num_ranks}")
        print(f"{num_ranks} ranks: {num_steps} steps, loss within {losses:.1e}, gradients within {gradients:.1e}")
        assert num_steps == 20
        assert losses < 1e-5
        assert gradients < 1e-5


def test_an_evaluation_is_equal_to_the_last_digit_on_any_number_of_ranks(clips: Path, tmp_path: Path):
    alone = tiny_config(clips, tmp_path / "alone")
    expected = train_alone(alone)
    assert expected["metrics"]["val"]["num_failed"] == 2
    for num_ranks in (2, 3, 4):  # 22 clips of test in batches of 10: the fourth rank has none
        shared = dataclasses.replace(alone, output=str(tmp_path / f"on {num_ranks}"))
        shutil.copytree(alone.output, shared.output)
        Path(shared.output, "history.json").unlink()
        assert train_group(shared, num_ranks) == [0] * num_ranks
        assert history_of(shared) == expected


def test_a_rank_killed_in_mid_epoch_changes_nothing_in_the_end(clips: Path, tmp_path: Path):
    calm = tiny_config(clips, tmp_path / "calm", checkpoint_every_s=1e-9)
    assert train_group(calm, 2) == [0, 0]
    stormy = dataclasses.replace(calm, output=str(tmp_path / "stormy"))
    kill = KillOnce(tmp_path / "killed", step=13, rank=1)
    assert -signal.SIGKILL in train_group(stormy, 2, kill)
    assert state_names(stormy.output)[-1] > "00001-0000000.pt", "no state of mid-epoch"
    assert train_group(stormy, 2, kill) == [0, 0]
    assert history_of(stormy) == history_of(calm)


@pytest.mark.parametrize(
    "settings",
    [
        {"ema_decay": 0.8, "early_stop": 5},
        {"optimizer": "sgd", "schedule": "plateau", "plateau_patience": 0, "plateau_best": True, "learning_rate": 0.5},
        {"augment": AugmentSpec(crop="resized", flip=0.5, cutmix=1.0), "warmup": 0.3},
        {"model": FROZEN_RNN, "size": "32"},
    ],
    ids=["moving average", "plateau back to the best", "augmentation", "kept features and dropout"],
)
@pytest.mark.parametrize("step", [13, 20], ids=["in mid-epoch", "at the start of an epoch"])
def test_a_run_that_ended_early_goes_on_to_the_end_of_an_undisturbed_one(
    clips: Path, tmp_path: Path, settings: dict[str, Any], step: int
):
    calm = tiny_config(clips, tmp_path / "calm", epochs=3, checkpoint_every_s=1e-9, **settings)
    expected = train_alone(calm)
    stormy = dataclasses.replace(calm, output=str(tmp_path / "stormy"))
    with pytest.raises(EndOfProcessError):
        train_alone(stormy, EndAt(step))
    assert train_alone(stormy) == expected
    ours, theirs = (load_checkpoint(config.output).model.state_dict() for config in (stormy, calm))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_that_stopped_after_max_steps_can_go_on(clips: Path, tmp_path: Path):
    calm = tiny_config(clips, tmp_path / "calm")
    stopped = dataclasses.replace(calm, output=str(tmp_path / "stopped"), max_steps=13)
    train_alone(stopped)
    assert state_names(stopped.output)[-1] == "00001-0000003.pt"
    assert len(history_of(stopped)["epochs"]) == 1
    assert train_alone(dataclasses.replace(stopped, max_steps=None)) == train_alone(calm)


def test_a_checkpoint_says_which_span_its_training_clips_had(clips: Path, tmp_path: Path):
    config = tiny_config(clips, tmp_path / "out", epochs=1)
    train_alone(config)
    assert load_checkpoint(config.output).facts.clip_span_s == 1.0


def test_a_run_stops_early_when_no_epoch_is_better(clips: Path, tmp_path: Path):
    still = tiny_config(clips, tmp_path / "out", epochs=9, early_stop=2, learning_rate=1e-30, schedule="constant")
    history = train_alone(still)
    assert len(history["epochs"]) == 3
    assert history["best_epoch"] == 1


@pytest.mark.parametrize("broken", ["best", "last"])
def test_checkpoints_half_replaced_when_a_run_was_killed_are_whole_after_the_next(
    clips: Path, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
):
    config = tiny_config(clips, tmp_path / "out")
    write = vidpipe.training.run.write_checkpoint

    def killed_at_the_end(trainer: Trainer, name: str, *arguments: Any) -> str:
        if name == broken and len(trainer.state.history) == 2:
            raise EndOfProcessError
        return write(trainer, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("vidpipe.training.run.write_checkpoint", killed_at_the_end)
        with pytest.raises(EndOfProcessError):
            train_alone(config)
    Path(config.output, broken, "model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="half replaced"):
        load_checkpoint(f"{config.output}/{broken}")
    train_alone(config)
    assert load_checkpoint(f"{config.output}/{broken}").facts.metrics["val"]


def test_a_loss_that_is_no_number_ends_the_run_and_is_never_saved(clips: Path, tmp_path: Path):
    config = tiny_config(clips, tmp_path / "out", learning_rate=1e30, optimizer="sgd", checkpoint_every_s=1e-9)
    with pytest.raises(ValueError, match=r"the loss was (nan|inf).*--learning-rate"):
        train_alone(config)
    for name in state_names(config.output):
        assert load_state(config.output, name).loss_sum < float("inf")


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_clips_of_every_colour_and_encoding_train(tmp_path: Path, color: Any, encoding: Any):
    spec = ClipSpec(num_frames=4, size="32", color=color, encoding=encoding)
    clips = write_clips(tmp_path / "clips", {"train": 24, "val": 12}, spec=spec)
    history = train_alone(tiny_config(clips, tmp_path / "out", epochs=20, batch_size=8))
    assert history["metrics"]["val"]["top1"] > 0.8


def test_a_moving_average_with_a_long_memory_is_trained_after_a_short_run(tmp_path: Path):
    """24 steps, of which a constant decay of 0.999 would keep 98 % of the first weights."""
    clips = write_clips(tmp_path / "clips", {"train": 24, "val": 12})
    plain = tiny_config(clips, tmp_path / "plain", epochs=8, batch_size=8)
    averaged = dataclasses.replace(plain, output=str(tmp_path / "averaged"), ema_decay=0.999)
    top1 = [train_alone(config)["epochs"][-1]["val"]["top1"] for config in (plain, averaged)]
    assert top1 == [1.0, 1.0]


@pytest.mark.parametrize("num_updates", [0, 1, 7])
def test_the_decay_of_the_moving_average_rises_with_the_steps_and_is_never_above_the_one_asked_for(num_updates: int):
    assert warmed_up_decay(0.999, num_updates) == (1 + num_updates) / (10 + num_updates)
    assert warmed_up_decay(0.999, 10**6) == 0.999
    assert warmed_up_decay(0.05, num_updates) == 0.05


def test_a_half_trained_run_from_before_the_warm_up_keeps_its_decay_and_says_so(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = tiny_config(clips, tmp_path / "out", ema_decay=0.9, max_steps=11)
    train_alone(config)
    [*_, name] = state_names(config.output)
    path = Path(config.output, "state", name)
    content = torch.load(path, weights_only=True)
    del content["warms_up_average"]  # as states were before
    torch.save(content, path)
    before = content["average"]
    caplog.set_level("INFO")
    train_alone(dataclasses.replace(config, max_steps=12))
    assert caplog.text.count("--ema-decay 0.9 applies from the first step") == 1
    [*_, newest] = state_names(config.output)
    after = load_state(config.output, newest)
    assert not after.warms_up_average
    for key, weights in after.model.items():
        expected = torch.lerp(before[f"module.{key}"], weights, 0.1)
        torch.testing.assert_close(after.average[f"module.{key}"], expected)
