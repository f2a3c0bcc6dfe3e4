"""What a run asks of a checkpoint, and the key that says whether a video has been asked the same before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from vidpipe.checkpoint_facts import CheckpointFacts
from vidpipe.config import PredictConfig
from vidpipe.predictions.decisions import Decision, make_decision, read_thresholds
from vidpipe.predictions.schema import PredictionFacts
from vidpipe.spec import SAMPLING_FIELDS, ClipSpec
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


def make_question(
    config: PredictConfig, checkpoint: CheckpointFacts, checkpoint_id: str, checkpoint_url: str
) -> Question:
    """Raises UsageError for labels or thresholds that are not the checkpoint's."""
    thresholds = read_thresholds(config.thresholds, checkpoint_id) if config.thresholds else None
    decision = make_decision(
        checkpoint.labels,
        include=config.include_labels,
        exclude=config.exclude_labels,
        threshold=config.threshold,
        thresholds=thresholds,
    )
    settings: dict[str, Any] = {**config.answer_settings, "thresholds": thresholds}
    facts = PredictionFacts(
        checkpoint_id=checkpoint_id,
        checkpoint_url=checkpoint_url,
        labels=checkpoint.labels,
        clip_spec=clip_spec_of(config, checkpoint.clip),
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
    )


def clip_spec_of(config: PredictConfig, clip: ClipSpec) -> ClipSpec:
    """The checkpoint's own clips, or windows of as many frames, made in the same way."""
    if not config.segments:
        return clip
    windows: dict[str, Any] = {"sampling": "windows", "num_frames": clip.num_frames}
    windows |= {"window_s": config.window_s, "hop_s": config.hop_s}
    of_sampling = {"sampling", *(name for names in SAMPLING_FIELDS.values() for name in names)}
    alike: dict[str, Any] = {name: value for name, value in asdict(clip).items() if name not in of_sampling}
    return ClipSpec(**alike, **windows)


def settings_key(settings: Mapping[str, Any]) -> str:
    """16 hex digits that are equal for settings that give equal rows by the same checkpoint."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()


def with_earlier_labels(question: Question, before: PredictionFacts) -> Question:
    """The question with the labels of the checkpoint that an output's rows are of so far."""
    facts = question.facts
    earlier = {**before.earlier_labels, before.checkpoint_id: before.labels}
    earlier.pop(facts.checkpoint_id, None)
    return replace(question, facts=replace(facts, earlier_labels=earlier))
