"""`ray job submit` against a cluster with token authentication, as Ray 2.60 starts it: code, logs, exit status."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import s3fs
from ray_head import RayHead, ray_head
from running import BIN, ROOT, S3Server, environment

SMALL = ["--size", "32", "--num-frames", "4"]
WORKDIR_VERSION = "0.0.0+workdir"
TOO_LARGE_BYTES = 700 << 20  # Ray refuses to upload more than 500 MiB


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHead]:
    """A cluster of one node, on the loopback interface."""
    with ray_head("--node-ip-address=127.0.0.1", "--num-cpus=2") as head:
        yield head


def submit(
    cluster: RayHead, workdir: Path, *entrypoint: object, options: tuple[object, ...] = (), **env: str | None
) -> tuple[int, str]:
    """Exit status and output of `ray job submit -- ENTRYPOINT`."""
    command = [BIN / "ray", "job", "submit", "--address", cluster.address, "--working-dir", workdir, *options, "--"]
    done = subprocess.run(
        [*map(str, command), *map(str, entrypoint)],
        env=environment({**cluster.env, **env}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that tells itself apart from the installed package, with things in it that must not be uploaded."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "vidpipe", ".gitignore", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    package, worker_code = folder / "vidpipe" / "__init__.py", folder / "vidpipe" / "make_parts.py"
    package.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{WORKDIR_VERSION}"', package.read_text()))
    worker_code.write_text(
        worker_code.read_text() + '\nimport logging\nlogging.getLogger(__name__).info("a worker speaks")\n'
    )
    for ignored in (".venv", "demo"):
        (folder / ignored).mkdir()
        with (folder / ignored / "large").open("wb") as file:
            file.truncate(TOO_LARGE_BYTES)
    return folder


@pytest.fixture(scope="module")
def finished_job(
    cluster: RayHead, workdir: Path, s3: S3Server, twenty_videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str, str]:
    """Exit status and output of a job from bucket to bucket, and the bucket; one video of 21 is broken."""
    bucket = s3.make_bucket()
    s3fs.S3FileSystem().put(str(twenty_videos), f"{bucket}/videos", recursive=True)
    s3fs.S3FileSystem().pipe_file(f"{bucket}/videos/up/broken.mp4", b"not a video")
    # The credentials go with the job, in a file: a command line can be read by every user of the machine.
    runtime_env = tmp_path_factory.mktemp("job") / "runtime_env.json"
    runtime_env.write_text(json.dumps({"env_vars": s3.env}))
    arguments = [f"{bucket}/videos", "--output", f"{bucket}/out", "--layout", "folders", "--contact-sheet", *SMALL]
    status, output = submit(
        cluster, workdir, "python", "jobs/preprocess.py", *arguments, options=("--runtime-env", runtime_env)
    )
    return status, output, bucket


def test_a_job_on_a_cluster_runs_the_uploaded_code_from_bucket_to_bucket(finished_job: tuple[int, str, str]):
    status, output, bucket = finished_job
    assert status == 0, output
    assert "videos     21 = 20 ok + 1 failed + 0 unchanged" in output
    fs = s3fs.S3FileSystem()
    run = json.loads(fs.cat(f"{bucket}/out/run.json"))
    assert run["counts"] == {"videos": 21, "ok": 20, "failed": 1, "unchanged": 0, "remaining": 0}
    assert run["versions"]["vidpipe"] == WORKDIR_VERSION  # the driver's
    for part in fs.ls(f"{bucket}/out/clips"):
        facts = json.loads(pq.read_schema(fs.open(part)).metadata[b"vidpipe"])
        assert facts["vidpipe"] == WORKDIR_VERSION  # the workers'
    assert fs.cat(f"{bucket}/out/contact_sheet.png").startswith(b"\x89PNG")


def test_log_lines_of_workers_appear_in_the_output_of_the_job(finished_job: tuple[int, str, str]):
    _, output, _ = finished_job
    assert re.search(r"pid=\d+.*INFO a worker speaks", output), output


def test_a_job_that_cannot_work_as_given_makes_the_submission_fail(cluster: RayHead, workdir: Path, tmp_path: Path):
    status, output = submit(
        cluster, workdir, "python", "jobs/preprocess.py", "/no/such/folder", "--output", tmp_path / "out"
    )
    assert status == 1
    assert "error: /no/such/folder is not there" in output


def test_too_many_failed_videos_make_the_submission_fail(cluster: RayHead, workdir: Path, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_text("not a video")
    out = tmp_path / "out"
    status, output = submit(
        cluster, workdir, "python", "jobs/preprocess.py", tmp_path / "videos", "--output", out, *SMALL
    )
    assert status == 1
    assert "error: 1 of 1 videos failed" in output
    assert json.loads((out / "run.json").read_text())["counts"]["failed"] == 1


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "Invalid authentication token"),
    ],
    ids=["no token", "another token"],
)
def test_without_the_token_nothing_can_be_submitted(
    env: dict[str, str | None], message: str, cluster: RayHead, tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    status, output = submit(
        cluster, tmp_path / "empty", "python", "-c", f"open('{tmp_path}/ran', 'w')", HOME=str(tmp_path), **env
    )
    assert status != 0
    assert message in output
    assert not (tmp_path / "ran").exists()
