"""What integration and end-to-end tests run: servers on free loopback ports, and jobs as processes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
START_LIMIT_S = 60.0
JOB_LIMIT_S = 180.0


@dataclass(frozen=True)
class S3Server:
    """A running S3 server with one user that may do all, and one that may only read."""

    endpoint: str
    env: dict[str, str]
    """What a job needs to use it; set in the tests' own environment too."""
    reader_env: dict[str, str]

    def make_bucket(self) -> str:
        """`s3://` URL of a new empty bucket."""
        import s3fs

        name = f"bucket-{secrets.token_hex(4)}"
        s3fs.S3FileSystem().mkdir(name)
        return f"s3://{name}"


def s3_user(name: str, *actions: str) -> dict[str, object]:
    return {
        "name": name,
        "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
        "actions": list(actions),
    }


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS on free loopback ports with its data in `folder`; credentials are checked."""
    (folder / "data").mkdir()
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [s3_user("writer", "Admin"), s3_user("reader", "Read", "List")]}))
    ports = free_ports(8)
    master, volume, filer, s3_port, *grpc = ports
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "volume.max": 1000,  # each bucket takes some for itself
        "s3.config": config,
    }
    options |= {"master.port": master, "volume.port": volume, "filer.port": filer, "s3.port": s3_port}
    options |= {f"{name}.port.grpc": port for name, port in zip(("master", "volume", "filer", "s3"), grpc, strict=True)}
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0, "s3.autoCreateBucket": "false"}
    options |= {"master.volumeSizeLimitMB": 64, "master.telemetry": "false"}
    command = [BIN / "weed", f"-logdir={folder}", "server", "-s3"]
    command += [f"-{name}={value}" for name, value in options.items()]
    endpoint = f"http://127.0.0.1:{s3_port}"
    env = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    env |= {"AWS_EC2_METADATA_DISABLED": "true"}
    writer, reader = (
        env | {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"{name}-secret"} for name in ("writer", "reader")
    )
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: answers(endpoint), process, folder / "weed.log")
            yield S3Server(endpoint, writer, reader)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # asked kindly it takes 15 s
            process.wait()
            for port in ports:
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink()


def answers(url: str) -> bool:
    """Whether an HTTP server answers at all, if only to refuse."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"{process.args} did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def free_ports(num_ports: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now, below those that kernels hand out for connections."""
    ports: set[int] = set()
    while len(ports) < num_ports:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.add(port)
    return sorted(ports)


def run_job(
    name: str, *arguments: object, env: dict[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python jobs/NAME.py ARGUMENTS` to its end; a variable that `env` gives as None is taken out."""
    return subprocess.run(
        job_command(name, *arguments),
        env=environment(env or {}),
        capture_output=True,
        text=True,
        timeout=JOB_LIMIT_S,
    )


def job_command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, arguments)]


def environment(changes: dict[str, str | None]) -> dict[str, str]:
    """The environment of the tests with some changes."""
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}


def descendants(pid: int) -> set[int]:
    """All processes below a process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found.update(new)
        waiting += new
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
