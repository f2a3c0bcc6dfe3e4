"""Paths that a user gives mean the same files on the workers of Ray, which run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidpipe.config import TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.stages.train import with_absolute_paths


def test_relative_paths_become_absolute_and_names_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videomae").mkdir()
    model = ModelSpec(model="transformer", backbone="./videomae", weights="start.safetensors")
    config = with_absolute_paths(TrainConfig(clips="clips", output="s3://bucket/out", model=model))
    assert (config.clips, config.output) == (f"{tmp_path}/clips", "s3://bucket/out")
    assert (config.model.backbone, config.model.weights) == (f"{tmp_path}/videomae", f"{tmp_path}/start.safetensors")
    named = with_absolute_paths(TrainConfig(clips="clips", output="out")).model
    assert (named.backbone, named.weights) == ("r3d_18", "default")
