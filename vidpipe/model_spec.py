"""Which model, and what it wants to see: flags of jobs/train.py that travel with the checkpoint. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from vidpipe.errors import UsageError

ModelName = Literal["frame_vote", "cnn_rnn", "conv3d", "transformer"]

DEFAULT_BACKBONES = {"frame_vote": "resnet18", "cnn_rnn": "resnet18", "conv3d": "r3d_18", "transformer": "videomae"}
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")

# The fields that not every model uses, and the models that use them.
USED_BY: dict[str, tuple[str, ...]] = {
    "head": ("frame_vote", "cnn_rnn", "conv3d"),
    "mlp_sizes": ("frame_vote", "cnn_rnn", "conv3d"),
    "dropout": ("frame_vote", "cnn_rnn", "conv3d"),
    "join": ("frame_vote",),
    "rnn": ("cnn_rnn",),
    "rnn_layers": ("cnn_rnn",),
    "rnn_hidden": ("cnn_rnn",),
    "model_config": ("transformer",),
}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Settings that decide a model's layers and the weights it starts from."""

    model: ModelName = "conv3d"
    """frame_vote: a 2D classifier a frame, joined. cnn_rnn: 2D features, then LSTM or GRU. conv3d: torchvision's video
    models. transformer: VideoMAE, TimeSformer, ViViT or V-JEPA 2."""
    backbone: str | None = None
    """frame_vote and cnn_rnn: a torchvision classifier or efficientnet_lite0 (default resnet18). conv3d: r3d_18
    (default), mc3_18, r2plus1d_18, s3d, mvit_v2_s, swin3d_t, swin3d_s or swin3d_b. transformer: videomae (default),
    timesformer, vivit or vjepa2, a name on the hub, or a local folder."""
    weights: str = "default"
    """none, default (the published ones, from the internet), the name of torchvision weights such as KINETICS400_V1, or
    a path or URL of a .safetensors or .pth file. The head always starts anew."""
    freeze_backbone: bool = False
    """Train the head only."""
    head: Literal["linear", "mlp"] = "linear"
    """What makes logits of features: one layer, or several of mlp_sizes."""
    mlp_sizes: tuple[int, ...] = (1024, 512, 256, 128)
    """Hidden layers of the mlp head."""
    dropout: float = 0.0
    """Dropout of the head, and between the layers of the rnn; that within a backbone is the backbone's own."""
    join: Literal["mean", "vote"] = "mean"
    """How frames become a clip: mean of their probabilities, or the label that most frames have."""
    rnn: Literal["lstm", "gru"] = "lstm"
    """Kind of recurrent layer."""
    rnn_layers: int = 1
    """Recurrent layers, one on top of the other."""
    rnn_hidden: int = 100
    """Size of the recurrent state."""
    model_config: tuple[str, ...] = ()
    """Changes to the configuration that the transformer is published with, such as hidden_size=64 num_frames=8."""

    def __post_init__(self) -> None:
        if self.model not in DEFAULT_BACKBONES:
            raise UsageError(f"model must be one of {', '.join(DEFAULT_BACKBONES)}, got {self.model!r}")
        # JSON has lists only; equal specs must be equal.
        for name in ("mlp_sizes", "model_config"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        defaults = {field.name: field.default for field in fields(self)}
        for name, models in USED_BY.items():
            if self.model not in models and getattr(self, name) != defaults[name]:
                raise UsageError(
                    f"{name} is for model {' or '.join(models)}, not {self.model}; "
                    f"drop it, or choose --model {models[0]}"
                )
        if self.head != "mlp" and self.mlp_sizes != defaults["mlp_sizes"]:
            raise UsageError("mlp_sizes is for head mlp, not linear; drop it, or choose --head mlp")
        if self.backbone is None:
            object.__setattr__(self, "backbone", DEFAULT_BACKBONES[self.model])
        self._check()

    def _check(self) -> None:
        for name, choices in (("head", ("linear", "mlp")), ("join", ("mean", "vote")), ("rnn", ("lstm", "gru"))):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not self.backbone:
            raise UsageError("backbone must not be empty; leave it out for the default of the model")
        if not self.mlp_sizes or min(self.mlp_sizes) < 1:
            raise UsageError(f"mlp_sizes must be one or more sizes of 1 or above, got {list(self.mlp_sizes)}")
        for name in ("rnn_layers", "rnn_hidden"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or above, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if not self.weights:
            raise UsageError("weights must be none, default, a torchvision name or a file, got nothing")
        if "/" in self.weights and not self.weights_are_a_file:
            raise UsageError(f"weights must be a file that ends in {', '.join(WEIGHTS_SUFFIXES)}, got {self.weights}")
        if self.model == "transformer" and self.weights not in ("none", "default") and not self.weights_are_a_file:
            raise UsageError(
                f"weights of a transformer must be none, default or a file ({', '.join(WEIGHTS_SUFFIXES)}), "
                f"got {self.weights}; choose others of the hub with --backbone NAME"
            )
        _ = self.config_changes

    @property
    def weights_are_a_file(self) -> bool:
        return self.weights.endswith(WEIGHTS_SUFFIXES)

    @property
    def config_changes(self) -> dict[str, Any]:
        """`model_config` as values: numbers, true, false and lists as JSON has them, else words."""
        changes = {}
        for text in self.model_config:
            name, equals, value = text.partition("=")
            if not name or not equals:
                raise UsageError(f"model_config must be NAME=VALUE such as hidden_size=64, got {text!r}")
            try:
                changes[name] = json.loads(value)
            except json.JSONDecodeError:
                changes[name] = value
        return changes

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelSpec:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class ModelInput:
    """What a built model wants to see: (B, T, 3, height, width) float, normalised with mean and std (of 0 to 1)."""

    height: int
    width: int
    any_size: bool
    """Other sizes than height x width, which it was made for, are as good."""
    num_frames: int | None
    """Exactly this many; of longer clips equally spaced frames are taken. None: any number."""
    min_frames: int
    """Clips with fewer frames are an error."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    min_side: int = 1
    """Pixels that height and width must have at least, where any size is good."""
    resize_short: int | None = None
    """Short side of the frames of which height x width were cut where the published weights were evaluated; None: cut
    of frames that just cover it."""

    def check(self, num_frames: int, height: int, width: int) -> None:
        """Raise UsageError when a model cannot take clips of this many frames of this size, or not as it was made."""
        wanted = self.num_frames or self.min_frames
        if num_frames < wanted:
            least = "exactly" if self.num_frames else "at least"
            raise UsageError(
                f"the model takes {least} {wanted} frames a clip, these clips have {num_frames}; "
                f"preprocess with --num-frames {wanted}, or choose another --backbone"
            )
        if not self.any_size and (height, width) != (self.height, self.width):
            raise UsageError(
                f"the model takes frames of {self.height}x{self.width} pixels only, got {height}x{width}; "
                f"choose that size, or another --backbone"
            )
        if min(height, width) < self.min_side:
            raise UsageError(
                f"the model takes frames of {self.min_side} pixels a side or more, got {height}x{width}; "
                f"preprocess with a larger --size, or choose another --backbone"
            )
