"""How many workers train, and what each takes of the nodes of a cluster. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vidpipe.config import TrainConfig
from vidpipe.errors import UsageError

MAX_GPU_WORKER_CPUS = 4
Resources = Mapping[str, float]


def workers_and_resources(config: TrainConfig, nodes: Sequence[Resources]) -> tuple[tuple[int, int], dict[str, float]]:
    """Smallest and largest number of workers, and what each of them takes; UsageError for what is not there."""
    num_gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    use_gpu = config.device == "cuda" or (config.device == "auto" and num_gpus > 0)
    low, high = config.worker_range or ((num_gpus, num_gpus) if use_gpu and num_gpus else (1, 1))
    if high > config.batch_size:
        raise UsageError(
            f"batch_size {config.batch_size} is the clips of all workers together, and there are {high} GPUs; "
            f"give --batch-size {high} or more, or --num-workers {config.batch_size}"
        )
    if use_gpu and num_gpus < low:
        raise UsageError(
            f"device cuda with {low} workers needs {low} GPUs, Ray has {num_gpus}; give --device cpu or fewer "
            "--num-workers, or join a cluster with GPUs (RAY_ADDRESS, or ray job submit)"
        )
    if config.sync_batch_norm and not use_gpu:
        raise UsageError("sync_batch_norm works on GPUs only, and Ray has none; drop it")
    # A worker runs on one node: with more than that has it would be waited for without end.
    gpu: dict[str, float] = {"GPU": 1} if use_gpu else {}
    most = max(int(node.get("CPU", 0)) for node in nodes)
    share = max((cpus for cpus in range(1, most + 1) if num_places(nodes, {"CPU": cpus, **gpu}) >= high), default=1)
    cpus = config.cpus_per_worker or (min(share, MAX_GPU_WORKER_CPUS) if use_gpu else share)
    worker = {"CPU": cpus, **gpu}
    if num_places(nodes, worker) < low:
        raise UsageError(
            f"{low} workers with {amounts(worker, worker)} each do not fit: Ray has nodes with "
            f"{', '.join(amounts(node, worker) for node in nodes)}; give fewer --num-workers or --cpus-per-worker"
        )
    return (low, high), worker


def num_places(nodes: Sequence[Resources], worker: Resources) -> int:
    """How many workers that take so much fit on nodes that have so much."""
    return sum(min(int(node.get(name, 0) // number) for name, number in worker.items()) for node in nodes)


def amounts(resources: Resources, names: Resources) -> str:
    """`4 CPUs and 1 GPUs`."""
    return " and ".join(f"{resources.get(name, 0):g} {name}s" for name in names)
