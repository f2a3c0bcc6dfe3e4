"""The resources that a training worker asks for are to be had on one node, with the GPU that it trains on."""

from __future__ import annotations

from typing import Any

import pytest

from vidpipe.config import TrainConfig
from vidpipe.training.placement import workers_and_resources

CPU_NODE, GPU_NODE = {"CPU": 64.0}, {"CPU": 8.0, "GPU": 4.0}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(clips="clips", output="out", **changes)


def test_cpus_of_nodes_without_gpus_are_not_offered_to_workers_on_gpus():
    assert workers_and_resources(config(), [CPU_NODE, GPU_NODE]) == ((4, 4), {"CPU": 2, "GPU": 1})
    assert workers_and_resources(config(num_workers="2"), [CPU_NODE, GPU_NODE]) == ((2, 2), {"CPU": 4, "GPU": 1})
    assert workers_and_resources(config(device="cpu"), [CPU_NODE, GPU_NODE]) == ((1, 1), {"CPU": 64})
    message = (
        r"4 workers with 4 CPUs and 1 GPUs each do not fit: Ray has nodes with 64 CPUs and 0 GPUs, 8 CPUs and 4 GPUs"
    )
    with pytest.raises(ValueError, match=message):
        workers_and_resources(config(cpus_per_worker=4), [CPU_NODE, GPU_NODE])


def test_gpus_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"needs 2 GPUs, Ray has 0; give --device cpu"):
        workers_and_resources(config(device="cuda", num_workers="2"), [CPU_NODE])
