"""Ask Ray what the cluster is, make every check, print a line of each."""

from __future__ import annotations

import sys

from vidpipe.cli import connect_ray
from vidpipe.config import DoctorConfig
from vidpipe.doctor import ClusterFacts, findings
from vidpipe.doctor.cluster import preemption_here
from vidpipe.plain_text import say


def doctor(config: DoctorConfig) -> None:
    """Exits with 1 when a check fails."""
    connect_ray()
    levels = []
    for name, finding in findings(config, cluster_facts()):
        say(finding.line(name))
        levels.append(finding.level)
    say(f"{levels.count('ok')} ok, {levels.count('warn')} to look at, {levels.count('FAIL')} failed")
    if "FAIL" in levels:
        sys.exit(1)


def cluster_facts() -> ClusterFacts:
    """Of the cluster that this process has joined."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    workers = [node for node in nodes if "node:__internal_head__" not in node["Resources"]]
    look = ray.remote(num_cpus=0)(preemption_here)
    answers = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in workers
    ]
    return ClusterFacts(
        num_gpus=int(ray.cluster_resources().get("GPU", 0)),
        dashboard=ray._private.worker.global_worker.node.address_info.get("webui_url") or None,
        object_store_bytes={
            node["NodeManagerAddress"]: int(node["Resources"].get("object_store_memory", 0)) for node in nodes
        },
        preemption=dict(zip((node["NodeManagerAddress"] for node in workers), ray.get(answers), strict=True)),
    )
