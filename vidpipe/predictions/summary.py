"""What predict prints: the answer for one video, the plan of a dry run, the five lines that end a run."""

from __future__ import annotations

from typing import Any

from vidpipe.config import PredictConfig
from vidpipe.label_video import VideoAnswer
from vidpipe.predictions.estimate import Estimate
from vidpipe.predictions.log import WorkLeft
from vidpipe.predictions.question import Question


def answer_lines(config: PredictConfig, answer: VideoAnswer, question: Question) -> list[str]:
    decision = question.decision
    allowed = [
        (label, score)
        for label, score in zip(answer.labels, answer.scores, strict=True)
        if decision.is_allowed[decision.labels.index(label)]
    ]
    best, best_score = allowed[0]
    damaged = answer.facts["num_damaged"]
    given = decision.label(decision.labels.index(best), best_score)
    return [
        f"video      {config.source}",
        f"by         {config.checkpoint} ({question.facts.checkpoint_id}), {answer.num_clips} clips x "
        f"{answer.num_crops} crops",
        *([f"damage     {damaged} packets of the video are damaged: frames may show it"] if damaged else []),
        *([f"label      {given}: {best} needs a higher score"] if given != best else []),
        *(f"{score:10.4f} {label}" for label, score in allowed[: config.top]),
    ]


def plan_lines(
    config: PredictConfig, num_videos: int, left: WorkLeft, num_todo: int, estimate: Estimate | None
) -> list[str]:
    """What a run would do, for --dry-run."""
    lines = [
        f"videos     {num_videos}: {num_todo} to label ({left.num_new} new, {left.num_changed} changed, "
        f"{left.num_asked_otherwise} by another checkpoint or settings, {left.num_retried} retried), "
        f"{left.num_unchanged} unchanged{gone_text(left)}"
    ]
    if estimate is not None:
        hours = estimate.seconds / 3600
        lines.append(f"video      about {estimate.video_hours:.2f} hours of it")
        lines.append(f"time       about {duration_text(estimate.seconds)}, by {estimate.basis}")
        if config.price_per_hour is not None:
            lines.append(f"cost       about {hours * config.price_per_hour:.2f}, at {config.price_per_hour:g} an hour")
    return [*lines, "dry run    nothing was done"]


def summary_lines(config: PredictConfig, facts: dict[str, Any], left: WorkLeft, seconds: float) -> list[str]:
    """The five lines that end a run; `facts` are those of run.json."""
    counts = facts["counts"]
    remaining = f" + {counts['remaining']} remaining" if counts["remaining"] else ""
    failures = ", ".join(f"{code} {number}" for code, number in facts["failed_by_code"].items()) or "none"
    if left.num_unchanged_failed:
        failures += f"; {left.num_unchanged_failed} of earlier runs (--retry-failed tries them again)"
    if facts["ok_with_damage"]:
        failures += f"; {facts['ok_with_damage']} ok with damaged packets (num_damaged)"
    busy = facts["model_busy_share"]
    at_work = "" if busy is None else f"; models at work {100 * busy:.0f} % of the time, {facts['num_actors']} of them"
    beside = [name for name in ("segments", "features") if getattr(config, name)]
    beside += [f"predictions.{name}" for name in ("jsonl", "csv") if getattr(config, name)]
    return [
        f"videos     {counts['videos']} = {counts['ok']} ok + {counts['failed']} failed + {counts['unchanged']} "
        f"unchanged{remaining}{gone_text(left)}",
        f"failures   {failures}",
        f"labels     by checkpoint {facts['checkpoint_id']}, {facts['num_clips']} clips of "
        f"{facts['video_hours']:.2f} hours of video{at_work}",
        f"time       {seconds:.1f} s, {facts['videos_per_s']:.1f} videos/s, {facts['video_hours_per_hour']:.0f} hours "
        f"of video an hour, {facts['bytes_read'] / 1e6:.1f} MB read",
        f"output     {config.output}: {', '.join(['predictions', *beside])}, run.json",
    ]


def gone_text(left: WorkLeft) -> str:
    return f"; {len(left.gone)} deleted since" if len(left.gone) else ""


def duration_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
