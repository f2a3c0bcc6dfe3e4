"""The models: a dict of names, each a function of the settings and the number of labels. See `VideoModel`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import VideoModel
from vidpipe.models.cnn_rnn import cnn_rnn
from vidpipe.models.conv3d import conv3d
from vidpipe.models.frame_vote import frame_vote
from vidpipe.models.torchvision_networks import OWN_NETWORKS, download_weights
from vidpipe.models.transformer import hub_state, transformer
from vidpipe.models.weights import WeightsReport, load_state, load_weights, read_state

logger = logging.getLogger(__name__)

__all__ = ["MODELS", "VideoModel", "WeightsReport", "build_empty", "build_model", "load_weights"]

NORM_MOMENTUM = 0.1

MODELS: dict[str, Callable[[ModelSpec, int], VideoModel]] = {
    "frame_vote": frame_vote,
    "cnn_rnn": cnn_rnn,
    "conv3d": conv3d,
    "transformer": transformer,
}


def build_model(spec: ModelSpec, labels: Sequence[str], *, allow_partial_weights: bool = False) -> VideoModel:
    """A model to train, on the CPU: weights loaded as the spec says, a new head, the backbone frozen or not.

    Raises UsageError when a backbone or its weights cannot be had or do not fit, with the way out.
    """
    model = build_empty(spec, labels)
    if spec.weights != "none":
        load_state(model, *start_state(spec), allow_partial=allow_partial_weights)
    else:
        set_norms_to_learn(model)
    if spec.freeze_backbone:
        if spec.weights == "none":
            logger.warning(
                "the backbone is frozen with random weights; give --weights for features that mean something"
            )
        model.freeze_backbone()
    return model


def set_norms_to_learn(model: VideoModel) -> None:
    """Let the batch norms of random weights follow the data within tens of steps, as torch's own default does.

    s3d, MobileNet and others come with averages over a hundred to a thousand steps: made for millions of clips, and
    for published weights, whose averages are good from the start. A shorter run would be evaluated with averages that
    are still near their initial 0 and 1: at chance, however well it learned.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, NORM_MOMENTUM)


def build_empty(spec: ModelSpec, labels: Sequence[str], config: dict[str, Any] | None = None) -> VideoModel:
    """The same layers with random weights. A transformer's checkpoint brings the `config` that made it."""
    if spec.model == "transformer":
        return transformer(spec, len(labels), config)
    return MODELS[spec.model](spec, len(labels))


def start_state(spec: ModelSpec) -> tuple[dict[str, Tensor], str]:
    """The tensors that `spec.weights` names, and where they are from."""
    own = OWN_NETWORKS.get(str(spec.backbone))
    if spec.weights_are_a_file or (own and spec.model != "transformer"):
        source = own.weights_file() if own and spec.weights == "default" else spec.weights
        return read_state(source), source
    if spec.model == "transformer":
        return hub_state(spec)
    return download_weights(spec), f"{spec.backbone} {spec.weights}"
