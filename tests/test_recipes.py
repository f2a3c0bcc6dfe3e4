"""The recipes' commands are the tutorials' settings, with the real sets and in the trial; recorded, not run."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro

from vidpipe.config import IndexConfig, PredictConfig, PreprocessConfig, TrainConfig

ROOT = Path(__file__).parent.parent
CONFIGS = {"index": IndexConfig, "preprocess": PreprocessConfig, "train": TrainConfig, "predict": PredictConfig}
SCRIPTS = sorted((ROOT / "recipes").glob("[0-9]*.sh"))
# A python that writes down what it was asked for; asked for a video, it names one.
RECORDER = """#!/usr/bin/env bash
if [[ $1 == - ]]; then echo unseen.avi; else printf '%q ' "$@" >> "$RECORD"; echo >> "$RECORD"; fi
"""
PLATEAU = {"schedule": "plateau", "plateau_factor": 0.5, "plateau_patience": 5, "plateau_best": True}
HMDB51 = {**PLATEAU, "optimizer": "adam", "learning_rate": 3e-5, "epochs": 20, "best_by": "loss"}
TUTORIALS: dict[str, dict[str, Any]] = {
    "1": {"model": "frame_vote", "backbone": "resnet50", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": 32}
    | {"color": "gray"},
    "2": {**HMDB51, "model": "cnn_rnn", "backbone": "resnet18", "rnn": "lstm", "rnn_layers": 1, "rnn_hidden": 100}
    | {"dropout": 0.1, "flip": 0.5, "translate": 0.1, "num_frames": 16, "sampling": "uniform", "clip_size": "224"}
    | {"val_fraction": 0.1, "layout": "folders"},
    "3": {**HMDB51, "model": "conv3d", "backbone": "r3d_18", "batch_size": 8, "num_frames": 16, "clip_size": "112"}
    | {"flip": 0.5, "translate": 0.1, "val_fraction": 0.1},
    "4": {"model": "frame_vote", "backbone": "vgg16", "freeze_backbone": True, "head": "mlp", "dropout": 0.5}
    | {"mlp_sizes": (1024, 512, 256, 128), "epochs": 200, "batch_size": 128, "best_by": "loss", "views_join": "vote"}
    | {"sampling": "fps", "rate_fps": 1.0, "clip_size": "224", "layout": "ucf101", "fold": 1},
    "5": {"model": "transformer", "learning_rate": 5e-5, "warmup": 0.1, "epochs": 4, "best_by": "top1", "flip": 0.5}
    | {"crop": "random", "short_side": (256, 320), "num_frames": 16, "frame_stride": 4, "num_clips": 5, "crops": 3},
}


def commands(script: Path, tmp_path: Path, **variables: str) -> dict[str, Any]:
    """The settings of each job that a recipe runs."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(RECORDER)
    (tmp_path / "bin" / "python").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("VIDEOS", "SPLITS", "OUT", "VIDEO")}
    env = {**clean, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"), **variables}
    done = subprocess.run(["bash", script], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in (tmp_path / "record").read_text().splitlines()]
    jobs = [line for line in lines if line[0].startswith("jobs/")]
    return {Path(job).stem: tyro.cli(CONFIGS[Path(job).stem], args=flags) for job, *flags in jobs}


def flat(jobs: dict[str, Any]) -> dict[str, Any]:
    """All settings that decide the result, by name."""
    index, clip, train = jobs["index"], jobs["preprocess"].clip, jobs["train"]
    settings = {**vars(index), **vars(clip), "clip_size": clip.size, **vars(train.augment), **vars(train)}
    # Dropout and join are the model's; of the views there are others.
    views = {"crops": train.views.crops, "views_join": train.views.join}
    return {**settings, **vars(train.model), **views}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_with_the_real_set_the_settings_are_those_of_the_tutorial(script: Path, tmp_path: Path):
    splits = {"SPLITS": "/data/lists"} if script.name.startswith("4") else {}
    jobs = commands(script, tmp_path, VIDEOS="/data/videos", OUT="/data/out", **splits)
    found, tutorial = flat(jobs), TUTORIALS[script.name[0]]
    assert {name: found[name] for name in tutorial} == tutorial
    assert jobs["index"].source == "/data/videos"
    assert (found["weights"], jobs["train"].size) == ("default", None)
    assert jobs["preprocess"].source == jobs["index"].output
    assert jobs["train"].clips == jobs["preprocess"].output
    if "predict" in jobs:
        assert (jobs["predict"].source, jobs["predict"].checkpoint) == ("unseen.avi", jobs["train"].output)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_trial_differs_in_what_makes_it_small(script: Path, tmp_path: Path):
    found, tutorial = flat(commands(script, tmp_path)), TUTORIALS[script.name[0]]
    smaller = {"epochs", "batch_size", "clip_size", "num_clips", "short_side", "layout"}
    assert {name: found[name] for name in tutorial.keys() - smaller} == {
        name: value for name, value in tutorial.items() if name not in smaller
    }
    assert found["weights"] == "none"
    assert found["epochs"] <= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_official_lists_are_taken_when_given(script: Path, tmp_path: Path):
    index = commands(script, tmp_path, VIDEOS="/data/videos", SPLITS="/data/lists")["index"]
    assert index.layout == ("hmdb51" if "hmdb51" in script.name else "ucf101")
    assert index.splits_dir == "/data/lists"
    assert index.val_fraction > 0
