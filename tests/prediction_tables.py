"""Tables of predictions and manifests for tests, written as jobs/predict.py and jobs/index.py write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidpipe.journal import Journal
from vidpipe.manifest.schema import MANIFEST_SCHEMA, video_id, write_manifest
from vidpipe.predictions.schema import PREDICTION_COLUMNS, PredictionFacts, prediction_schema
from vidpipe.spec import ClipSpec
from vidpipe.transfer import join, put_bytes
from vidpipe.transform_spec import ViewSpec

NIGHT = datetime(2026, 11, 20, 1, 2, 3, tzinfo=timezone.utc)
SETTINGS_KEY = "0123456789abcdef"


def answer(url: str, label: str, score: float, top_labels: Sequence[str] = (), **columns: Any) -> dict[str, Any]:
    """A video that was read; `label` may be unknown, then `top_labels` say what was likeliest."""
    top_labels = list(top_labels) or [label]
    rest = (1 - score) / max(len(top_labels) - 1, 1)
    scores = [score, *[rest] * (len(top_labels) - 1)]
    row = {"label": label, "score": score, "top_labels": top_labels, "top_scores": scores, "num_clips": 1}
    return {"url": url, "status": "ok", **row, **columns}


def failure(url: str, code: str = "truncated", **columns: Any) -> dict[str, Any]:
    return {"url": url, "status": "failed", "error_code": code, "error": "the file ends early", **columns}


def write_predictions(
    output: Path | str,
    labels: Sequence[str],
    rows: list[dict[str, Any]],
    *,
    checkpoint: tuple[str, str] = ("c0ffee0123456789", "/nowhere/model"),
    at: datetime = NIGHT,
    run: dict[str, Any] | None = None,
) -> str:
    facts = PredictionFacts(
        checkpoint_id=checkpoint[0],
        checkpoint_url=checkpoint[1],
        labels=tuple(labels),
        clip_spec=ClipSpec(),
        views=ViewSpec(),
        settings_key=SETTINGS_KEY,
    )
    always = {"version": "1", "checkpoint_id": checkpoint[0], "settings_key": SETTINGS_KEY, "predicted_at": at}
    always |= {"is_deleted": False, "num_clips": 0}
    table = [dict.fromkeys(PREDICTION_COLUMNS) | always | {"video_id": video_id(row["url"])} | row for row in rows]
    Journal(join(str(output), "predictions"), prediction_schema(facts)).commit(table)
    if run is not None:
        put_bytes(json.dumps(run).encode(), join(str(output), "run.json"))
    return str(output)


def manifest_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Of rows with `url`, and `label`, `split`, `group` where they have one."""
    always = {"version": "1", "size_bytes": 1, "label": None, "group": None, "split": None}
    return pa.Table.from_pylist([always | {"video_id": video_id(row["url"])} | row for row in rows], MANIFEST_SCHEMA)


def write_truth(path: Path | str, rows: list[dict[str, Any]]) -> str:
    write_manifest(manifest_table(rows), str(path))
    return str(path)


def random_night(
    urls: Sequence[str], labels: Sequence[str], truth: Sequence[str | None], *, skill: float, seed: int
) -> list[dict[str, Any]]:
    """Answers that are right the more often the greater `skill`; one video in fifty failed."""
    rng = np.random.default_rng(seed)
    index = {label: number for number, label in enumerate(labels)}
    rows = []
    for url, label in zip(urls, truth, strict=True):
        if rng.random() < 0.02:
            rows.append(failure(url, str(rng.choice(["truncated", "corrupt", "timeout"]))))
            continue
        logits = rng.normal(size=len(labels))
        if label in index:
            logits[index[label]] += skill
        shares = np.exp(logits) / np.exp(logits).sum()
        best = np.argsort(-shares)[:5]
        top = {"top_labels": [labels[each] for each in best], "top_scores": [float(shares[each]) for each in best]}
        rows.append({**answer(url, labels[best[0]], float(shares[best[0]])), **top})
    return rows
