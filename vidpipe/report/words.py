"""The protocol and the warnings of a report: what the numbers are of, in sentences."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.answers import JoinedVideos
from vidpipe.predictions import PredictionFacts
from vidpipe.report.training import Training, leakage

FEW_GROUPS = 10


def plural(num: int, word: str) -> str:
    return f"{num:,} {word}{'s' * (num != 1)}"


def protocol(
    videos: JoinedVideos,
    facts: PredictionFacts,
    training: Training,
    *,
    split: str | None,
    interval: str | None,
    num_unlabelled: int,
    num_beside: int,
    num_deleted: int,
) -> list[str]:
    """Which videos, which views, which checkpoint, which intervals."""
    answers, lines = videos.answers, []
    num_unknown = int((answers.answered & (answers.given < 0)).sum())
    if split is None:
        lines.append(
            f"{plural(len(videos), 'video')}, as predicted. No true labels are known, so nothing says which are right."
        )
    else:
        where = "All splits" if split == "all" else f"Split {split}"
        lines.append(
            f"{where}: {plural(len(videos), 'video')} with a true label, each counted once. Not right by rule: "
            f"{int(answers.failed.sum()):,} failed, {int(answers.missing.sum()):,} without a prediction, "
            f"{num_unknown:,} left “unknown”."
        )
    left_out = {
        "without a true label": num_unlabelled,
        "predicted, but not among these": num_beside,
        "deleted since they were predicted": num_deleted if split is None else 0,
    }
    if any(left_out.values()):
        lines.append(f"Left out: {', '.join(f'{num:,} {name}' for name, num in left_out.items() if num)}.")
    lines.append(f"A video's answer: {_views(videos.table, facts)}.")
    lines.append(f"By checkpoint {facts.checkpoint_id}{_model(training)}, {facts.checkpoint_url}.")
    if training.facts is not None and split is not None and split == training.facts.training.get("val_split"):
        lines.append(
            f"Split {split} chose the checkpoint's epoch and its temperature, so expect somewhat less of new videos."
        )
    return [*lines, *([interval + "."] if interval else [])]


def _views(table: pa.Table, facts: PredictionFacts) -> str:
    extent = pc.min_max(table.filter(pc.fill_null(pc.equal(table["status"], "ok"), False))["num_clips"]).as_py()
    least, most = extent["min"] or 0, extent["max"] or 0
    num = f"{most}" if least == most else f"{least} to {most}"
    asked = facts.settings
    if asked.get("segments"):
        return f"{num} windows of {asked['window_s']:g} s, one every {asked['hop_s']:g} s, joined by {asked['join']}"
    crops = facts.views.crops
    return f"{num} clip{'s' * (most != 1)} x {crops} crop{'s' * (crops != 1)}, {facts.views.join.replace('_', ' ')}"


def _model(training: Training) -> str:
    if training.facts is None:
        return ""
    spec = training.facts.model
    return f" ({spec.model}, {spec.backbone}, of {training.facts.created_at[:10]})"


def warnings(
    videos: JoinedVideos,
    facts: PredictionFacts,
    training: Training,
    *,
    split: str | None,
    num_other_rows: int,
) -> list[str]:
    """What a reader must know before believing the numbers."""
    answers, found = videos.answers, []
    if num_other_rows:
        found.append(f"Left out: {plural(num_other_rows, 'row')} of the predictions by other checkpoints or settings.")
    num_damaged = pc.sum(pc.greater(videos.table["num_damaged"], 0)).as_py() or 0
    if num_damaged:
        found.append(f"Labelled although packets are damaged: {plural(num_damaged, 'video')} (num_damaged).")
    if split is None:
        return found
    found += leakage(videos, training)
    if num := int(answers.missing.sum()):
        found.append(f"Without a prediction: {plural(num, 'video')} of the manifest; each counts as wrong.")
    strangers = answers.labels[len(facts.labels) :]
    if strangers:
        num = int((answers.truth >= len(facts.labels)).sum())
        found.append(
            f"Never right: {plural(num, 'video')} of {plural(len(strangers), 'label')} unknown to the checkpoint "
            f"(first: {strangers[0]})."
        )
    table = videos.table
    changed = pc.sum(pc.not_equal(table["version"], table["listed_version"])).as_py() or 0
    if changed:
        found.append(f"Changed between prediction and manifest: {plural(changed, 'video')}.")
    if answers.num_groups is not None and answers.num_groups < FEW_GROUPS:
        found.append(f"The videos come from {plural(answers.num_groups, 'group')}: intervals of so few are rough.")
    return found
