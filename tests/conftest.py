"""What integration and end-to-end tests share: a real S3 server, one local Ray, small videos."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import BIN, S3Server, answers, free_ports, s3_user, wait_until

from vidpipe.synthetic import generate_folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS on free loopback ports, credentials checked, and the AWS variables that lead to it."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [s3_user("writer", "Admin"), s3_user("reader", "Read", "List")]}))
    ports = free_ports(8)
    master, volume, filer, s3_port, *grpc = ports
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "volume.max": 100,
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
    with (folder / "weed.log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: answers(endpoint), process, folder / "weed.log")
            for name, value in writer.items():
                patch.setenv(name, value)
            yield S3Server(endpoint, writer, reader)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # asked kindly it takes 15 s
            process.wait()
            for port in ports:
                for left_over in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left_over.unlink()


@pytest.fixture(scope="session")
def ray_local(s3: S3Server) -> Iterator[str]:
    """Address of the Ray of this test session, where stages and jobs run; its workers know the S3 server."""
    import ray

    from vidpipe.cli import setup_logging

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one to ~/.ray
        context = ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="WARNING",
            object_store_memory=256 << 20,
            _node_ip_address="127.0.0.1",
            runtime_env={"worker_process_setup_hook": setup_logging},
        )
        patch.setenv("RAY_ADDRESS", context.address_info["gcs_address"])
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="session")
def twenty_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 20 good videos of 14 encodings in class folders: copy what you change."""
    folder = tmp_path_factory.mktemp("videos")
    generate_folder(str(folder), num_videos=20, seed=0, num_frames=24, height=64, width=96)
    return folder
