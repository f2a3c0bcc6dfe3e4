"""Outputs of earlier versions stay good: they are read, keep their keys, and a night decodes nothing of them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from golden_outputs import (
    EXPECTED,
    GOLDEN,
    NUM_VIDEOS,
    PREDICTED,
    PREPROCESSED,
    command,
    copy_golden,
    counts_of,
    drop_column,
    remove_videos,
)

from vidpipe.checkpoints import load_checkpoint
from vidpipe.config import PredictConfig, PreprocessConfig
from vidpipe.guard import Guard
from vidpipe.label_video import label_video
from vidpipe.ledger import STATUS_COLUMNS, open_ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.predictions import read_facts, read_predictions
from vidpipe.stages.predict import predict
from vidpipe.stages.preprocess import preprocess

LIMITS = {"time_limit_s": 60.0, "memory_limit_bytes": 2 << 30}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return copy_golden(tmp_path / "golden")


def manifest_rows(golden: Path) -> list[dict[str, Any]]:
    return pq.read_table(golden / "videos" / "manifest.parquet").to_pylist()


@pytest.mark.parametrize("name", PREPROCESSED)
def test_clip_settings_keep_their_key(name: str):
    ledger = open_ledger(str(GOLDEN / name))
    assert ledger.spec.key == EXPECTED[name]
    assert len(ledger.read()) == NUM_VIDEOS


@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_keep_their_keys(name: str):
    facts = read_facts(str(GOLDEN / name))
    assert [facts.settings_key, facts.clip_spec.key] == EXPECTED[name]
    assert len(read_predictions(str(GOLDEN / name))) == NUM_VIDEOS


@pytest.mark.parametrize("name", PREPROCESSED)
def test_a_night_over_old_clips_decodes_nothing(golden: Path, name: str):
    remove_videos(golden)
    files = {path.name for path in (golden / name / "clips").iterdir()}
    source, output = golden / "videos" / "manifest.parquet", golden / name
    preprocess(command(PreprocessConfig, source, "--output", output, *PREPROCESSED[name]))
    assert counts_of(output) == {"videos": NUM_VIDEOS, "ok": 0, "failed": 0, "unchanged": NUM_VIDEOS, "remaining": 0}
    assert {path.name for path in (output / "clips").iterdir()} == files


@pytest.mark.parametrize("name", PREDICTED)
def test_a_night_over_old_predictions_decodes_nothing(golden: Path, name: str):
    remove_videos(golden)
    source, output, model = golden / "videos" / "manifest.parquet", golden / name, golden / "model"
    predict(command(PredictConfig, source, "--checkpoint", model, "--output", output, *PREDICTED[name]))
    assert counts_of(output) == {"videos": NUM_VIDEOS, "ok": 0, "failed": 0, "unchanged": NUM_VIDEOS, "remaining": 0}
    assert read_predictions(str(output)).sort_by("video_id") == read_predictions(str(GOLDEN / name)).sort_by("video_id")


@pytest.mark.parametrize("name", PREPROCESSED)
def test_stored_clip_settings_give_the_clips_of_then(golden: Path, tmp_path: Path, name: str):
    ledger = open_ledger(str(golden / name))
    settings = PartSettings(output=str(tmp_path / "new"), spec=ledger.spec, part_bytes=1 << 30, **LIMITS)
    make_parts(manifest_rows(golden), settings)
    before, now = (
        pq.read_table(folder / "clips").sort_by([("video_id", "ascending"), ("clip_index", "ascending")])
        for folder in (golden / name, tmp_path / "new")
    )
    exact = ["video_id", "clip_index", "start_s", "end_s", "frame_pts_s"]
    assert now.select(exact).to_pylist() == before.select(exact).to_pylist()
    for ours, theirs in zip(now["frames"].to_pylist(), before["frames"].to_pylist(), strict=True):
        difference = np.frombuffer(ours, np.uint8).astype(int) - np.frombuffer(theirs, np.uint8)
        assert np.abs(difference).max() <= 2  # an FFmpeg of another processor may round otherwise


def test_a_checkpoint_gives_the_answers_of_then(golden: Path):
    checkpoint = load_checkpoint(str(golden / "model"))
    assert checkpoint.checkpoint_id == EXPECTED["checkpoint_id"]
    before = {row["video_id"]: row for row in read_predictions(str(golden / "predictions")).to_pylist()}
    with Guard(checkpoint.facts.clip, **LIMITS) as guard:
        for row in manifest_rows(golden):
            if before[row["video_id"]]["status"] == "ok":
                answer = label_video(row["url"], checkpoint, guard, "fp32")
                scores = dict(zip(checkpoint.facts.labels, before[row["video_id"]]["scores"], strict=True))
                assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("column", ["num_damaged", "duration_s", "group"])
def test_a_status_column_that_older_files_lack_reads_as_null(golden: Path, column: str):
    drop_column(golden / "clips" / "status", column)
    status = open_ledger(str(golden / "clips")).read()
    assert status.column_names == [*STATUS_COLUMNS]
    assert status[column].null_count == NUM_VIDEOS


@pytest.mark.parametrize("column", ["duration_s", "features_part"])
def test_a_predictions_column_that_older_files_lack_reads_as_null(golden: Path, column: str):
    folder = golden / "predictions"
    for path in (folder / "predictions").glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns([column]), path)
    assert read_predictions(str(folder))[column].null_count == NUM_VIDEOS
    assert pc.all(pc.is_valid(read_predictions(str(folder), ["video_id"])["video_id"])).as_py()
