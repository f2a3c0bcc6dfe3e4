"""Features of frames by a 2D network, all frames in one batch, then an LSTM or GRU over time."""

from __future__ import annotations

from torch import Tensor, nn

from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import PerFrame, VideoModel, classifier
from vidpipe.models.torchvision_networks import frame_network


def cnn_rnn(spec: ModelSpec, num_labels: int) -> VideoModel:
    network, num_features, model_input = frame_network(spec)
    return VideoModel(PerFrame(network), RnnHead(spec, num_features, num_labels), model_input)


class RnnHead(nn.Module):
    """Features of frames (B, T, D) -> logits (B, num_labels) of the state after the last frame."""

    def __init__(self, spec: ModelSpec, num_features: int, num_labels: int) -> None:
        super().__init__()
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[spec.rnn]
        between_layers = spec.dropout if spec.rnn_layers > 1 else 0.0
        self.rnn = rnn(num_features, spec.rnn_hidden, spec.rnn_layers, batch_first=True, dropout=between_layers)
        self.classifier = classifier(spec, spec.rnn_hidden, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        states, _ = self.rnn(features)
        logits: Tensor = self.classifier(states[:, -1])
        return logits
