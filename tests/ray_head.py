"""`ray start --head` with token authentication as a user has it: a home of its own that holds the token."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from running import BIN, ROOT, answers, descendants, environment, free_ports, is_running, wait_until

STORE_BYTES = 256 << 20


@dataclass(frozen=True)
class RayHead:
    pid: int
    home: Path
    gcs_port: int
    dashboard_port: int
    agent_port: int
    env: dict[str, str | None]
    """What a client needs; it knows no storage credentials."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def gcs_address(self) -> str:
        return f"127.0.0.1:{self.gcs_port}"


def cluster_yaml_flags() -> list[str]:
    """Those of `ray start` in cluster.yaml, without the file that only `ray up` writes."""
    command = yaml.safe_load((ROOT / "cluster.yaml").read_text())["head_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in command
    flags = command.split("ray start ", 1)[1].split()
    return [flag for flag in flags if not flag.startswith("--autoscaling-config=")]


@contextmanager
def ray_head(*flags: str, **env: str) -> Iterator[RayHead]:
    """A head on free ports, with these flags and variables; all that it started is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="vp-"))  # short: Ray's socket names below it may have 107 characters
    known: dict[str, str | None] = {name: None for name in os.environ if name.startswith(("AWS_", "RAY_"))}
    known |= {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0", **env}
    generate = [str(BIN / "ray"), "get-auth-token", "--generate"]
    subprocess.run(generate, env=environment(known), check=True, stdout=subprocess.DEVNULL)
    gcs, dashboard, agent, client = free_ports(4)
    ports = {"port": gcs, "dashboard-port": dashboard, "dashboard-agent-listen-port": agent}
    ports |= {"ray-client-server-port": client, "min-worker-port": 0, "max-worker-port": 0}
    options = ports | {"temp-dir": home / "ray", "object-store-memory": STORE_BYTES}
    command = [
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    command += [flag for flag in flags if flag.removeprefix("--").split("=")[0] not in {"head", "block", *options}]
    log = home / "start.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment(known), stdout=file, stderr=file, start_new_session=True)
    # The cluster turns token authentication on by itself; a client must be told to send the token.
    head = RayHead(process.pid, home, gcs, dashboard, agent, known | {"RAY_AUTH_MODE": "token"})
    try:
        for url in (f"{head.address}/api/version", f"http://127.0.0.1:{agent}/api/healthz"):
            wait_until(lambda url=url: answers(url), process, log)
        yield head
    finally:
        started = descendants(process.pid) | {process.pid}
        process.terminate()  # has `ray start --block` stop all that it started, which it does not always get done
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        for pid in filter(is_running, started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)
