"""torchvision's video models: 3D convolutions (r3d, mc3, r2plus1d, s3d) and 3D windows (mvit, swin3d)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import VideoModel, classifier
from vidpipe.models.torchvision_networks import clip_network


def conv3d(spec: ModelSpec, num_labels: int) -> VideoModel:
    network, num_features, model_input = clip_network(spec)
    if spec.backbone == "s3d":
        network.avgpool = ClippedAveragePool((2, 7, 7))
    return VideoModel(ChannelsFirst(network), classifier(spec, num_features, num_labels), model_input)


class ChannelsFirst(nn.Module):
    """A network of torchvision.models.video on clips as everyone here has them: (B, T, 3, H, W) -> (B, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        clips = clips.permute(0, 2, 1, 3, 4)  # (B, T, C, H, W) -> (B, C, T, H, W)
        if clips.device.type == "cpu":
            # Frames come with their channels last, and through such a batch 3D convolutions go back in twice the time.
            clips = clips.contiguous()
        features: Tensor = self.network(clips)
        return features


class ClippedAveragePool(nn.Module):
    """s3d's own pool, no larger than what comes: the same for clips of 224 pixels, and smaller ones do as well."""

    def __init__(self, kernel_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, features: Tensor) -> Tensor:
        kernel = [min(ours, theirs) for ours, theirs in zip(self.kernel_size, features.shape[2:], strict=True)]
        return functional.avg_pool3d(features, kernel, stride=1)
