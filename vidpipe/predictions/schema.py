"""The columns of the predictions table, and the facts that its files carry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from vidpipe.own_files import METADATA_KEY
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec
from vidpipe.video_facts import VIDEO_FACTS

UNKNOWN = "unknown"
"""The label of a video whose best score stays below its threshold."""

PREDICTION_COLUMNS = {
    "video_id": pa.string(),
    "url": pa.string(),
    "version": pa.string(),
    "status": pa.string(),
    "error_code": pa.string(),
    "error": pa.string(),
    "label": pa.string(),
    "score": pa.float64(),
    "top_labels": pa.list_(pa.string()),
    "top_scores": pa.list_(pa.float64()),
    "scores": pa.list_(pa.float32()),
    "checkpoint_id": pa.string(),
    "settings_key": pa.string(),
    "predicted_at": pa.timestamp("us", tz="UTC"),
    **{name: pa.type_for_alias(kind) for name, kind in VIDEO_FACTS},
    "decode_s": pa.float64(),
    "bytes_read": pa.int64(),
    "num_requests": pa.int64(),
    "is_deleted": pa.bool_(),
    "segments_part": pa.string(),
    "features_part": pa.string(),
}
SEGMENT_COLUMNS = {
    "video_id": pa.string(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "label": pa.string(),
    "score": pa.float64(),
}


@dataclass(frozen=True)
class PredictionFacts:
    """What the rows of a predictions file have in common."""

    checkpoint_id: str
    checkpoint_url: str
    labels: tuple[str, ...]
    """In the order of the logits."""
    clip_spec: ClipSpec
    views: ViewSpec
    settings_key: str
    """What was asked of the checkpoint: equal for settings that give equal rows."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The settings behind the key."""
    earlier_labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Labels of earlier checkpoints, by their id: of rows that were not labelled again (deleted, or not listed)."""

    def labels_of(self, checkpoint_id: str) -> tuple[str, ...]:
        """In the order of the column `scores` of a row of that checkpoint."""
        return self.labels if checkpoint_id == self.checkpoint_id else self.earlier_labels[checkpoint_id]

    def to_json(self) -> bytes:
        content = {
            "checkpoint": {"id": self.checkpoint_id, "url": self.checkpoint_url},
            "labels": list(self.labels),
            "clip_spec": json.loads(self.clip_spec.to_json()),
            "views": asdict(self.views),
            "settings_key": self.settings_key,
            "settings": self.settings,
            "earlier_labels": self.earlier_labels,
        }
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, text: bytes) -> PredictionFacts:
        content = json.loads(text)
        return cls(
            checkpoint_id=content["checkpoint"]["id"],
            checkpoint_url=content["checkpoint"]["url"],
            labels=tuple(content["labels"]),
            clip_spec=ClipSpec.from_stored(content["clip_spec"]),
            views=ViewSpec(**content["views"]),
            settings_key=content["settings_key"],
            settings=content["settings"],
            earlier_labels={key: tuple(labels) for key, labels in content["earlier_labels"].items()},
        )


def prediction_schema(facts: PredictionFacts) -> pa.Schema:
    return pa.schema(PREDICTION_COLUMNS, {METADATA_KEY: facts.to_json()})


def feature_columns(num_features: int) -> dict[str, pa.DataType]:
    """Of OUT/features/*.parquet: a row a clip, `num_features` numbers each."""
    return {
        "video_id": pa.string(),
        "url": pa.string(),
        "version": pa.string(),
        "clip_index": pa.int32(),
        "start_s": pa.float64(),
        "end_s": pa.float64(),
        "features": pa.list_(pa.float32(), num_features),
    }
