"""What the hub's own tools read beside the weights: a model card, and for a transformer its configuration files."""

from __future__ import annotations

import json
from typing import Any

from vidpipe.checkpoint_facts import CheckpointFacts
from vidpipe.model_spec import ModelInput
from vidpipe.transforms.published import evaluation_text

# Processors that do no more than resize, crop, scale and normalise, by the name of the input that they make.
PROCESSORS = {"pixel_values": "VideoMAEVideoProcessor", "pixel_values_videos": "LlavaOnevisionVideoProcessor"}


def config_json(config: Any, architecture: str, facts: CheckpointFacts, model_input: ModelInput) -> bytes:
    """config.json of a transformer: `from_pretrained` builds it from this, `pipeline` takes its labels from it."""
    content = json.loads(config.to_json_string(use_diff=False))
    content["architectures"] = [architecture]
    content["id2label"] = {str(index): label for index, label in enumerate(facts.labels)}
    content["label2id"] = {label: index for index, label in enumerate(facts.labels)}
    content["num_frames"] = model_input.num_frames  # V-JEPA 2 calls it otherwise, and `pipeline` asks for this
    return json.dumps(content, indent=1).encode() + b"\n"


def preprocessor_json(facts: CheckpointFacts, model_input: ModelInput, input_name: str) -> bytes:
    """preprocessor_config.json: one centre crop, as our own views look at a clip."""
    height, width = facts.size
    is_squashed = facts.clip.resize == "squash"
    short = facts.views.resize_short or min(height, width)
    content = {
        "video_processor_type": PROCESSORS[input_name],
        "do_resize": True,
        "size": {"height": height, "width": width} if is_squashed else {"shortest_edge": short},
        "do_center_crop": not is_squashed,
        "crop_size": {"height": height, "width": width},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model_input.mean),
        "image_std": list(model_input.std),
        "do_convert_rgb": True,
        "do_sample_frames": False,
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def model_card(facts: CheckpointFacts, checkpoint_id: str) -> bytes:
    """README.md as the hub shows it."""
    spec, is_transformer = facts.model, facts.model.model == "transformer"
    clip = {name: value for name, value in json.loads(facts.clip.to_json()).items() if value is not None}
    lines = [
        "---",
        f"library_name: {'transformers' if is_transformer else 'vidpipe'}",
        "pipeline_tag: video-classification",
        "tags: [video-classification, vidpipe]",
        "---",
        "",
        f"# {spec.model} ({spec.backbone}), {len(facts.labels)} labels",
        "",
        f"Made by vidpipe {facts.versions.get('vidpipe', '')}, {facts.created_at}; checkpoint `{checkpoint_id}`.",
        "",
        "## Use",
        "",
        "```python",
        *(_TRANSFORMERS_USE if is_transformer else _VIDPIPE_USE),
        "```",
        "",
        "## Measured",
        "",
        *(_rows(facts.metrics) or ["Nothing yet."]),
        "",
        "## Clips",
        "",
        f"{', '.join(f'{name} {value}' for name, value in clip.items())}. Of each the evaluation "
        f"{evaluation_text((facts.clip.height, facts.clip.width), facts.size, facts.views)}.",
        "",
        "## Labels",
        "",
        ", ".join(facts.labels),
        "",
        "## Training",
        "",
        "```json",
        json.dumps(facts.training, indent=1),
        "```",
    ]
    return "\n".join(lines).encode() + b"\n"


_TRANSFORMERS_USE = (
    "from transformers import pipeline",
    "",
    'answers = pipeline("video-classification", model="THIS_FOLDER")("video.mp4")',
)
_VIDPIPE_USE = (
    "from vidpipe.checkpoints import load_checkpoint",
    "",
    'checkpoint = load_checkpoint("THIS_FOLDER")  # .model, and .facts: labels, clip, views',
)


def _rows(metrics: dict[str, Any], before: str = "") -> list[str]:
    """The numbers and the words among the metrics, those within others too; tables and lists are left out."""
    rows = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{before}{name} ") if name not in ("per_class", "confusion") else []
        elif isinstance(value, float):
            rows.append(f"- {before}{name}: {value:.4f}")
        elif isinstance(value, (int, str)):
            rows.append(f"- {before}{name}: {value}")
    return rows
