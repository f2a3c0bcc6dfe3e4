"""Decoding and models share the CPUs: whatever is allowed has room for both."""

from __future__ import annotations

import pytest

from vidpipe.pools import fit_pools


@pytest.mark.parametrize("num_cpus", [1, 2, 3, 4, 7, 16, 96])
def test_by_default_both_use_all_cpus_and_both_fit(num_cpus: int):
    pools = fit_pools(num_cpus, 0, num_cpus, num_actors=None, num_workers=None, on_gpu=False)
    assert pools.num_workers == num_cpus
    assert num_cpus - 3 <= pools.num_actors * pools.num_threads <= num_cpus
    assert pools.num_actors * pools.actor_cpus + pools.num_workers * pools.worker_cpus <= num_cpus


def test_a_model_never_asks_for_more_than_a_node_has():
    pools = fit_pools(40, 0, 4, num_actors=1, num_workers=None, on_gpu=False)
    assert pools.num_threads == 4
    assert pools.actor_cpus <= 4


@pytest.mark.parametrize(("num_cpus", "num_gpus"), [(16, 1), (2, 1), (1, 1), (96, 8)])
def test_each_gpu_has_a_model_and_the_cpus_decode(num_cpus: int, num_gpus: int):
    pools = fit_pools(num_cpus, num_gpus, num_cpus, num_actors=None, num_workers=None, on_gpu=True)
    assert (pools.num_actors, pools.actor_gpus) == (num_gpus, 1)
    assert pools.num_actors * pools.actor_cpus + pools.num_workers * pools.worker_cpus <= num_cpus
    assert pools.num_workers >= num_cpus - num_gpus or num_cpus == 1


def test_a_model_on_a_gpu_waits_for_no_cpu_that_a_decoder_has():
    for num_cpus, num_gpus in [(1, 8), (2, 2), (64, 8)]:
        pools = fit_pools(num_cpus, num_gpus, num_cpus, num_actors=None, num_workers=None, on_gpu=True)
        assert (pools.num_actors, pools.actor_cpus) == (num_gpus, 0)
        assert 1 <= pools.num_workers <= max(num_cpus - 0.49 * num_gpus, 1)


def test_models_that_leave_no_cpu_to_decode_are_refused():
    assert fit_pools(3, 0, 3, num_actors=5, num_workers=1, on_gpu=False).num_actors == 5
    with pytest.raises(ValueError, match=r"num_actors 6 leaves no CPU to decode with.*give 5 or fewer"):
        fit_pools(3, 0, 3, num_actors=6, num_workers=1, on_gpu=False)
    with pytest.raises(ValueError, match="more than the 1 GPUs"):
        fit_pools(8, 1, 8, num_actors=2, num_workers=None, on_gpu=True)
