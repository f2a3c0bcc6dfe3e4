"""What every model is: a backbone that makes features of clips, and a head that makes logits of features.

Single-device code. Layers are drawn from torch's own generator: seed it (`torch.manual_seed`) before building.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vidpipe.model_spec import ModelInput, ModelSpec


class VideoModel(nn.Module):
    """Clips (B, T, 3, H, W) float, normalised as `input` says -> logits (B, num_labels).

    `backbone.network` holds the layers that may start from published weights and that `freeze_backbone` freezes.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, model_input: ModelInput) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.input = model_input
        self.is_frozen = False

    def features(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> what `head` takes: (B, D), or (B, T, D) where it takes features of frames or tokens."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features: Tensor = self.backbone(clips)
        return features

    def forward(self, clips: Tensor) -> Tensor:
        return at_least_float32(self.head(self.features(clips)))

    def freeze_backbone(self) -> None:
        """From now on the backbone neither learns, nor drops out, nor moves the averages of its batch norms."""
        self.is_frozen = True
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def train(self, mode: bool = True) -> VideoModel:
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def file_name(self, name: str) -> str:
        """What a tensor of `state_dict` is called in a checkpoint's model.safetensors."""
        return name

    def present_name(self, name: str) -> str:
        """The name that a tensor has in files written now, where older ones call it `name`."""
        return name

    def published_names(self) -> dict[str, str]:
        """The tensors that published weights may fill: their name there -> their name in `state_dict`."""
        prefix = "backbone.network."
        return {name.removeprefix(prefix): name for name in self.state_dict() if name.startswith(prefix)}

    def is_of_backbone(self, name: str) -> bool:
        """Whether a tensor of `state_dict` is one that weights of this backbone must have: what they are judged by."""
        return name.startswith("backbone.network.") and not name.endswith("num_batches_tracked")


class PerFrame(nn.Module):
    """A network for images on all frames of all clips in one batch: (B, T, 3, H, W) -> (B, T, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.network(clips.flatten(0, 1))
        return features.unflatten(0, clips.shape[:2])


def at_least_float32(logits: Tensor) -> Tensor:
    """Under autocast logits come in half precision, in which sums over frames and labels lose digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def classifier(spec: ModelSpec, num_features: int, num_labels: int) -> nn.Sequential:
    """Features (..., D) -> logits (..., num_labels), as `head`, `mlp_sizes` and `dropout` say."""
    if spec.head == "linear":
        return nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(num_features, num_labels))
    sizes = (num_features, *spec.mlp_sizes)
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes):
        layers += [nn.Linear(size, next_size), nn.ReLU(), nn.Dropout(spec.dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_labels))


def cut_classifier(network: nn.Module, num_classes: int) -> int:
    """Put a layer that does nothing in the place of the one that makes `num_classes` logits; return its features."""
    name, layer = [
        (name, layer)
        for name, layer in network.named_modules()
        if num_classes in (getattr(layer, "out_features", None), getattr(layer, "out_channels", None))
    ][-1]
    network.set_submodule(name, nn.Identity())
    num_features: int = getattr(layer, "in_features", None) or layer.in_channels
    return num_features
