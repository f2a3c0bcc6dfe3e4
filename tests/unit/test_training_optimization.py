"""What a step does: the learning rate of every step, the loss, the weights of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from vidpipe.config import TrainConfig
from vidpipe.training.optimization import (
    class_weights,
    learning_rate,
    loss_sum,
    make_optimizer,
    plateau_epochs,
    soft_targets,
)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(clips="clips", output="out", learning_rate=1.0, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, {0: 1.0, 9: 1.0}),
        ({"schedule": "constant", "warmup": 0.4}, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 4: 1.0, 9: 1.0}),
        ({"schedule": "cosine"}, {0: 1.0, 5: 0.5, 10: 0.0}),
        ({"schedule": "cosine", "warmup": 0.2}, {0: 0.5, 1: 1.0, 2: 1.0, 6: 0.5, 10: 0.0}),
        ({"schedule": "cosine", "warmup": 0.11}, {0: 0.5, 1: 1.0, 2: 1.0}),  # a part of a step warms up for a whole one
        ({"schedule": "plateau"}, {0: 1.0, 9: 1.0}),
    ],
)
def test_the_learning_rate_of_each_step_of_ten(changes: dict[str, Any], expected: dict[int, float]):
    rates = {step: learning_rate(config(**changes), step, 10, []) for step in expected}
    assert rates == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 2) | st.just(float("nan")), max_size=40), st.integers(0, 5))
def test_the_plateau_is_that_of_torch(losses: list[float], patience: int):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0, eps=0)
    ours = config(schedule="plateau", plateau_patience=patience)
    for epoch in range(len(losses)):
        theirs.step(losses[epoch])
        seen = losses[: epoch + 1]
        assert (
            learning_rate(ours, 100, 1000, seen)
            == optimizer.param_groups[0]["lr"]
            == 0.5 ** len(plateau_epochs(seen, patience))
        )


@settings(deadline=None)
@given(st.integers(2, 7), st.sampled_from([0.0, 0.1, 0.5]), st.booleans(), st.integers(0, 100))
def test_the_loss_is_torchs_cross_entropy(num_labels: int, smoothing: float, weighted: bool, seed: int):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, num_labels, generator=random, dtype=torch.float32) * 4
    truth = torch.randint(num_labels, (5,), generator=random)
    weights = torch.rand(num_labels, generator=random) + 0.1 if weighted else torch.ones(num_labels)
    ours = loss_sum(logits, soft_targets(truth, num_labels, smoothing), weights)
    theirs = functional.cross_entropy(logits, truth, weights, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, theirs)


def test_the_loss_of_logits_in_half_precision_is_computed_in_full():
    logits = torch.tensor([[12.0, -9.0, 3.0]])
    targets = soft_targets(torch.tensor([1]), 3, 0.0)
    assert loss_sum(logits.bfloat16(), targets, torch.ones(3)) == loss_sum(logits, targets, torch.ones(3))


def test_balanced_classes_weigh_in_inverse_proportion_to_their_clips():
    truth = np.array([0] * 6 + [1] * 3 + [2] * 1)
    weights = class_weights(truth, 3, config(class_weights="balanced"))
    np.testing.assert_allclose(weights * np.bincount(truth), len(truth) / 3, rtol=1e-6)
    assert weights[truth].mean() == pytest.approx(1)
    np.testing.assert_array_equal(class_weights(truth, 3, config()), np.ones(3))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weight_decay_is_for_matrices_and_not_for_what_is_frozen(name: Any):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    decayed, plain = make_optimizer(model, config(optimizer=name, weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in (decayed, plain)] == [(0.1, 1), (0.0, 3)]
