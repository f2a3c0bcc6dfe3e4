"""torchvision's networks without their last layer, what they want to see, and the weights published for them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torchvision
from torch import Tensor, nn

from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.models.base import cut_classifier
from vidpipe.models.efficientnet_lite import efficientnet_lite0, efficientnet_lite0_weights


@dataclass(frozen=True)
class OwnNetwork:
    """A network that torchvision has not; to add one is to add one line to `OWN_NETWORKS`."""

    build: Callable[[], nn.Module]
    weights_file: Callable[[], str]
    """Where `--weights default` is, or UsageError."""
    model_input: ModelInput


# TensorFlow's lite models were trained with (pixel - 127) / 128, which the averages in their first batch norm confirm,
# and evaluated on the centre of a frame without a border of 16 pixels (crop padding 32).
LITE_INPUT = ModelInput(
    224, 224, True, None, 1, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, min_side=32, resize_short=256
)
OWN_NETWORKS = {
    "efficientnet_lite0": OwnNetwork(efficientnet_lite0, efficientnet_lite0_weights, LITE_INPUT),
}
# Networks whose position encodings or windows fit one size only.
ONE_SIZE = ("vit_", "maxvit_", "mvit_")
# Trained with an input that is scaled once more within the network; the losses on the side are left out.
_INCEPTION = {"aux_logits": False, "transform_input": True, "init_weights": True}
ARGUMENTS: dict[str, dict[str, Any]] = {"inception_v3": _INCEPTION, "googlenet": _INCEPTION}
# The smallest frames and the shortest clips that go through; torchvision names what it was trained with.
MIN_SIDES = {"s3d": 24, "swin_": 16, "densenet": 32}
NUM_FRAMES = {"mvit_v1_b": 16, "mvit_v2_s": 16}
# s3d goes through with 5 frames, but with fewer than 8 the gradient of its first convolution in time (over 7 frames,
# stride 2) is garbage on a CPU with AVX-512, or written past its end: oneDNN of torch 2.15, found by MALLOC_CHECK_=3.
MIN_FRAMES = {"s3d": 8, **NUM_FRAMES}
NUM_CLASSES = {"frame": 1000, "clip": 400}


def frame_network(spec: ModelSpec) -> tuple[nn.Module, int, ModelInput]:
    """A classifier of images without its last layer: (N, 3, H, W) -> (N, D); D; what it wants to see."""
    own = OWN_NETWORKS.get(str(spec.backbone))
    if own is None:
        return _network(spec, torchvision.models, NUM_CLASSES["frame"])
    network = own.build()
    return network, cut_classifier(network, NUM_CLASSES["frame"]), own.model_input


def clip_network(spec: ModelSpec) -> tuple[nn.Module, int, ModelInput]:
    """A classifier of videos without its last layer: (B, 3, T, H, W) -> (B, D); D; what it wants to see."""
    return _network(spec, torchvision.models.video, NUM_CLASSES["clip"])


def _network(spec: ModelSpec, module: Any, num_classes: int) -> tuple[nn.Module, int, ModelInput]:
    name = str(spec.backbone)
    known = torchvision.models.list_models(module)
    if name not in known:
        close = difflib.get_close_matches(name, known, 3, 0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else f"one of them is {known[-1]}"
        raise UsageError(f"backbone {name} is not one of torchvision's for --model {spec.model}; {hint}")
    published = published_weights(spec)
    look = published.transforms()
    # A ViT's position encodings are as large as the frames of the weights that were asked for.
    size = {"image_size": look.crop_size[0]} if name.startswith("vit_") else {}
    network = torchvision.models.get_model(name, weights=None, **size, **ARGUMENTS.get(name, {}))
    return network, cut_classifier(network, num_classes), _input(name, published, look)


def _input(name: str, published: Any, look: Any) -> ModelInput:
    any_size = not name.startswith(ONE_SIZE)
    sides = [side for prefix, side in MIN_SIDES.items() if name.startswith(prefix)]
    return ModelInput(
        height=look.crop_size[0],
        width=look.crop_size[-1],
        any_size=any_size,
        num_frames=NUM_FRAMES.get(name),
        min_frames=MIN_FRAMES.get(name, 1),
        mean=tuple(look.mean),
        std=tuple(look.std),
        min_side=sides[0] if sides else max(published.meta["min_size"]),
        # Both sides where torchvision squashes the whole frame: clips keep the shape that preprocess gave them.
        resize_short=min(look.resize_size),
    )


def published_weights(spec: ModelSpec) -> Any:
    """torchvision's entry for weights of this backbone: the one that was named, else the default.

    It also says which size, mean and std a network wants that starts from nothing or from a file.
    """
    entries = torchvision.models.get_model_weights(str(spec.backbone))
    if spec.weights in ("none", "default") or spec.weights_are_a_file:
        return entries.DEFAULT
    if spec.weights not in entries.__members__:
        raise UsageError(
            f"weights {spec.weights} are not published for {spec.backbone}; choose none, default, "
            f"{', '.join(entry.name for entry in entries)}, or a file that ends in .safetensors or .pth"
        )
    return entries[spec.weights]


def download_weights(spec: ModelSpec) -> dict[str, Tensor]:
    """The published tensors, downloaded once into torch's own cache. Raises UsageError when that does not work."""
    weights = published_weights(spec)
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"weights {spec.weights} of {spec.backbone} cannot be downloaded from {weights.url} ({error}); fetch that "
            "file elsewhere and give its path with --weights, or start from nothing with --weights none"
        ) from error
    return state
