"""A head started with the flags of cluster.yaml: what listens where, who may submit a job, what the doctor says.

On AWS the security group lets in nodes of the cluster alone (deploy/aws.yaml, tests/unit/test_cluster_yaml.py). This is
about what would be left if it did not: which processes listen beyond loopback, and that none takes a job without the
token.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ray_head import RayHead, cluster_yaml_flags, ray_head
from running import BIN, ROOT, descendants, environment, run_job

from vidpipe.doctor import CHECKS

JOB_LIMIT_S = 120.0
AUTOSCALER_METRICS, DASHBOARD_METRICS = 44217, 44227  # fixed by Ray; counters, no way in

# Processes of a head that listen on the node's address, by what their command lines hold: other nodes talk to them, or
# Ray has no flag that keeps them from it. With RAY_AUTH_MODE=token all but the metrics want the token.
OPEN_BY_NECESSITY = {
    "gcs_server": "what nodes and drivers connect to first (--port)",
    "raylet/raylet": "node manager and object manager: tasks, and objects on their way from node to node",
    "dashboard/agent.py": "reports of this node to the dashboard, its metrics, and its part of the job API",
    "runtime_env/agent/main.py": "environments of jobs, for the raylet",
    "ray.util.client.server": "Ray client: `ray start` of 2.60 has no flag to leave it out",
    "ray::": "workers, which talk to each other; and the two agents, as they call themselves",
    "default_worker.py": "workers, before they have a name",
    "job.py": "the driver, which is the script that was submitted",
}
OPEN_METRICS = {"monitor.py": AUTOSCALER_METRICS, "dashboard.py": DASHBOARD_METRICS}


def listening(head: RayHead) -> set[tuple[str, int, str]]:
    """Address, port and command line of each listening socket of the head's processes."""
    found = set()
    for pid in descendants(head.pid) | {head.pid}:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            command = " ".join(process.cmdline())
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip, connection.laddr.port, command))
    return found


def submit(head: RayHead, *entrypoint: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ray"), "job", "submit", "--address", head.address, "--", *entrypoint]
    known = environment({**head.env, **env})
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=JOB_LIMIT_S)


def outer_address() -> str:
    """This machine's address, as Ray finds it; the test has nothing to say where there is only loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("8.8.8.8", 53))  # sends nothing
        address = probe.getsockname()[0]
        if not ipaddress.ip_address(address).is_loopback:
            return address
    pytest.skip("this machine has no address besides loopback")


@pytest.fixture(scope="module")
def node_ip() -> str:
    return outer_address()


@pytest.fixture(scope="module")
def head(node_ip: str) -> Iterator[RayHead]:
    with ray_head(*cluster_yaml_flags(), RAY_AUTH_MODE="token") as started:
        yield started


def is_expected(port: int, command: str) -> bool:
    if any(name in command and port == metrics for name, metrics in OPEN_METRICS.items()):
        return True
    return any(name in command for name in OPEN_BY_NECESSITY)


def check(sockets: set[tuple[str, int, str]], head: RayHead) -> None:
    lines = [f"{address}:{port} {command[:100]}" for address, port, command in sorted(sockets)]
    print("\n".join(lines))  # pytest -s shows the table
    assert not {address for address, port, _ in sockets if port == head.dashboard_port} - {"127.0.0.1"}
    beyond = [one for one in sockets if not ipaddress.ip_address(one[0]).is_loopback]
    unexpected = [f"{address}:{port} {command}" for address, port, command in beyond if not is_expected(port, command)]
    assert not unexpected, "\n".join(unexpected)


def test_the_dashboard_is_on_loopback_and_nothing_unexpected_is_beyond(head: RayHead, node_ip: str):
    sockets = listening(head)
    assert ("127.0.0.1", head.dashboard_port) in {(address, port) for address, port, _ in sockets}
    check(sockets, head)
    with socket.socket() as probe:
        assert probe.connect_ex((node_ip, head.dashboard_port)) != 0


def test_a_job_with_the_token_runs_and_opens_no_other_kind_of_socket(head: RayHead, tmp_path: Path):
    script = tmp_path / "job.py"
    script.write_text(
        "import pathlib, time, ray\n"
        "ray.init()\n"
        "@ray.remote(num_cpus=0)\n"
        "def wait():\n"
        f"    pathlib.Path('{tmp_path}/running').touch()\n"
        f"    while not pathlib.Path('{tmp_path}/seen').exists():\n"
        "        time.sleep(0.1)\n"
        "ray.get(wait.remote())\n"
    )
    command = [str(BIN / "ray"), "job", "submit", "--address", head.address, "--", "python", str(script)]
    job = subprocess.Popen(
        command, env=environment(head.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline_s = time.monotonic() + JOB_LIMIT_S
        while not (tmp_path / "running").exists():
            assert job.poll() is None, job.communicate()[0]
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        check(listening(head), head)
    finally:
        (tmp_path / "seen").touch()
        output = job.communicate(timeout=JOB_LIMIT_S)[0]
    assert job.returncode == 0, output


@pytest.mark.parametrize("env", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}], ids=["none", "another"])
def test_a_job_without_the_token_is_refused(head: RayHead, tmp_path: Path, env: dict[str, str]):
    done = submit(head, "python", "-c", f"open('{tmp_path}/ran', 'w')", **env)
    assert done.returncode != 0
    assert "authentication token" in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


def test_the_job_api_of_the_agent_which_others_reach_wants_the_token_too(head: RayHead, node_ip: str):
    """The dashboard passes jobs on to it, so it is a second door, and it is on the node's address."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{node_ip}:{head.agent_port}/api/job_agent/jobs/", data=b"{}", timeout=10)
    assert refused.value.code in (401, 403)


def test_the_doctor_finds_that_head_sound_and_exits_with_1_for_an_input_that_is_not_there(
    head: RayHead, tmp_path: Path
):
    flags = ("--input", tmp_path / "nowhere", "--output", tmp_path / "out", "--min-free-gb", "0.1")
    answer = run_job("doctor", *flags, env={**head.env, "RAY_ADDRESS": head.gcs_address})
    assert answer.returncode == 1, answer.stderr
    names = "|".join(CHECKS)
    lines = re.findall(rf"^(ok|warn|FAIL) +({names}) +(.*)$", answer.stdout, re.MULTILINE)
    assert [name for _, name, _ in lines] == list(CHECKS)
    values = {name: value for _, name, value in lines}
    assert "refuses a request without a token (401)" in values["authentication"]
    assert "on loopback" in values["dashboard"]
    assert "0.3 GB" in values["object store"]
    assert "is not there" in values["input"]
    failed = {name for level, name, _ in lines if level == "FAIL"}
    assert "input" in failed
    assert failed <= {"input", "shared memory", "gpus"}  # the last two of the machine of these tests


def test_a_night_does_not_begin_on_a_cluster_that_gets_no_nodes(head: RayHead):
    ask = [sys.executable, ROOT / "deploy" / "nodes.py", "--cpus", "2", "--wait-s", "1"]
    known = environment({**head.env, "RAY_ADDRESS": head.gcs_address})
    answer = subprocess.run(ask, env=known, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 1, answer.stderr
    assert "after 1 s 0 of 2 CPUs" in answer.stdout
