"""jobs/doctor.py as it is run: help without anything heavy, a real S3 server, wrong credentials."""

from __future__ import annotations

import subprocess
import sys

import pytest
from running import ROOT, S3Server

from vidpipe.config import DoctorConfig
from vidpipe.doctor import CHECKS, ClusterFacts


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
