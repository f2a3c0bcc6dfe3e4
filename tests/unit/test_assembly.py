"""Clips in any order, twice, or of an attempt that broke off become each video once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vidpipe.clip_blocks import CLOSING_INDEX
from vidpipe.predictions.assembly import Assembly

Row = tuple[str, int, int, float | None, dict[str, Any] | None]


def clip(video_id: str, index: int, value: float, attempt: int = 0) -> Row:
    return video_id, attempt, index, value, None


def closing(video_id: str, num_clips: int, attempt: int = 0, **facts: Any) -> Row:
    return video_id, attempt, CLOSING_INDEX, None, {"status": "ok", "num_clips": num_clips, **facts}


def failed(video_id: str) -> Row:
    return closing(video_id, 0, status="failed", error_code="corrupt", error="broken")


def rows(*given: Row) -> pa.Table:
    """As a model with two labels and one crop returns them."""
    logits = [None if value is None else [value, -value] for *_, value, _ in given]
    return pa.table(
        {
            "video_id": [row[0] for row in given],
            "attempt": pa.array([row[1] for row in given], pa.int32()),
            "clip_index": pa.array([row[2] for row in given], pa.int32()),
            "start_s": [float(row[2]) for row in given],
            "end_s": [float(row[2] + 1) for row in given],
            "logits": pa.array(logits, pa.list_(pa.float32())),
            "features": pa.nulls(len(given), pa.list_(pa.float32())),
            "closing": [None if row[4] is None else json.dumps(row[4]) for row in given],
        }
    )


def values(video: Any) -> list[float]:
    return video.logits[:, 0, 0].tolist()


@pytest.fixture
def assembly() -> Assembly:
    return Assembly(1, 2)


def test_a_video_is_done_when_all_its_clips_and_its_closing_row_are_there(assembly: Assembly):
    assert assembly.add(rows(clip("a", 1, 1.0), clip("b", 0, 5.0))) == []
    assert assembly.add(rows(closing("a", 2), closing("b", 2))) == []
    (video,) = assembly.add(rows(clip("a", 0, 0.5)))
    assert (video.video_id, values(video), video.starts_s.tolist()) == ("a", [0.5, 1.0], [0.0, 1.0])
    assert video.logits.shape == (2, 1, 2)
    assert assembly.num_under_way == 1


def test_what_comes_twice_or_later_changes_nothing(assembly: Assembly):
    whole = rows(clip("a", 0, 0.5), clip("a", 1, 1.0), closing("a", 2))
    (video,) = assembly.add(whole)
    assert values(video) == [0.5, 1.0]
    assert assembly.add(whole) == []
    assert assembly.num_under_way == 0


def test_clips_of_an_attempt_that_broke_off_are_void(assembly: Assembly):
    assembly.add(rows(clip("a", 0, 9.0), clip("a", 1, 9.0)))
    assembly.add(rows(clip("a", 0, 0.5, attempt=1)))
    (video,) = assembly.add(rows(closing("a", 1, attempt=1)))
    assert values(video) == [0.5]


def test_a_video_that_fails_after_its_first_clips_has_none(assembly: Assembly):
    (video,) = assembly.add(rows(clip("a", 0, 9.0), failed("a")))
    assert video.receipt["error_code"] == "corrupt"
    assert video.logits.shape == (0, 1, 2)
    assert assembly.add(rows(clip("a", 1, 9.0))) == []


def test_a_video_that_lost_clips_with_its_worker_begins_anew(assembly: Assembly):
    assembly.add(rows(clip("a", 1, 1.0), closing("a", 2)))
    assembly.forget()
    (video,) = assembly.add(rows(clip("a", 0, 0.5), clip("a", 1, 2.0), closing("a", 2)))
    assert values(video) == [0.5, 2.0]
    assert np.array_equal(video.ends_s, [1.0, 2.0])
