"""The outcome of a training run: facts for run.json, and the lines that end it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidpipe.config import TrainConfig
from vidpipe.training.clip_rows import ClipRows, LabelledClips
from vidpipe.training.run import read_history


def run_facts(config: TrainConfig, clips: LabelledClips, resources: dict[str, float]) -> dict[str, Any]:
    """For run.json: what went in, what came out, and how fast."""
    history = read_history(config.output)
    epochs = history["epochs"]
    seconds = sum(entry["seconds"] for entry in epochs)
    return {
        "splits": {name: split_counts(rows) for name, rows in clips.splits.items()},
        "labels": list(clips.labels),
        "epochs": len(epochs),
        "best_epoch": history.get("best_epoch"),
        "metrics": history.get("metrics", {}),
        "checkpoint_id": history.get("checkpoint_id"),
        "worker_resources": resources,
        "clips_per_s": _mean(epochs, "clips_per_s", seconds),
        "data_wait_share": _mean(epochs, "data_wait_share", seconds),
    }


def _mean(epochs: list[dict[str, Any]], name: str, seconds: float) -> float | None:
    """The mean over the time of the epochs."""
    return round(sum(entry[name] * entry["seconds"] for entry in epochs) / seconds, 4) if epochs else None


def split_counts(rows: ClipRows) -> dict[str, int]:
    return {"clips": len(rows), "videos": rows.num_videos, "failed_videos": len(rows.failed)}


def summary_lines(config: TrainConfig, clips: LabelledClips, facts: dict[str, Any], seconds: float) -> Iterator[str]:
    """The lines that end a run, from its facts for run.json."""
    counts = ", ".join(
        f"{name} {one['videos']} videos ({one['clips']} clips, {one['failed_videos']} failed)"
        for name, one in facts["splits"].items()
    )
    yield f"clips      {counts}; {len(clips.labels)} labels"
    for split, metrics in facts["metrics"].items():
        yield f"{split:<10} {metrics_line(metrics)}"
    if not facts["metrics"]:
        yield f"stopped    after {config.max_steps} steps, before the end of an epoch"
    else:
        yield f"best       epoch {facts['best_epoch']} of {facts['epochs']}, by {config.best_by} on {config.val_split}"
        waiting = 100 * facts["data_wait_share"]
        yield f"time       {seconds:.1f} s, {facts['clips_per_s']:.1f} clips/s, {waiting:.0f} % waiting for data"
    yield f"output     {config.output}: best/ and last/ (checkpoints), history.json, tensorboard/, run.json"


def metrics_line(metrics: dict[str, Any]) -> str:
    """The numbers with their protocol."""
    low, high = metrics["top1_ci"]
    return (
        f"top-1 {100 * metrics['top1']:.1f} % (95 % CI {100 * low:.1f} to {100 * high:.1f}), "
        f"top-5 {100 * metrics['top5']:.1f} %, mean class {100 * metrics['mean_class_accuracy']:.1f} %; "
        f"{metrics['protocol']['text']}; {metrics['num_videos']} videos, {metrics['num_failed']} failed count as wrong"
    )
