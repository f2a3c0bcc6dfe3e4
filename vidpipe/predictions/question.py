"""What a run asks of a checkpoint, and the key that says whether a video has been asked the same before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vidpipe.checkpoint_facts import CheckpointFacts
from vidpipe.config import PredictConfig
from vidpipe.journal import table_files
from vidpipe.predictions import FOLDER, read_facts
from vidpipe.predictions.decisions import Decision, make_decision, read_thresholds
from vidpipe.predictions.schema import PredictionFacts
from vidpipe.predictions.sources import stored_spec
from vidpipe.predictions.windows import earlier_windows, window_spec
from vidpipe.spec import ClipSpec
from vidpipe.storage import storage_errors
from vidpipe.transfer import join
from vidpipe.transform_spec import Join

VideoJoin = Join | Literal["max"]
WINDOW_JOINS: dict[str, VideoJoin] = {"mean": "mean_softmax", "vote": "vote", "max": "max"}


@dataclass(frozen=True, eq=False)
class Question:
    facts: PredictionFacts
    temperature: float
    decision: Decision
    join: VideoJoin
    """How the views of a video become its answer: as the checkpoint was measured, or windows as --join says."""
    top: int
    all_scores: bool = False
    with_segments: bool = False
    with_features: bool = False
    notes: tuple[str, ...] = ()
    """Lines to log: what a user must know of the windows."""

    @property
    def windows(self) -> dict[str, Any]:
        """The settings of --segments as they are used."""
        clip = self.facts.clip_spec
        return {"window_s": clip.window_s, "hop_s": clip.hop_s} if self.with_segments else {}


def ask(
    config: PredictConfig, output: str, checkpoint: CheckpointFacts, checkpoint_id: str, checkpoint_url: str
) -> Question:
    """The question of a run: what was not asked for follows the output's rows and the clips of the source."""
    before = stored = None
    if config.segments:
        with storage_errors(output):
            before = read_facts(output) if table_files(join(output, FOLDER)) else None
        stored = stored_spec(config.source)
    return make_question(config, checkpoint, checkpoint_id, checkpoint_url, before=before, stored=stored)


def make_question(
    config: PredictConfig,
    checkpoint: CheckpointFacts,
    checkpoint_id: str,
    checkpoint_url: str,
    *,
    before: PredictionFacts | None = None,
    stored: ClipSpec | None = None,
) -> Question:
    """Raises UsageError for labels or thresholds that are not the checkpoint's.

    `before` are the facts of the output's rows, `stored` how the source's clips were made, where there are some:
    windows that nobody asked for otherwise are theirs.
    """
    thresholds = read_thresholds(config.thresholds, checkpoint_id) if config.thresholds else None
    decision = make_decision(
        checkpoint.labels,
        include=config.include_labels,
        exclude=config.exclude_labels,
        threshold=config.threshold,
        thresholds=thresholds,
    )
    clip, notes = checkpoint.clip, list[str]()
    if clip.window_end == "repeat" and not config.segments:
        notes = ["windows reach past a video's end, where the last frame repeats: so the checkpoint was trained"]
    settings: dict[str, Any] = {**config.answer_settings, "thresholds": thresholds}
    if config.segments:
        earlier = earlier_windows(before, checkpoint_id, stored, relabel=config.relabel)
        clip, notes = window_spec(config, checkpoint, earlier, of_clips=stored is not None)
        settings |= {"window_s": clip.window_s, "hop_s": clip.hop_s}
        if clip.window_end == "shifted":  # the rule of those that do not name one is repeat
            settings["window_end"] = clip.window_end
    facts = PredictionFacts(
        checkpoint_id=checkpoint_id,
        checkpoint_url=checkpoint_url,
        labels=checkpoint.labels,
        clip_spec=clip,
        views=checkpoint.views,
        settings_key=settings_key(settings),
        settings=json.loads(json.dumps(settings)),
    )
    return Question(
        facts=facts,
        temperature=checkpoint.temperature,
        decision=decision,
        join=WINDOW_JOINS[str(config.join)] if config.segments else checkpoint.views.join,
        top=config.top,
        all_scores=config.all_scores,
        with_segments=config.segments,
        with_features=config.features,
        notes=tuple(notes),
    )


def settings_key(settings: Mapping[str, Any]) -> str:
    """16 hex digits that are equal for settings that give equal rows by the same checkpoint."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def with_earlier_labels(question: Question, before: PredictionFacts) -> Question:
    """The question with the labels of the checkpoint that an output's rows are of so far."""
    facts = question.facts
    earlier = {**before.earlier_labels, before.checkpoint_id: before.labels}
    earlier.pop(facts.checkpoint_id, None)
    return replace(question, facts=replace(facts, earlier_labels=earlier))
