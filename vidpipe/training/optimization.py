"""Optimizers, the learning rate of every step, and the loss: what a step does to the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from vidpipe.config import TrainConfig

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda groups, config: torch.optim.AdamW(groups, lr=config.learning_rate),
    "adam": lambda groups, config: torch.optim.Adam(groups, lr=config.learning_rate),
    "sgd": lambda groups, config: torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum),
}


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Weight decay is for matrices and kernels: biases, norms and other vectors go without."""
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    groups = [
        {"params": [weights for weights in trained if weights.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weights for weights in trained if weights.ndim <= 1], "weight_decay": 0.0},
    ]
    return OPTIMIZERS[config.optimizer]([group for group in groups if group["params"]], config)


def learning_rate(config: TrainConfig, step: int, num_steps: int, val_losses: Sequence[float]) -> float:
    """The learning rate of step `step` of `num_steps`: a function of the past alone, so that a resumed run knows it."""
    num_warmup = math.ceil(config.warmup * num_steps)
    if step < num_warmup:
        return config.learning_rate * (step + 1) / num_warmup
    if config.schedule == "cosine":
        progress = (step - num_warmup) / max(num_steps - num_warmup, 1)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "plateau":
        num_cuts = len(plateau_epochs(val_losses, config.plateau_patience))
        return config.learning_rate * config.plateau_factor**num_cuts
    return config.learning_rate


def plateau_epochs(val_losses: Sequence[float], patience: int) -> list[int]:
    """The epochs after which the learning rate is cut: more than `patience` of them did not beat the best one.

    As torch's ReduceLROnPlateau in mode min with threshold 0.
    """
    cuts, best, num_bad = [], math.inf, 0
    for epoch, loss in enumerate(val_losses):
        best, num_bad = (loss, 0) if loss < best else (best, num_bad + 1)
        if num_bad > patience:
            cuts.append(epoch)
            num_bad = 0
    return cuts


def class_weights(truth: np.ndarray, num_labels: int, config: TrainConfig) -> np.ndarray:
    """(K,) float32 weights of the classes in the loss; their mean over the training clips is 1."""
    counts = np.bincount(truth, minlength=num_labels)
    if config.class_weights == "none":
        return np.ones(num_labels, np.float32)
    return (len(truth) / (num_labels * np.maximum(counts, 1))).astype(np.float32)


def soft_targets(truth: torch.Tensor, num_labels: int, label_smoothing: float) -> torch.Tensor:
    """(B,) indices to (B, K) probabilities."""
    targets = F.one_hot(truth, num_labels).float()
    return targets * (1 - label_smoothing) + label_smoothing / num_labels


def loss_sum(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum over the clips of their weighted cross-entropy: logits and targets (B, K), weights of the classes (K,).

    A sum, not a mean: divided by the clips of all ranks it is the same gradient on any number of them.
    """
    return -(targets * weights * F.log_softmax(logits.float(), dim=1)).sum()


def clip_gradients(parameters: Iterable[torch.Tensor], limit: float | None) -> None:
    if limit is not None:
        torch.nn.utils.clip_grad_norm_(parameters, limit)


def warmed_up_decay(decay: float, num_updates: int) -> float:
    """Decay of the moving average of the weights at its next update: it rises to `decay`, as in TensorFlow's
    ExponentialMovingAverage, so that the average of a short run is not made of its first steps."""
    return min(decay, (1 + num_updates) / (10 + num_updates))
