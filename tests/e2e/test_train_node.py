"""Training on a Ray of several nodes, of which one is killed in mid-epoch: it ends as an undisturbed run."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from labelled_clips import write_clips
from rank_group import history_of, tiny_config, train_group

LIMIT_S = 300.0
# A Ray of its own, so a process of its own. Raylets are the nodes; the workers of a killed one end with it.
SCRIPT = """
    import dataclasses, os, signal, sys
    from pathlib import Path

    sys.path.insert(0, {tests!r})
    import rank_group
    import ray
    from ray.cluster_utils import Cluster
    from rank_group import tiny_config

    from vidpipe.stages.train import train

    @dataclasses.dataclass
    class KillNodeOnce:
        marker: Path

        def __call__(self, number, loss, model):
            if number == 13 and ray.train.get_context().get_world_rank() == 1 and not self.marker.exists():
                self.marker.write_text(ray.get_runtime_context().get_node_id())
                os.kill(os.getppid(), signal.SIGKILL)
                signal.pause()

    ray.cloudpickle.register_pickle_by_value(rank_group)
    cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0, "object_store_memory": 128 << 20}})
    for _ in range(3):
        cluster.add_node(num_cpus=1, object_store_memory=128 << 20)
    os.environ["RAY_ADDRESS"] = cluster.address
    os.environ["VIDPIPE_KILL_MARKER"] = {marker!r}
    config = tiny_config({clips!r}, {output!r}, learning_rate=3e-4, num_workers="2", cpus_per_worker=1, device="cpu",
                         checkpoint_every_s=1e-9)
    train(config, KillNodeOnce(Path({marker!r})))
    print("nodes alive:", sum(node["Alive"] for node in ray.nodes()))
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_node_killed_in_mid_epoch_changes_nothing(tmp_path: Path):
    clips = write_clips(tmp_path / "clips", {"train": 53, "val": 13}, num_clips=2)
    calm = tiny_config(clips, tmp_path / "calm", learning_rate=3e-4, num_workers="2", checkpoint_every_s=1e-9)
    assert train_group(calm, 2) == [0, 0]
    stormy = dataclasses.replace(calm, output=str(tmp_path / "stormy"))
    marker = tmp_path / "killed"
    tests = str(Path(__file__).parent.parent)
    script = textwrap.dedent(SCRIPT).format(tests=tests, marker=str(marker), clips=str(clips), output=stormy.output)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    # A dead node is noticed after 2 s, not after 15.
    environment |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert marker.exists()
    assert "nodes alive: 3" in done.stdout  # the head and two of three
    assert history_of(stormy) == history_of(calm)
