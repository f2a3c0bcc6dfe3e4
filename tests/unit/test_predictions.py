"""The predictions table: one row a video, under the facts of its checkpoint."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from vidpipe.journal import Journal
from vidpipe.predictions import PredictionFacts, read_facts, read_predictions
from vidpipe.predictions.schema import PREDICTION_COLUMNS, prediction_schema
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

LABELS = ("down", "left", "up")


def facts(checkpoint_id: str = "0" * 16, labels: tuple[str, ...] = LABELS, **settings: Any) -> PredictionFacts:
    return PredictionFacts(
        checkpoint_id, "/models/best", labels, ClipSpec(size="32"), ViewSpec(crops=3), "1" * 16, settings
    )


def row(name: str, label: str | None, **changes: Any) -> dict[str, Any]:
    outcome = {"status": "ok", "label": label, "score": 0.5, "top_labels": [label], "top_scores": [0.5], "num_clips": 1}
    if label is None:
        outcome = {"status": "failed", "error_code": "corrupt", "error": "broken", "num_clips": 0}
    known = {"video_id": name, "url": f"/videos/{name}.mp4", "version": "1", "is_deleted": False}
    known |= {"checkpoint_id": "0" * 16, "predicted_at": datetime(2026, 11, 21, tzinfo=timezone.utc)}
    return dict.fromkeys(PREDICTION_COLUMNS) | known | outcome | changes


def journal(output: Path, about: PredictionFacts) -> Journal:
    return Journal(f"{output}/predictions", prediction_schema(about))


def test_the_last_row_of_a_video_is_read_under_the_facts_written_last(tmp_path: Path):
    journal(tmp_path, facts()).commit([row("a", "left"), row("b", None)])
    later = facts("2" * 16, (*LABELS, "zoom"), top=5)
    journal(tmp_path, later).commit([row("a", "zoom", checkpoint_id="2" * 16)])
    assert read_predictions(str(tmp_path), ["video_id", "label"]).to_pylist() == [
        {"video_id": "b", "label": None},
        {"video_id": "a", "label": "zoom"},
    ]
    assert read_facts(str(tmp_path)) == later


def test_an_output_without_predictions_says_how_to_make_them(tmp_path: Path):
    for read in (read_predictions, read_facts):
        with pytest.raises(ValueError, match=r"holds no predictions.*jobs/predict\.py"):
            read(str(tmp_path))
