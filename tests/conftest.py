"""What integration and end-to-end tests share: a real S3 server, one local Ray, small videos."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import S3Server, seaweedfs

from vidpipe.synthetic import generate_folder

# A shell that starts the tests in the background has them ignore Ctrl-C, and all jobs that they start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def keyboard() -> Iterator[None]:
    """A command line that is parsed here takes Ctrl-C over, as in a job; the test after it has it back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    hook = sys.unraisablehook
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS on free loopback ports, credentials checked, and the AWS variables that lead to it."""
    with seaweedfs(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.env.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def ray_local(s3: S3Server) -> Iterator[str]:
    """Address of the Ray of this test session, where stages and jobs run; its workers know the S3 server."""
    import ray

    from vidpipe.cli import setup_worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one to ~/.ray
        context = ray.init(
            "local",
            num_cpus=3,  # on two cores: training is tried on three workers
            include_dashboard=False,
            logging_level="WARNING",
            object_store_memory=256 << 20,
            _node_ip_address="127.0.0.1",
            runtime_env={"worker_process_setup_hook": setup_worker},
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
