"""Features of a frozen backbone: each clip goes through it once, whatever the epochs, the ranks and the runs."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from labelled_clips import write_clips
from rank_group import history_of, tiny_config, train_alone, train_group

from vidpipe.config import TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import PerFrame
from vidpipe.training import feature_files
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


class KilledError(Exception):
    """The end of a run in the middle of its features."""


def stop_after(monkeypatch: pytest.MonkeyPatch, num_batches: int) -> None:
    """Have the backbone fail after some batches, each of which was written as it came."""
    monkeypatch.setattr(feature_files, "PIECE_EVERY_S", 0.0)
    forward, left = PerFrame.forward, [num_batches]

    def until_killed(network: PerFrame, clips: torch.Tensor) -> torch.Tensor:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return forward(network, clips)

    monkeypatch.setattr(PerFrame, "forward", until_killed)


def test_a_killed_run_goes_on_from_the_features_that_it_has_written(
    clips: Path, tmp_path: Path, num_seen: list[int], monkeypatch: pytest.MonkeyPatch
):
    expected = train_alone(frozen(clips, tmp_path / "calm"))
    config = frozen(clips, tmp_path / "stormy")
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches=2)
        with pytest.raises(KilledError):
            train_alone(config)
    assert all(name.endswith(".piece") for name in files(config.output))
    folder, stem = Path(config.output, "features"), min(files(config.output)).partition(".")[0]
    table, text = (f"{stem}.0000009{digit}-00000099.piece" for digit in (0, 1))
    pq.write_table(pa.table({"video_id": ["a"], "clip_index": [0]}), folder / table)
    (folder / text).write_text("no Parquet")
    num_seen.clear()
    assert train_alone(config) == expected
    assert sum(num_seen) == 24 - 16 + 7 + 5, "two batches of 8 clips were written before the kill"
    left = files(config.output) - files(str(tmp_path / "calm"))
    assert left == {table, text}, "nothing is removed without our mark"
    for name in files(str(tmp_path / "calm")):
        assert (folder / name).read_bytes() == (tmp_path / "calm/features" / name).read_bytes()


def test_pieces_of_one_rank_are_used_by_two_and_left_out_once_the_clips_lie_in_another_order(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = frozen(clips, tmp_path / "out", epochs=1)
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches=2)
        with pytest.raises(KilledError):
            train_alone(config)
    first, second = sorted(Path(config.output, "features").iterdir())
    table = pq.read_table(first)
    width = table["features"].type.list_size
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8 * width, np.float32)), width)
    pq.write_table(table.set_column(2, "features", zeros).replace_schema_metadata(table.schema.metadata), first)
    table = pq.read_table(second)
    pq.write_table(table.take(list(range(8))[::-1]), second)
    assert train_group(config, 2) == [0, 0]
    [kept] = Path(config.output, "features").glob("train-*")
    features = np.stack(pq.read_table(kept)["features"].to_numpy())
    assert not features[:8].any(), "what the piece says"
    assert features[8:].any(axis=1).all()


def test_ranks_share_the_features_work(clips: Path, tmp_path: Path):
    alone = frozen(clips, tmp_path / "alone")
    expected = train_alone(alone)
    shared = frozen(clips, tmp_path / "shared")
    assert train_group(shared, 2) == [0, 0]
    assert history_of(shared)["metrics"]["test"]["top1"] == expected["metrics"]["test"]["top1"]
    for name in files(alone.output):
        ours, theirs = (Path(output, "features", name).read_bytes() for output in (alone.output, shared.output))
        assert ours == theirs
