"""What a report is made of: predictions, joined to the truth where a manifest knows it, and what lies beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.answers import JoinedVideos, choose_split, join_truth
from vidpipe.config import EvaluateConfig
from vidpipe.errors import UsageError
from vidpipe.file_errors import own_file
from vidpipe.manifest import read_manifest
from vidpipe.manifest.reach import reach_of
from vidpipe.metrics.by_class import UNKNOWN
from vidpipe.predictions import PredictionFacts, read_facts, read_predictions
from vidpipe.report.training import Training, read_training
from vidpipe.run_file import RUN_FILE
from vidpipe.transfer import file_names, join, read_buffer

COLUMNS = (
    *("video_id", "url", "version", "status", "error_code", "error", "label", "score", "top_labels", "num_clips"),
    *("num_damaged", "checkpoint_id", "settings_key", "predicted_at", "is_deleted"),
)


@dataclass(frozen=True)
class Inputs:
    """Read once, before anything is measured."""

    facts: PredictionFacts
    predictions: pa.Table
    """Of this checkpoint and these settings; other rows are left out, and counted."""
    num_other_rows: int
    num_deleted: int
    videos: JoinedVideos
    """Those to evaluate: with a true label, of the split; without a manifest, all predictions of videos that are
    still there."""
    split: str | None
    """None where no truth is known."""
    num_unlabelled: int
    num_beside: int
    """Predictions of videos that are not in the split."""
    training: Training
    run: dict[str, Any] | None
    """run.json of jobs/predict.py."""
    against: tuple[JoinedVideos, PredictionFacts] | None
    """The same videos by another checkpoint, in the same order."""
    before: pa.Table | None
    """Predictions of another night."""


def read_inputs(config: EvaluateConfig) -> Inputs:
    """Raises UsageError for what cannot be read or evaluated."""
    facts = read_facts(config.predictions)
    predictions, num_other_rows = _rows_of(config.predictions, facts)
    split, manifest = None, None
    if config.manifest is not None:
        split, manifest = choose_split(read_manifest(config.manifest), config.split)
        if manifest["label"].null_count == len(manifest):
            _no_labels(config, split)
            split, manifest = None, None
    deleted = pc.fill_null(predictions["is_deleted"], False)
    num_deleted = pc.sum(deleted).as_py() or 0
    asked = predictions if manifest is not None else predictions.filter(pc.invert(deleted))
    if not len(asked):
        raise UsageError(f"{config.predictions} holds no video that is still there; predict again, or give --manifest")
    videos = join_truth(asked, facts.labels, manifest)
    num_unlabelled, num_beside = 0, 0
    if manifest is not None:
        num_beside = len(predictions) - int((~videos.answers.missing).sum())
        known = videos.answers.truth != UNKNOWN
        num_unlabelled = int((~known).sum())
        videos = videos.take(known)
    return Inputs(
        facts=facts,
        predictions=predictions,
        num_other_rows=num_other_rows,
        num_deleted=num_deleted,
        videos=videos,
        split=split,
        num_unlabelled=num_unlabelled,
        num_beside=num_beside,
        training=read_training(
            config.checkpoint or facts.checkpoint_url,
            facts.checkpoint_id,
            reach_of(config.predictions, config.allow_url_prefix),
            is_asked=config.checkpoint is not None,
        ),
        run=_run(config.predictions),
        against=None if config.against is None else _against(config.against, manifest, videos),
        before=None if config.drift_from is None else read_predictions(config.drift_from, COLUMNS),
    )


def _rows_of(output: str, facts: PredictionFacts) -> tuple[pa.Table, int]:
    """The rows that the facts speak of, and how many others there are."""
    table = read_predictions(output, COLUMNS)
    own = pc.and_(
        pc.equal(table["checkpoint_id"], facts.checkpoint_id), pc.equal(table["settings_key"], facts.settings_key)
    )
    mine = table.filter(pc.fill_null(own, False))
    return mine, len(table) - len(mine)


def _no_labels(config: EvaluateConfig, split: str) -> None:
    """A manifest without labels makes the page of the night, unless the labels were asked for."""
    if config.split is not None or config.against is not None:
        raise UsageError(
            f"manifest {config.manifest} has no label in split {split}, which --split and --against need; "
            "fill its column label, or leave them out"
        )


def _against(output: str, manifest: pa.Table | None, videos: JoinedVideos) -> tuple[JoinedVideos, PredictionFacts]:
    assert manifest is not None
    facts = read_facts(output)
    table, _ = _rows_of(output, facts)
    other = join_truth(table, facts.labels, manifest)
    other = other.take(other.answers.truth != UNKNOWN)
    assert np.array_equal(other.table["video_id"].to_numpy(), videos.table["video_id"].to_numpy())
    return other, facts


def _run(output: str) -> dict[str, Any] | None:
    if RUN_FILE not in file_names(output):
        return None
    with own_file(join(output, RUN_FILE), "remove it, and the page goes without what the run says of itself"):
        content: dict[str, Any] = json.loads(read_buffer(join(output, RUN_FILE)).to_pybytes())
    return content
