"""The same job submitted twice: one works, one leaves; its owner killed on another machine, the next takes over."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import s3fs
from running import ROOT, S3Server, environment, job_command

from vidpipe.lease import LIMIT_S
from vidpipe.synthetic import generate_folder
from vidpipe.transfer import file_names

sys.path.append(str(ROOT / "tests" / "faults"))
from injected import marked

# A process in another PID namespace cannot be asked whether it lives, like one on another machine.
ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
may_unshare = shutil.which("unshare") is not None and subprocess.run([*ELSEWHERE, "true"]).returncode == 0
OTHER_WORK_S = 60  # Ray's start and the decoding, on a busy machine


@pytest.mark.skipif(not may_unshare, reason="needs the right to make a PID namespace")
def test_of_two_submissions_one_works_and_a_killed_one_is_replaced(s3: S3Server, tmp_path: Path):
    bucket = s3.make_bucket()
    generate_folder(str(tmp_path / "videos"), num_videos=6, seed=0, num_frames=24, height=64, width=96)
    sound = next(path for path in (tmp_path / "videos").rglob("*.mp4"))
    (tmp_path / "videos" / "hangs.mp4").write_bytes(marked(sound.read_bytes(), "hang"))
    s3fs.S3FileSystem().put(str(tmp_path / "videos"), f"{bucket}/videos", recursive=True)
    flags = [f"{bucket}/videos", "--output", f"{bucket}/out", "--size", "32", "--num-frames", "4"]
    env = environment({"RAY_ADDRESS": "local", "PYTHONPATH": str(ROOT / "tests" / "faults")})
    command = job_command("preprocess", *flags, "--video-timeout-s", "900")
    with (tmp_path / "owner.log").open("wb") as log:
        owner = subprocess.Popen([*ELSEWHERE, *command], env=env, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for_claim(f"{bucket}/out", owner)
        second = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert second.returncode == 4, second.stderr
        assert f"{bucket}/out is in use by preprocess (process " in second.stderr
        assert owner.poll() is None
    finally:
        for process in psutil.Process(owner.pid).children():  # the first of its namespace: all others go with it
            process.send_signal(signal.SIGKILL)
        owner.wait(30)

    start_s = time.monotonic()
    command[-1] = "5"
    third = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - start_s
    assert third.returncode == 0, third.stderr
    assert "ended without a word; this run takes over" in third.stderr
    assert seconds < LIMIT_S + OTHER_WORK_S
    print(f"replaced and done after {seconds:.0f} s")
    rows = pq.read_table(f"{bucket}/out/status").to_pylist()
    assert sorted(row["error_code"] or "ok" for row in rows) == ["ok"] * 6 + ["timeout"]
    assert file_names(f"{bucket}/out/lease") == []


def wait_for_claim(output: str, owner: subprocess.Popen[bytes]) -> None:
    """Until the run holds its output."""
    fs, deadline_s = s3fs.S3FileSystem(), time.monotonic() + 120
    while time.monotonic() < deadline_s:
        assert owner.poll() is None, "the first run ended by itself"
        fs.invalidate_cache()
        if any(json.loads(fs.cat(path))["state"] == "holding" for path in fs.glob(f"{output}/lease/*.json")):
            return
        time.sleep(0.2)
    pytest.fail("the first run never held its output")
