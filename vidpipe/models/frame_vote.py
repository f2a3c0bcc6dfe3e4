"""A 2D classifier on each frame; the frames of a clip then join. Blind to the order of the frames, by design."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import PerFrame, VideoModel, at_least_float32, classifier
from vidpipe.models.torchvision_networks import frame_network

# What a frame's probabilities weigh beside its vote: enough to settle a tie, too little to overturn a vote.
TIE_BREAK = 0.01


def frame_vote(spec: ModelSpec, num_labels: int) -> VideoModel:
    network, num_features, model_input = frame_network(spec)
    join = {"mean": join_by_mean, "vote": join_by_vote}[spec.join]
    head = FrameHead(classifier(spec, num_features, num_labels), join)
    return VideoModel(PerFrame(network), head, model_input)


class FrameHead(nn.Module):
    """Features of frames (B, T, D) -> logits of clips (B, num_labels)."""

    def __init__(self, classifier: nn.Module, join: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.classifier = classifier
        self.join = join

    def forward(self, features: Tensor) -> Tensor:
        log_probabilities = functional.log_softmax(at_least_float32(self.classifier(features)), dim=-1)
        return self.join(log_probabilities, self.training)


def join_by_mean(log_probabilities: Tensor, training: bool) -> Tensor:
    """Log of the frames' mean probability: its softmax is that mean, so cross-entropy trains what is reported."""
    return torch.logsumexp(log_probabilities, dim=1) - math.log(log_probabilities.shape[1])


def join_by_vote(log_probabilities: Tensor, training: bool) -> Tensor:
    """Log of the share of the frames that vote for a label; ties go to the higher mean probability.

    A vote has no gradient. In training the frames' log-probabilities are averaged instead (the consensus of Temporal
    Segment Networks, Wang et al. 2016), which for clips of one frame is that frame's own cross-entropy.
    """
    if training:
        return log_probabilities.mean(dim=1)
    num_frames, num_labels = log_probabilities.shape[1:]
    votes = functional.one_hot(log_probabilities.argmax(dim=-1), num_labels).sum(dim=1)
    small = join_by_mean(log_probabilities, training) + math.log(TIE_BREAK)
    return torch.logaddexp(torch.log(votes.to(small)), small) - math.log(num_frames + TIE_BREAK)
