"""What a checkpoint says of itself: all that is needed to use its weights, and what they were measured to do.

Imports no torch: what asks for the facts alone starts at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    model: ModelSpec
    labels: tuple[str, ...]
    """In the order of the logits."""
    clip: ClipSpec
    """How clips were made of videos."""
    views: ViewSpec
    """How the clips were looked at when the metrics were measured."""
    size: tuple[int, int]
    """Height and width that the model was shown."""
    clip_span_s: float | None = None
    """Seconds that a training clip spanned (median); None of checkpoints of earlier releases."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax, so that scores are calibrated."""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created_at: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(self.size) != 2:
            raise UsageError(f"size must be height and width, got {self.size}")
        height, width = self.size
        object.__setattr__(self, "size", (height, width))
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise UsageError(f"labels must be one or more, each once, got {list(self.labels)}")
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"temperature must be above 0, got {self.temperature}")

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raise UsageError when the checkpoint cannot know some of these labels."""
        unknown = sorted(set(labels) - set(self.labels))
        if unknown:
            raise UsageError(
                f"the checkpoint was trained on {len(self.labels)} labels ({_some(self.labels)}), and not on "
                f"{_some(unknown)}; choose a checkpoint of the same labels, or train one"
            )


def _some(labels: Iterable[str]) -> str:
    labels = list(labels)
    return ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")


def facts_to_json(facts: CheckpointFacts, model_input: ModelInput, sha256: dict[str, str]) -> bytes:
    """checkpoint.json; `sha256` of the files that decide what the model answers."""
    content = {
        "format": FORMAT,
        "checkpoint_id": checkpoint_id(facts, sha256),
        "sha256": sha256,
        "input": asdict(model_input),
        **asdict(facts),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def facts_from_json(text: bytes, url: str) -> tuple[CheckpointFacts, ModelInput, dict[str, str]]:
    """The facts, what the model wants to see, and the sha256 of the files. Raises UsageError for what is not ours."""
    way_out = "use the version that wrote it (its `versions`), or train again"
    with given_file(url, way_out, "is not a checkpoint.json of this version of vidpipe"):
        content = json.loads(text)
    try:
        written, stated = content.pop("format"), content.pop("checkpoint_id")
        sha256, seen = content.pop("sha256"), content.pop("input")
        if written != FORMAT:
            raise UsageError(f"format {written} is not {FORMAT}")
        model_input = ModelInput(**{**seen, "mean": tuple(seen["mean"]), "std": tuple(seen["std"])})
        for name, kind in (("model", ModelSpec), ("views", ViewSpec)):
            content[name] = kind(**content[name])
        content["clip"] = ClipSpec.from_stored(content["clip"])
        facts = CheckpointFacts(**content)
    except (UsageError, TypeError, KeyError, AttributeError) as error:  # other fields, or values of another kind
        raise UsageError(f"{url} is not a checkpoint.json of this version of vidpipe ({error}); {way_out}") from error
    if stated != checkpoint_id(facts, sha256):
        raise UsageError(
            f"{url} was changed after it was written (checkpoint_id {stated} is not its content's "
            f"{checkpoint_id(facts, sha256)}); take the file as it was written, or train again"
        )
    return facts, model_input, sha256


def checkpoint_id(facts: CheckpointFacts, sha256: dict[str, str]) -> str:
    """16 hex digits that are equal for checkpoints that give equal answers."""
    names = ("model", "labels", "clip", "views", "size", "temperature")
    content = {name: value for name, value in asdict(facts).items() if name in names}
    content["clip"] = facts.clip.without_earlier_rules
    text = json.dumps({**content, "sha256": sha256}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
