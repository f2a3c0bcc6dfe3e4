"""How decoding and models share the CPUs of a cluster. Knows nothing of Ray.

On a machine without GPUs both work on all CPUs at once, and each asks Ray for half: whichever is slower gets what the
other one leaves. An actor pool that took all CPUs would leave none to decode, and the job would wait for ever. A model
on a GPU asks for no CPU: its node may be full of decoders that wait for just this model.
"""

from __future__ import annotations

from dataclasses import dataclass

from vidpipe.errors import UsageError

CPUS_AN_ACTOR = 4
SHARE = 0.5  # of a CPU, that a decoder asks for where they share
THREAD_SHARE = 0.49  # that each thread of a model asks for: another number, or Ray Data would fuse the two


@dataclass(frozen=True)
class Pools:
    num_actors: int
    num_threads: int
    """Of a model on a CPU."""
    actor_cpus: float
    actor_gpus: int
    num_workers: int
    worker_cpus: float


def fit_pools(
    num_cpus: int, num_gpus: int, node_cpus: int, *, num_actors: int | None, num_workers: int | None, on_gpu: bool
) -> Pools:
    """Shares out a cluster whose largest node has `node_cpus`; UsageError for numbers with which nothing would move."""
    if on_gpu:
        actors = num_actors or num_gpus
        if actors > num_gpus:
            raise UsageError(
                f"num_actors {actors} is more than the {num_gpus} GPUs of the cluster, a model takes one; "
                "give fewer, or leave it out"
            )
        left = num_cpus - THREAD_SHARE * actors
        worker_cpus = 1.0 if left >= 1 else SHARE
        pools = Pools(actors, 1, 0.0, 1, num_workers or max(int(left / worker_cpus), 1), worker_cpus)
    else:
        actors = num_actors or max(num_cpus // CPUS_AN_ACTOR, 1)
        num_threads = max(min(num_cpus // actors, node_cpus), 1)
        pools = Pools(actors, num_threads, THREAD_SHARE * num_threads, 0, num_workers or num_cpus, SHARE)
    if pools.num_actors * pools.actor_cpus + pools.worker_cpus > num_cpus:
        raise UsageError(
            f"num_actors {actors} leaves no CPU to decode with: {actors} models ask for "
            f"{pools.num_actors * pools.actor_cpus:g} of {num_cpus} CPUs; give {max(2 * num_cpus - 1, 1)} or fewer"
        )
    return pools
