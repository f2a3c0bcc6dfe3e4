"""All that report.json says."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import pyarrow.compute as pc

from vidpipe import __version__
from vidpipe.config import EvaluateConfig
from vidpipe.errors import UsageError
from vidpipe.metrics.answers import evaluate_answers
from vidpipe.plain_text import redacted
from vidpipe.report.inputs import Inputs
from vidpipe.report.numbers import comparison, confused_pairs, counts, drift, failures, thresholds, worth_looking_at
from vidpipe.report.training import Training
from vidpipe.report.words import protocol, warnings


def build_report(config: EvaluateConfig, inputs: Inputs) -> dict[str, Any]:
    """Ready for JSON; `metrics`, `thresholds` and `confused` are None where no truth is known."""
    videos, facts, training = inputs.videos, inputs.facts, inputs.training
    has_truth = inputs.split is not None
    if has_truth and not len(videos):
        raise UsageError(f"no video of split {inputs.split} has a label; fill the manifest's column label")
    metrics = evaluate_answers(videos.answers) if has_truth else None
    times = pc.min_max(inputs.predictions["predicted_at"]).as_py()
    interval = metrics["interval"] if metrics else None
    return {
        "command": "evaluate",
        "created_at": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "settings": redacted(asdict(config)),
        "versions": {"vidpipe": __version__, "python": platform.python_version()},
        "checkpoint": {"id": facts.checkpoint_id, "url": facts.checkpoint_url, "model": _model(training)},
        "predicted_at": [times[name].isoformat() for name in ("min", "max")],
        "split": inputs.split,
        "split_name": "all splits" if inputs.split == "all" else f"split {inputs.split}",
        "protocol": protocol(
            videos,
            facts,
            training,
            split=inputs.split,
            interval=interval,
            num_unlabelled=inputs.num_unlabelled,
            num_beside=inputs.num_beside,
            num_deleted=inputs.num_deleted,
        ),
        "warnings": warnings(
            videos,
            facts,
            training,
            split=inputs.split,
            num_other_rows=inputs.num_other_rows,
        ),
        "metrics": metrics,
        "thresholds": thresholds(videos.answers, config.precision, config.confidence, config.min_videos)
        if has_truth
        else None,
        "confused": None if metrics is None else confused_pairs(metrics),
        "counts": {**counts(videos), "num_deleted": inputs.num_deleted},
        "failures": failures(videos.table),
        "shown": worth_looking_at(videos, config.strips or 12),
        "against": _against(config, inputs),
        "drift": None
        if inputs.before is None
        else {"url": config.drift_from, **drift(inputs.predictions, inputs.before)},
        "training": {
            "epochs": training.epochs,
            "best_epoch": training.best_epoch,
            "split": "val" if training.facts is None else training.facts.training.get("val_split", "val"),
            "notes": training.notes,
        },
        "run": inputs.run,
    }


def thresholds_file(report: dict[str, Any]) -> dict[str, Any] | None:
    """What `jobs/predict.py --thresholds` reads; None where no truth is known."""
    found = report["thresholds"]
    if found is None:
        return None
    return {
        "precision": found["precision"],
        "confidence": found["confidence"],
        "checkpoint_id": report["checkpoint"]["id"],
        "thresholds": {label: each["threshold"] for label, each in found["labels"].items()},
        "rule": found["rule"],
        "behind": found["labels"],
    }


def _model(training: Training) -> str | None:
    return None if training.facts is None else f"{training.facts.model.model}, {training.facts.model.backbone}"


def _against(config: EvaluateConfig, inputs: Inputs) -> dict[str, Any] | None:
    if inputs.against is None:
        return None
    other, facts = inputs.against
    found = comparison(inputs.videos, other, config.strips or 12)
    return {"url": config.against, "checkpoint_id": facts.checkpoint_id, **found}
