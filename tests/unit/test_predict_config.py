"""Settings of predict: what goes together, and one spelling for one question."""

from __future__ import annotations

from typing import Any

import pytest

from vidpipe.config import PredictConfig


def config(**flags: Any) -> PredictConfig:
    return PredictConfig(**{"source": "videos", "checkpoint": "model", "output": "out", **flags})


def test_equal_questions_have_equal_settings():
    one = config(segments=True, window_s=10, include_labels=("b", "a", "b"))
    other = config(segments=True, window_s=10.0, include_labels=("a", "b"), join="mean", output="elsewhere", limit=3)
    assert one.answer_settings == other.answer_settings
    assert config(top=3).answer_settings != config().answer_settings


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"top": 0}, "top must be above 0"),
        ({"threshold": 1.5}, "threshold must be from 0 to 1"),
        ({"hop_s": 5.0}, "hop_s is for --segments"),
        ({"join": "vote"}, "join is for --segments, got vote"),
        ({"include_labels": ("a",), "exclude_labels": ("b",)}, "exclude each other"),
        ({"price_per_hour": 3.0}, "is for --dry-run"),
        ({"output": None, "segments": True}, "segments needs an output; add --output"),
        ({"video_memory_mb": 8}, "video_memory_mb must be 64 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(flags: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        config(**flags)
