"""Checks of the Ray cluster: who may reach it, what it holds, and what happens when its nodes are taken back."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from vidpipe.config.doctor import DoctorConfig
from vidpipe.doctor.findings import ClusterFacts, Finding

LISTENING = "0A"
LOOPBACK_4 = "7F"  # the last byte of the little-endian address: 127.x.x.x
LOOPBACK_6 = {"00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
MIN_OBJECT_STORE = 256 << 20


def open_addresses(port: int) -> list[str]:
    """Addresses other than loopback on which a process of this machine listens at `port`, as the kernel writes them."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, hex_port = local.partition(":")
            is_loopback = address in LOOPBACK_6 or (len(address) == 8 and address.endswith(LOOPBACK_4))
            if state == LISTENING and int(hex_port, 16) == port and not is_loopback:
                found.append("all" if set(address) == {"0"} else address)
    return sorted(set(found))


def check_dashboard(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    if cluster.dashboard is None:
        return Finding("ok", "none runs")
    port = int(cluster.dashboard.rpartition(":")[2])
    addresses = open_addresses(port)
    if not addresses:
        return Finding("ok", f"{cluster.dashboard}, on loopback or on another machine")
    value, rule = f"port {port} listens on {', '.join(addresses)}", "who reaches it can run code"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return Finding("warn", value, rule, "the operator needs it; keep the NetworkPolicy of deploy/kuberay")
    return Finding("FAIL", value, rule, "ray start --dashboard-host=127.0.0.1, and ray dashboard cluster.yaml")


def check_authentication(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    """Asks the job API without a token: what counts is what it does, not what a variable says."""
    if cluster.dashboard is None:
        return Finding("ok", "no job API runs")
    try:
        with urllib.request.urlopen(f"http://{cluster.dashboard}/api/jobs/", timeout=10) as answer:
            code = answer.status
    except urllib.error.HTTPError as error:
        code = error.code
    except OSError as error:
        return Finding("FAIL", f"{cluster.dashboard} does not answer ({error})", "the job API is up", "ray status")
    if code in (401, 403):
        return Finding("ok", f"{cluster.dashboard} refuses a request without a token ({code})")
    return Finding(
        "FAIL",
        f"{cluster.dashboard} answers a request without a token ({code})",
        "only who has the token can run code",
        "ray get-auth-token --generate, RAY_AUTH_MODE=token on every node, and start Ray again",
    )


def check_object_store(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    # A head that runs no tasks may have a small one; it is the smallest that fills first.
    sizes = cluster.object_store_bytes
    if not sizes:
        return Finding("ok", "no nodes")
    node, smallest = min(sizes.items(), key=lambda item: item[1])
    if smallest < MIN_OBJECT_STORE:
        return Finding(
            "FAIL",
            f"{smallest / 1e6:.0f} MB on {node}",
            f"at least {MIN_OBJECT_STORE >> 20} MB a node, or blocks of clips are written to disk",
            "ray start --object-store-memory, and enough memory in /dev/shm",
        )
    return Finding("ok", f"{smallest / 1e9:.1f} GB on the smallest of {len(sizes)} nodes")


def check_spot(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    if not cluster.preemption:
        return Finding("ok", "no worker nodes")
    unwatched = sorted(node for node, kind in cluster.preemption.items() if kind == "unwatched")
    if unwatched:
        return Finding(
            "warn",
            f"{len(unwatched)} of {len(cluster.preemption)} worker nodes watch for no notice (first: {unwatched[0]})",
            "a node that is taken back tells Ray two minutes before; without that its work is done again",
            "start deploy/spot_watch.py there, as cluster.yaml does",
        )
    kinds = sorted(set(cluster.preemption.values()))
    return Finding("ok", f"{len(cluster.preemption)} worker nodes: {', '.join(kinds)}")


def preemption_here() -> str:
    """How this node learns that it is taken back; run on the node."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    vendor = Path("/sys/devices/virtual/dmi/id/board_vendor")
    if not vendor.exists() or "Amazon" not in vendor.read_text():
        return "unknown"
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"spot_watch.py" in command.read_bytes():
                return "watched"
        except OSError:  # it ended meanwhile, or is not ours
            continue
    log = Path.home() / "vidpipe" / "spot_watch.log"
    return "on demand" if log.exists() and "not a spot node" in log.read_text() else "unwatched"
