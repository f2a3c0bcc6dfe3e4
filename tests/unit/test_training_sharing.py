"""The line that says the result depends on how a batch is shared is there where losses differ, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled_clips import write_clips
from rank_group import TINY, KeepSteps, job_of, kept_steps, tiny_config, train_alone, train_group

from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_empty, build_model
from vidpipe.training.sharing import sharing_line
from vidpipe.transform_spec import AugmentSpec

LABELS = ("down", "left", "up")
WITH_NORM = ModelSpec(model="frame_vote", backbone="resnet18", weights="none")
WITH_DROPOUT = dataclasses.replace(TINY, model_config=(*TINY.model_config, "attention_probs_dropout_prob=0.5"))
FROZEN = dataclasses.replace(WITH_NORM, freeze_backbone=True)
CASES: dict[str, tuple[ModelSpec, dict[str, Any], int, list[str]]] = {
    "batch norm": (WITH_NORM, {}, 2, ["2 workers", "in pieces of 5 clips", "batch norm", "--sync-batch-norm"]),
    "batch norm, slices": (WITH_NORM, {"micro_batch_size": 4}, 1, ["--micro-batch-size 4", "pieces of 4", "norm"]),
    "dropout": (WITH_DROPOUT, {}, 2, ["2 workers", "dropout"]),
    "neither": (TINY, {"micro_batch_size": 4}, 2, []),
    "frozen": (FROZEN, {"augment": AugmentSpec(flip=0.5)}, 2, []),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("sharing") / "clips", {"train": 20, "val": 3})


@pytest.mark.parametrize("case", CASES)
def test_a_run_says_that_its_result_depends_on_the_sharing_just_where_its_losses_do(
    clips: Path, tmp_path: Path, case: str
):
    model, settings, num_ranks, words = CASES[case]
    config = tiny_config(clips, tmp_path / "shared", model=model, size="32", epochs=1, **settings)
    whole = dataclasses.replace(config, output=str(tmp_path / "whole"), micro_batch_size=None)
    if num_ranks == 1:
        train_alone(config, KeepSteps(tmp_path / "steps shared"))
    else:
        assert train_group(config, num_ranks, KeepSteps(tmp_path / "steps shared")) == [0] * num_ranks
    train_alone(whole, KeepSteps(tmp_path / "steps whole"))
    ours, theirs = ([loss for _, loss, _ in kept_steps(tmp_path / f"steps {name}")] for name in ("shared", "whole"))
    difference = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    built = build_model(model, job_of(config).clips.labels)
    line = sharing_line(config, built, (num_ranks, num_ranks))
    print(f"{case}: {len(ours)} steps, losses within {difference:.1e}: {line}")
    assert (line is not None) == bool(words) == (difference > 1e-5)
    assert all(word in str(line) for word in words)
    assert sharing_line(whole, built, (1, 1)) is None


@pytest.mark.parametrize(
    ("spec", "is_said"),
    [
        (ModelSpec(weights="none"), True),
        (ModelSpec(weights="none", freeze_backbone=True), False),
        (ModelSpec(weights="none", freeze_backbone=True, dropout=0.5), True),
        (ModelSpec(backbone="swin3d_t", weights="none"), True),  # stochastic depth
        (ModelSpec(model="frame_vote", backbone="vgg16", weights="none"), True),  # dropout between its layers
        (ModelSpec(model="frame_vote", backbone="vit_b_16", weights="none"), False),
        (ModelSpec(model="transformer", backbone="videomae", weights="none"), False),
    ],
)
def test_the_help_names_the_models_of_which_the_claim_is_true(clips, tmp_path, spec, is_said):
    with torch.device("meta"):
        model = build_empty(spec, LABELS)
    if spec.freeze_backbone:
        model.freeze_backbone()
    line = sharing_line(tiny_config(clips, tmp_path, model=spec), model, (2, 2))
    assert (line is not None) == is_said


def test_batch_norm_of_all_workers_together_depends_on_slices_only(clips: Path, tmp_path: Path):
    model = build_empty(WITH_NORM, LABELS)
    config = tiny_config(clips, tmp_path, model=WITH_NORM, sync_batch_norm=True)
    assert sharing_line(config, model, (2, 2)) is None
    assert "batch norm" in str(sharing_line(dataclasses.replace(config, micro_batch_size=2), model, (2, 2)))


def test_an_elastic_run_names_the_range_of_its_workers(clips: Path, tmp_path: Path):
    line = sharing_line(tiny_config(clips, tmp_path, model=WITH_NORM), build_empty(WITH_NORM, LABELS), (1, 5))
    assert "depends on 1 to 5 workers: a batch of 10 goes through the model in pieces of 2 clips or more" in str(line)
