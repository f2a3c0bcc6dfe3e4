"""A night across an upgrade: one new video beside outputs of an earlier version, and a run left half-trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from golden_outputs import (
    GOLDEN,
    HALF_TRAINED,
    NUM_VIDEOS,
    PREDICTED,
    PREPROCESSED,
    add_video,
    command,
    copy_golden,
    counts_of,
    drop_column,
)

from vidpipe.config import PredictConfig, PreprocessConfig, TrainConfig
from vidpipe.ledger import open_ledger
from vidpipe.predictions import read_facts, read_predictions
from vidpipe.stages.predict import predict
from vidpipe.stages.preprocess import preprocess
from vidpipe.stages.train import train

ONE_NEW = {"videos": NUM_VIDEOS + 1, "ok": 1, "failed": 0, "unchanged": NUM_VIDEOS, "remaining": 0}


@pytest.fixture
def golden(ray_local: str, tmp_path: Path) -> Path:
    return copy_golden(tmp_path / "golden")


@pytest.mark.parametrize("name", PREPROCESSED)
def test_preprocess_decodes_only_the_new_video_and_as_the_old_ones(golden: Path, name: str):
    add_video(golden)
    drop_column(golden / name / "status", "num_damaged")  # as an output has it that is older still
    source, output = golden / "videos" / "manifest.parquet", golden / name
    preprocess(command(PreprocessConfig, source, "--output", output, *PREPROCESSED[name]))
    assert counts_of(output) == ONE_NEW
    rows = {row["url"].rpartition("/")[2]: row for row in open_ledger(str(output)).read().to_pylist()}
    assert rows["new.mp4"]["num_damaged"] == 0
    assert rows["01.mp4"]["num_damaged"] is None
    clips = pq.read_table(output / "clips", columns=["url", "clip_index", "start_s", "end_s", "frames"]).to_pylist()
    by_video: dict[str, list[dict[str, Any]]] = {}
    for clip in clips:
        by_video.setdefault(clip.pop("url").rpartition("/")[2], []).append(clip)
    assert by_video["new.mp4"] == by_video["00.mp4"]  # its copy


def test_predict_labels_only_the_new_video_and_as_the_old_ones(golden: Path):
    add_video(golden)
    name = "segments"
    source, output, model = golden / "videos" / "manifest.parquet", golden / name, golden / "model"
    predict(command(PredictConfig, source, "--checkpoint", model, "--output", output, *PREDICTED[name]))
    assert counts_of(output) == ONE_NEW
    rows = {row["url"].rpartition("/")[2]: row for row in read_predictions(str(output)).to_pylist()}
    assert rows["new.mp4"]["num_clips"] == rows["00.mp4"]["num_clips"]
    assert rows["new.mp4"]["scores"] == pytest.approx(rows["00.mp4"]["scores"], abs=1e-3)
    assert read_facts(str(output)).settings_key == read_facts(str(GOLDEN / name)).settings_key


def test_windows_that_were_stored_then_are_labelled_as_they_are(golden: Path, tmp_path: Path):
    clips, output = golden / "windows", tmp_path / "out"
    predict(command(PredictConfig, clips, "--checkpoint", golden / "model", "--output", output, "--segments"))
    facts, run = read_facts(str(output)), json.loads((output / "run.json").read_text())
    assert facts.clip_spec == open_ledger(str(clips)).spec
    assert (run["settings"]["window_s"], run["settings"]["hop_s"]) == (0.4, 0.3)
    status = {row["url"]: row for row in open_ledger(str(clips)).read().to_pylist()}
    rows = {row["url"]: row for row in read_predictions(str(output)).to_pylist()}
    assert {url: row["num_damaged"] for url, row in rows.items()} == {
        url: row["num_damaged"] for url, row in status.items()
    }
    assert run["ok_with_damage"] == sum((row["num_damaged"] or 0) > 0 for row in status.values()) == 1


def test_a_half_trained_run_ends_as_an_undisturbed_one_did_then(golden: Path):
    train(command(TrainConfig, golden / "clips", "--output", golden / "half", *HALF_TRAINED))
    before, now = (
        json.loads((folder / "history.json").read_text())["epochs"] for folder in (GOLDEN / "whole", golden / "half")
    )
    assert len(now) == len(before) == 3
    for ours, theirs in zip(now, before, strict=True):
        for name in ("train_loss", "learning_rate"):
            assert np.isclose(ours[name], theirs[name], rtol=1e-3), name
        assert np.isclose(ours["val"]["loss"], theirs["val"]["loss"], rtol=1e-3)
        assert ours["val"]["confusion"] == theirs["val"]["confusion"]
