"""On a spot node: when AWS says that it takes the node back, tell Ray, which then gives it nothing new.

`python deploy/spot_watch.py HEAD_IP:6379`, beside `ray start`; cluster.yaml does. On a node on demand it ends at once.
AWS gives two minutes (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

METADATA = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/")
ASK_EVERY_S = 5.0


def metadata(path: str) -> str | None:
    """What the instance metadata service (IMDSv2) says; None where it has no such thing."""
    ask = urllib.request.Request(
        f"{METADATA}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    with urllib.request.urlopen(ask, timeout=5) as answer:
        token = answer.read().decode()
    ask = urllib.request.Request(f"{METADATA}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token})
    try:
        with urllib.request.urlopen(ask, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def node_id(head: str) -> str:
    """Ray's name for this node."""
    import ray

    ray.init(address=head, logging_level="ERROR")
    own = ray.get_runtime_context().get_node_id()
    ray.shutdown()
    return own


def drain_command(head: str, node: str, notice: str, now: datetime) -> list[str]:
    """Of a notice such as {"action": "terminate", "time": "2026-11-21T04:10:00Z"}."""
    ends = datetime.fromisoformat(json.loads(notice)["time"].replace("Z", "+00:00"))
    left_s = max(int((ends - now).total_seconds()), 0)
    return [
        *(str(Path(sys.executable).with_name("ray")), "drain-node", "--address", head, "--node-id", node),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "AWS takes this spot node back"),
        *("--deadline-remaining-seconds", str(left_s)),
    ]


def watch(head: str) -> None:
    if metadata("instance-life-cycle") != "spot":
        print("not a spot node: nothing to watch", flush=True)
        return
    node = node_id(head)
    print(f"watching for a notice to node {node}", flush=True)
    while True:
        try:
            notice = metadata("spot/instance-action")
        except OSError as error:
            print(f"the metadata service does not answer ({error}); asked again", flush=True)
            notice = None
        if notice is not None:
            print(f"notice: {notice}", flush=True)
            subprocess.run(drain_command(head, node, notice, datetime.now(timezone.utc)), check=True)
            return
        time.sleep(ASK_EVERY_S)


if __name__ == "__main__":
    watch(sys.argv[1])
