"""VideoMAE, TimeSformer, ViViT and V-JEPA 2 from transformers: by configuration, hub name or local folder.

A checkpoint holds the names of transformers' own model, so that its `from_pretrained` reads what we wrote.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.models.base import VideoModel

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Family:
    hub_name: str
    """What `--weights default` starts from."""
    mean: Channels
    std: Channels
    resize_ratio: float = 1.0
    """Short side that frames are scaled to, by the side of the crop."""


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# As in the published preprocessor_config.json; ViViT's scales pixels to -1..1 before (x - 0.5) / 0.5.
FAMILIES = {
    "videomae": Family("MCG-NJU/videomae-base-finetuned-kinetics", *IMAGENET),
    "timesformer": Family("facebook/timesformer-base-finetuned-k400", (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    "vivit": Family("google/vivit-b-16x2-kinetics400", (0.75, 0.75, 0.75), (0.25, 0.25, 0.25), 256 / 224),
    "vjepa2": Family("facebook/vjepa2-vitl-fpc16-256-ssv2", *IMAGENET, 292 / 256),
}
PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
# VideoMAE's biases in the published files, and in checkpoints of transformers before 5.23.
PRESENT_NAMES = {"q_bias": "query.bias", "v_bias": "value.bias"}
# The layers after the encoder, in their order, as far as a family has them: VideoMAE's norm, V-JEPA 2's attention.
HEAD_LAYERS = ("fc_norm", "pooler", "classifier")


def transformer(spec: ModelSpec, num_labels: int, config: dict[str, Any] | None = None) -> VideoModel:
    """A model with random weights; `config` is a checkpoint's own, else it is made from the spec."""
    settings = _config(spec) if config is None else _plain_config(config)
    settings.num_labels = num_labels
    try:
        network = _hub().AutoModelForVideoClassification.from_config(settings, trust_remote_code=False)
    except (ValueError, TypeError) as error:
        raise UsageError(f"model_config {' '.join(spec.model_config) or 'as published'}: {error}") from error
    return Transformer(network, _input(spec, settings))


class Transformer(VideoModel):
    """A video classifier of transformers, cut in two: encoder, and the layers behind it."""

    def __init__(self, network: Any, model_input: ModelInput) -> None:
        layers = OrderedDict((name, getattr(network, name)) for name in HEAD_LAYERS if getattr(network, name, None))
        for name in layers:
            setattr(network, name, nn.Identity())
        super().__init__(Encoder(network), nn.Sequential(layers), model_input)
        self.config = network.config
        for name, parameter in network.named_parameters():
            if ".predictor." in name:  # V-JEPA 2's, which classifying does not use: DDP would wait for its gradient
                parameter.requires_grad_(False)

    def file_name(self, name: str) -> str:
        return name.removeprefix("backbone.network.").removeprefix("head.")

    def present_name(self, name: str) -> str:
        layer, dot, tensor = name.rpartition(".")
        return f"{layer}{dot}{PRESENT_NAMES.get(tensor, tensor)}"

    def published_names(self) -> dict[str, str]:
        """All but the classifier: what is behind the encoder starts from its published weights where there are any."""
        names = {self.file_name(name): name for name in self.state_dict()}
        return {theirs: ours for theirs, ours in names.items() if not theirs.startswith("classifier.")}

    def is_of_backbone(self, name: str) -> bool:
        # Pretrained encoders come with or without V-JEPA 2's predictor, which classifying does not use.
        return super().is_of_backbone(name) and ".predictor." not in name


class Encoder(nn.Module):
    """Clips (B, T, 3, H, W) -> features (B, D); V-JEPA 2: of all patches, (B, N, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.network(**{self.network.main_input_name: clips}).logits
        return features


def _plain_config(config: dict[str, Any]) -> Any:
    """A checkpoint's configuration without what would fetch or run something (auto_map, attn_implementation, …): only
    settings are taken that the family has by itself."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UsageError(
            f"config.json is of a {kind}, not of {', '.join(FAMILIES)}; take a checkpoint made by jobs/train.py"
        )
    known = _hub().AutoConfig.for_model(kind).to_dict()
    return _hub().AutoConfig.for_model(**{name: value for name, value in config.items() if name in known})


def _config(spec: ModelSpec) -> Any:
    backbone = str(spec.backbone)
    if backbone in FAMILIES and spec.weights != "default":
        published = _hub().AutoConfig.for_model(backbone)
    else:
        published = _from_hub(_hub().AutoConfig, _hub_name(spec))
    if published.model_type not in FAMILIES:
        raise UsageError(
            f"backbone {backbone} is a {published.model_type}, not a video classifier that this project knows; "
            f"choose one of {', '.join(FAMILIES)}, or a hub name or folder of these kinds"
        )
    changes = spec.config_changes
    unknown = [name for name in changes if not hasattr(published, name)]
    if unknown:
        raise UsageError(f"model_config {unknown[0]} is not a setting of {published.model_type}; check its spelling")
    # From the changes alone where that is possible: some settings follow from others.
    base = {"model_type": published.model_type} if backbone in FAMILIES else published.to_dict()
    if spec.weights == "default":
        base = published.to_dict()
    try:
        return _hub().AutoConfig.for_model(**{**base, **changes})
    except Exception as error:
        raise UsageError(f"model_config {' '.join(spec.model_config)}: {error}") from error


def _input(spec: ModelSpec, config: Any) -> ModelInput:
    size = config.crop_size if config.model_type == "vjepa2" else config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    num_frames = config.frames_per_clip if config.model_type == "vjepa2" else config.num_frames
    family = _published_look(spec, config.model_type)
    short = round(min(height, width) * family.resize_ratio)
    return ModelInput(height, width, False, num_frames, num_frames, family.mean, family.std, resize_short=short)


def _published_look(spec: ModelSpec, model_type: str) -> Family:
    """The family, with what a hub name's or folder's own preprocessing says: mean and std, found by showing it black
    and white, and sizes."""
    family = FAMILIES[model_type]
    if spec.backbone in FAMILIES and spec.weights != "default":
        return family
    try:
        processor = _hub().AutoVideoProcessor.from_pretrained(_hub_name(spec), trust_remote_code=False)
    except (OSError, ValueError) as error:
        there = [file for file in PROCESSOR_FILES if os.path.exists(os.path.join(_hub_name(spec), file))]
        if there:
            raise UsageError(f"{_hub_name(spec)}/{there[0]} cannot be read ({error}); correct the file") from error
        return family  # published without one, as some are
    names = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    pixels = torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    shown = processor.rescale_and_normalize(pixels, **{name: getattr(processor, name) for name in names})
    black, white = shown.double().flatten(1)
    std = 1 / (white - black)
    mean_r, mean_g, mean_b, std_r, std_g, std_b = (round(value, 6) for value in torch.cat([-black * std, std]).tolist())
    ratio = _resize_ratio(processor)
    return Family(family.hub_name, (mean_r, mean_g, mean_b), (std_r, std_g, std_b), ratio)


def _resize_ratio(processor: Any) -> float:
    """Short side of the frames by that of the crop; 1 where they are squashed to the model's size, or not cut."""
    short = processor.size.shortest_edge if processor.do_resize and processor.do_center_crop else None
    return short / min(processor.crop_size.height, processor.crop_size.width) if short else 1.0


def hub_state(spec: ModelSpec) -> tuple[dict[str, Tensor], str]:
    """The tensors of a hub name or local folder and where they are from; those it has not are left out."""
    name = _hub_name(spec)
    network, info = _from_hub(_hub().AutoModelForVideoClassification, name, output_loading_info=True)
    state = {key: tensor for key, tensor in network.state_dict().items() if key not in info["missing_keys"]}
    return state, name


def _hub() -> Any:
    """The library, loaded when a transformer is asked for: two seconds that every worker with another model saves."""
    import transformers

    return transformers


def _hub_name(spec: ModelSpec) -> str:
    family = FAMILIES.get(str(spec.backbone))
    return family.hub_name if family else str(spec.backbone)


def _from_hub(loader: Any, name: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        where = "is not a folder that holds one" if os.path.isdir(name) else "cannot be fetched from the hub"
        raise UsageError(
            f"model {name} {where} ({str(error).splitlines()[0]}); give a local folder as --backbone, or start from "
            f"nothing with --weights none and --backbone {', '.join(FAMILIES)}"
        ) from error
