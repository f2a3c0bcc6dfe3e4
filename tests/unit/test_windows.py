"""The windows of --segments: whose they are, where nobody asked for others, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidpipe.checkpoints import CheckpointFacts
from vidpipe.config import PredictConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.predictions.question import Question, make_question, settings_key
from vidpipe.predictions.schema import PredictionFacts
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

ID = "a" * 16


def question(span_s: float | None = 2.0, checkpoint_id: str = ID, **flags: Any) -> Question:
    before, stored = flags.pop("before", None), flags.pop("stored", None)
    config = PredictConfig(source="videos", checkpoint="model", output="out", segments=True, **flags)
    facts = CheckpointFacts(
        model=ModelSpec(), labels=("down", "up"), clip=ClipSpec(num_frames=8, size="32"), views=ViewSpec(),
        size=(32, 32), clip_span_s=span_s,
    )  # fmt: skip
    return make_question(config, facts, checkpoint_id, "/model/best", before=before, stored=stored)


def windows(asked: Question) -> tuple[float | None, float | None, str | None]:
    clip = asked.facts.clip_spec
    return clip.window_s, clip.hop_s, clip.window_end


def of_an_earlier_release(window_s: float, hop_s: float) -> PredictionFacts:
    """The facts of rows whose windows repeat: their settings do not name a rule, and their key goes by these."""
    asked = question(window_s=window_s, hop_s=hop_s).facts
    settings = {name: value for name, value in asked.settings.items() if name != "window_end"}
    clip = {name: value for name, value in vars(asked.clip_spec).items() if name not in ("window_end", "_unsaid")}
    return PredictionFacts(
        checkpoint_id=ID, checkpoint_url="/model/best", labels=asked.labels, clip_spec=ClipSpec.from_stored(clip),
        views=asked.views, settings_key=settings_key(settings), settings=settings,
    )  # fmt: skip


def test_a_window_spans_what_the_training_clips_did_and_hops_by_half():
    asked = question(span_s=2.0004)
    assert windows(asked) == (2.0, 1.0, "shifted")
    assert asked.notes == ()
    assert asked.facts.clip_spec.shape == (8, 32, 32, 3)


def test_a_checkpoint_that_does_not_tell_its_span_gets_ten_seconds_and_a_line():
    asked = question(span_s=None)
    assert windows(asked) == (10.0, 5.0, "shifted")
    (note,) = asked.notes
    assert "does not say how many seconds its training clips spanned" in note
    assert question(span_s=None, window_s=3.0).notes == ()


@pytest.mark.parametrize(("window_s", "is_told"), [(1.0, True), (1.5, False), (2.9, False), (3.2, True)])
def test_a_window_unlike_the_training_clips_is_told(window_s: float, is_told: bool):
    notes = question(window_s=window_s).notes
    assert bool(notes) == is_told
    assert all("the model was trained on clips of 2 s" in note and "--window-s 2 " in note for note in notes)


def test_a_checkpoint_of_windows_that_repeat_is_asked_as_it_was_trained_and_says_so():
    clip = ClipSpec(sampling="windows", window_end="repeat", size="32")
    facts = CheckpointFacts(model=ModelSpec(), labels=("down", "up"), clip=clip, views=ViewSpec(), size=(32, 32))
    asked = make_question(PredictConfig(source="videos", checkpoint="model", output="out"), facts, ID, "/model/best")
    assert asked.facts.clip_spec == clip
    assert "window_end" not in asked.facts.settings
    (note,) = asked.notes
    assert note.endswith("so the checkpoint was trained")


def test_thresholds_of_whole_videos_are_not_of_windows(tmp_path: Path):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({"precision": 0.9, "checkpoint_id": ID, "thresholds": {"up": 0.8, "down": None}}))
    (note,) = question(thresholds=str(path)).notes
    assert "holds for answers like those it was measured on" in note


@pytest.mark.parametrize("flags", [{}, {"window_s": 10.0}, {"hop_s": 5.0}, {"window_s": 10.0, "hop_s": 5.0}])
def test_the_rows_of_an_earlier_release_keep_their_windows_and_their_key(flags: dict[str, float]):
    before = of_an_earlier_release(10.0, 5.0)
    asked = question(before=before, **flags)
    assert windows(asked) == (10.0, 5.0, "repeat")
    assert asked.facts.settings_key == before.settings_key
    assert asked.facts.clip_spec.key == before.clip_spec.key
    assert "filled up with the video's last frame, as the rows of the output have them; --relabel" in asked.notes[0]


def test_rows_keep_windows_that_were_asked_for_once():
    before = question(window_s=3.0, hop_s=0.5).facts
    asked = question(before=before)
    assert windows(asked) == (3.0, 0.5, "shifted")
    assert asked.facts.settings_key == before.settings_key
    assert len(question(before=question().facts).notes) == 0  # the default ones need no word


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"relabel": True}, (2.0, 1.0, "shifted")),
        ({"window_s": 4.0}, (4.0, 2.0, "shifted")),
        ({"hop_s": 2.0}, (10.0, 2.0, "shifted")),
        ({"checkpoint_id": "b" * 16}, (2.0, 1.0, "shifted")),
    ],
)
def test_rows_that_are_all_made_anew_get_the_windows_of_today(flags: dict[str, Any], expected: tuple[Any, ...]):
    assert windows(question(before=of_an_earlier_release(10.0, 5.0), **flags)) == expected


def test_clips_that_are_there_decide_which_windows_can_be_shown():
    stored = ClipSpec(sampling="windows", num_frames=8, window_s=3.0, size="32", window_end="repeat")
    for flags in ({}, {"relabel": True}, {"before": question().facts}):
        assert question(stored=stored, **flags).facts.clip_spec == stored
    assert windows(question(stored=ClipSpec())) == (2.0, 1.0, "shifted")  # will be refused: these are no windows
