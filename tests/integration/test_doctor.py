"""jobs/doctor.py as it is run: on a head with the flags of cluster.yaml, on a real S3 server, wrong credentials."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from running import BIN, ROOT, S3Server, free_ports, run_job

from vidpipe.config import DoctorConfig
from vidpipe.doctor import CHECKS, ClusterFacts, cluster


def test_help_answers_without_ray_and_torch():
    heavy = "import sys; sys.argv = ['doctor.py', '--help']\ntry: exec(open('jobs/doctor.py').read())\n"
    heavy += "except SystemExit: assert not {'ray', 'torch', 'pyarrow', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_wrong_credentials_a_missing_bucket_and_no_right_to_write_are_told_apart(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
):
    import s3fs

    bucket = s3.make_bucket()
    s3fs.S3FileSystem().pipe_file(f"{bucket}/videos/a.mp4", b"video")
    config = DoctorConfig(input=f"{bucket}/videos", output=f"{bucket}/out")
    missing = DoctorConfig(input="s3://no-such-bucket/videos")

    def levels() -> list[str]:
        s3fs.S3FileSystem.clear_instance_cache()
        return [CHECKS[name](config, ClusterFacts()).level for name in ("input", "output", "clock")]

    assert levels() == ["ok", "ok", "ok"]
    assert CHECKS["input"](missing, ClusterFacts()).level == "FAIL"
    for name, value in s3.reader_env.items():
        monkeypatch.setenv(name, value)
    assert levels() == ["ok", "FAIL", "ok"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert levels() == ["FAIL", "FAIL", "ok"]
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """Ray's head with the flags of cluster.yaml, but other ports and no autoscaler; the environment of its clients."""
    port, dashboard, agent, metrics, client = map(str, free_ports(5))
    command = yaml.safe_load((ROOT / "cluster.yaml").read_text())["head_start_ray_commands"][-1]
    flags = re.findall(r"--\S+", command.partition("ray start")[2])
    flags = [flag for flag in flags if not flag.startswith(("--port", "--dashboard-port", "--autoscaling-config"))]
    flags += [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    flags += [f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"]
    flags += [
        "--object-store-memory=300000000",
        "--node-ip-address=127.0.0.1",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]
    env = dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), DASHBOARD=dashboard)
    env.pop("RAY_ADDRESS", None)
    # Not pytest's own: a socket's path has at most 107 bytes, and Ray's session takes 70 of them.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    process = subprocess.Popen(
        [BIN / "ray", "start", *flags, "--block", f"--temp-dir={folder}"],
        env=env,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for_dashboard(process, dashboard, folder / "log")
        yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_dashboard(process: subprocess.Popen[bytes], port: str, log: Path) -> None:
    from running import answers, wait_until

    wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/version"), process, log)


def test_of_a_head_with_the_flags_of_cluster_yaml_the_dashboard_is_on_loopback(head: dict[str, str]):
    assert cluster.open_addresses(int(head["DASHBOARD"])) == []


def test_a_job_without_the_token_is_refused(head: dict[str, str]):
    request = urllib.request.Request(
        f"http://127.0.0.1:{head['DASHBOARD']}/api/jobs/",
        data=b'{"entrypoint": "true"}',
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 401


def test_the_doctor_finds_that_head_sound_and_exits_with_1_for_an_input_that_is_not_there(
    head: dict[str, str], tmp_path: Path
):
    flags = ("--input", tmp_path / "nowhere", "--output", tmp_path / "out", "--min-free-gb", "0.1")
    answer = run_job("doctor", *flags, env=head)
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


def test_a_night_does_not_begin_on_a_cluster_that_gets_no_nodes(head: dict[str, str]):
    ask = [sys.executable, ROOT / "deploy" / "nodes.py", "--cpus", "2", "--wait-s", "1"]
    answer = subprocess.run(ask, env=head, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 1, answer.stderr
    assert "after 1 s 0 of 2 CPUs" in answer.stdout
