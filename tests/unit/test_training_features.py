"""Features of a frozen backbone: each clip goes through it once, whatever the epochs, the ranks and the runs."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch
from labelled_clips import write_clips
from rank_group import history_of, tiny_config, train_alone, train_group

from vidpipe.config import TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import PerFrame
from vidpipe.transform_spec import AugmentSpec

FROZEN = ModelSpec(model="cnn_rnn", backbone="mobilenet_v3_small", weights="none", freeze_backbone=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("features") / "clips", {"train": 24, "val": 7, "test": 5})


@pytest.fixture
def num_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Clips that went through a backbone, by batch."""
    seen: list[int] = []
    forward = PerFrame.forward

    def counted(network: PerFrame, clips: torch.Tensor) -> torch.Tensor:
        seen.append(len(clips))
        return forward(network, clips)

    monkeypatch.setattr(PerFrame, "forward", counted)
    return seen


def frozen(clips: Path, output: Path, **changes: object) -> TrainConfig:
    return tiny_config(clips, output, **{"model": FROZEN, "size": "32", "epochs": 3, "batch_size": 8, **changes})


def files(output: str) -> set[str]:
    return {path.name for path in Path(output, "features").iterdir()}


def test_each_clip_goes_through_the_backbone_once_and_another_run_finds_its_features(
    clips: Path, tmp_path: Path, num_seen: list[int]
):
    config = frozen(clips, tmp_path / "out")
    first = train_alone(config)
    assert sum(num_seen) == 24 + 7 + 5
    kept = files(config.output)
    assert len(kept) == 3
    for path in Path(config.output, "state").iterdir():
        path.unlink()
    num_seen.clear()
    assert train_alone(config) == first
    assert num_seen == []
    train_alone(dataclasses.replace(config, seed=1, output=config.output))
    assert sum(num_seen) == 24 + 7 + 5, "other weights have other features"
    assert files(config.output) > kept


def test_features_give_the_same_training_as_frames(clips: Path, tmp_path: Path):
    kept = train_alone(frozen(clips, tmp_path / "kept"))
    # A flip of probability 0 is none; anything that is not the default augmentation shows the frames each epoch.
    seen = train_alone(frozen(clips, tmp_path / "seen", augment=AugmentSpec(color_jitter=1e-9)))
    for ours, theirs in zip(kept["epochs"], seen["epochs"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert ours["val"]["loss"] == pytest.approx(theirs["val"]["loss"], abs=1e-4)


def test_an_augmented_frozen_backbone_says_that_it_sees_every_clip_in_every_epoch(
    clips: Path, tmp_path: Path, num_seen: list[int], caplog: pytest.LogCaptureFixture
):
    logging.getLogger("vidpipe").propagate = True
    config = frozen(clips, tmp_path / "out", augment=AugmentSpec(flip=0.5))
    train_alone(config)
    assert sum(num_seen) == 3 * (24 + 7) + 5
    assert "sees every clip in every epoch" in caplog.text
    assert not Path(config.output, "features").exists()


def test_ranks_share_the_features_work(clips: Path, tmp_path: Path):
    alone = frozen(clips, tmp_path / "alone")
    expected = train_alone(alone)
    shared = frozen(clips, tmp_path / "shared")
    assert train_group(shared, 2) == [0, 0]
    assert history_of(shared)["metrics"]["test"]["top1"] == expected["metrics"]["test"]["top1"]
    for name in files(alone.output):
        ours, theirs = (Path(output, "features", name).read_bytes() for output in (alone.output, shared.output))
        assert ours == theirs
