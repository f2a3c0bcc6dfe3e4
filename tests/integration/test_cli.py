"""The jobs as a user calls them: fast answers, exit codes, messages with the way out, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import descendants, environment, is_running, job_command, run_job

from vidpipe.synthetic import ENCODINGS, iter_frames, write_video

JOBS = ["index", "preprocess"]
NOWHERE: dict[str, str | None] = {"RAY_ADDRESS": "127.0.0.1:1"}  # a job that asks for Ray fails
SMALL = ["--size", "32", "--num-frames", "4"]


def refused(*arguments: object, env: dict[str, str | None] = NOWHERE) -> str:
    """The message of a preprocess that must end with status 2 before any work, on one line."""
    done = run_job("preprocess", *arguments, env=env)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return re.sub(r"[\s│]+", " ", done.stderr)


@pytest.mark.parametrize("arguments", [["--help"], ["source", "--output", "x.parquet", "--limmit", "3"], []])
@pytest.mark.parametrize("job", JOBS)
def test_help_and_wrong_flags_are_answered_at_once(job: str, arguments: list[str]):
    start_s = time.monotonic()
    done = run_job(job, *arguments)
    assert time.monotonic() - start_s < 2
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert ("--limit" in done.stdout) if arguments == ["--help"] else ("Traceback" not in done.stderr)


@pytest.mark.parametrize("job", JOBS)
def test_help_imports_nothing_heavy(job: str):
    command = [sys.executable, "-X", "importtime", *job_command(job, "--help")[1:]]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert "tyro" in imported
    assert not imported & {"ray", "torch", "pyarrow", "av", "numpy", "sklearn", "s3fs", "pandas"}


def test_a_wrong_flag_names_the_right_one():
    assert "--limit" in refused("videos", "--output", "out", "--limmit", "3")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "0"], "size must be from 1 to 8192 pixels a side, got '0'"),
        (["--size", "big"], "size must be pixels such as 112, or HEIGHTxWIDTH such as 128x171, got 'big'"),
        (["--size", "9000"], "from 1 to 8192 pixels"),
        (["--size", "8192", "--num-frames", "64"], "the limit is 1 GiB; take fewer frames or a smaller size"),
        (["--decoder", "opencv"], "Expected one of ('pyav', 'decord', 'torchcodec')"),
        (["--num-frames", "0"], "num_frames must be above 0, got 0"),
        (["--frame-stride", "2"], "frame_stride is for sampling dense, not uniform"),
        (["--max-failure-rate", "5"], "max_failure_rate must be from 0 to 1, got 5"),
        (["--limit", "0"], "limit must be above 0, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_rule(flags: list[str], message: str, tmp_path: Path):
    assert message in refused(tmp_path, "--output", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    message = refused(tmp_path / "vidoes", "--output", tmp_path / "out")
    assert f"{tmp_path / 'vidoes'} is not there: check the spelling" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_without_videos_tells_what_was_looked_for(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no video")
    assert "1 files seen, none ends in .mp4" in refused(tmp_path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "file,label\na.mp4,x\n", "has no column url or path (it has file, label)"),
        ("m.csv", "url,label\n", "the table has no rows"),
        ("m.csv", "url\na.mp4\nb.mp4\na.mp4\n", "lists 1 videos more than once (first: "),
        ("m.csv", "url,split\na.mp4,tset\n", "has a split 'tset'; a split is one of train, val, test, unused"),
        ("m.jsonl", '{"url": "a.mp4"}\n{"url": \n', "cannot be read as .jsonl"),
        ("m.parquet", "not Parquet", "is not a Parquet file"),
    ],
)
def test_a_table_that_is_no_manifest_is_refused(name: str, text: str, message: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    assert message in refused(tmp_path / name, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_its_columns_or_with_a_video_twice_is_refused(twenty_videos: Path, tmp_path: Path):
    manifest = tmp_path / "manifest.parquet"
    assert run_job("index", twenty_videos, "--output", manifest).returncode == 0
    table = pq.read_table(manifest)
    pq.write_table(table.drop_columns(["version"]), manifest)
    assert "has no column version" in refused(manifest, "--output", tmp_path / "out")
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), manifest)
    assert "lists 1 videos more than once" in refused(manifest, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_exit_codes_tell_done_from_too_many_failures_from_other_settings(
    ray_local: str, twenty_videos: Path, tmp_path: Path
):
    videos, out = shutil.copytree(twenty_videos / "left", tmp_path / "videos"), tmp_path / "out"
    done = run_job("preprocess", videos, "--output", out, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "videos     3 = 3 ok + 0 failed + 0 unchanged" in done.stdout
    assert len(done.stdout.splitlines()) == 5
    assert "streaming_executor" not in done.stderr
    (tmp_path / "videos" / "broken.mp4").write_text("not a video")
    done = run_job("preprocess", videos, "--output", out, *SMALL)
    assert done.returncode == 3, done.stderr
    assert "error: 1 of 1 videos failed, --max-failure-rate is 0.5; all results are written" in done.stderr
    assert "failures   not_a_video 1" in done.stdout
    message = refused(videos, "--output", out, "--size", "32", "--num-frames", "8")
    assert "--num-frames: 4, not 8" in message
    assert "give the same flags as then, or another --output" in message


def test_accounts_that_do_not_add_up_are_no_mistake_of_the_command(ray_local: str, twenty_videos: Path, tmp_path: Path):
    videos, out = twenty_videos / "left", tmp_path / "out"
    assert run_job("preprocess", videos, "--output", out, *SMALL).returncode == 0
    next((out / "clips").iterdir()).unlink()
    done = run_job("preprocess", videos, "--output", out, *SMALL)
    assert done.returncode == 1
    assert "the accounts do not add up" in done.stderr
    assert "1 parts missing" in done.stderr
    assert not (out / "run.json").exists()


def test_ctrl_c_keeps_what_is_recorded_and_leaves_no_process(tmp_path: Path):
    out, videos = tmp_path / "out", slow_videos(tmp_path / "videos", num_videos=30)
    command = job_command("preprocess", videos, "--output", out, *SMALL, "--num-workers", "1")
    env = environment({"RAY_ADDRESS": "local"})
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not list(out.glob("clips/*.parquet")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        started = descendants(process.pid)
        assert len(started) > 3
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            time.sleep(0.3)
        message = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, message
    assert message.count("interrupted: what is recorded stays") == 1
    assert "Traceback" not in message
    num_done = len(urls_of_clips(out))  # each in a whole part, recorded or to be found by the next run
    assert 0 < num_done < 30
    assert not (out / "run.json").exists()
    deadline_s = time.monotonic() + 20
    while alive := {pid for pid in started if is_running(pid)}:
        assert time.monotonic() < deadline_s, (
            f"left over: {[Path(f'/proc/{pid}/cmdline').read_text() for pid in alive]}"
        )
        time.sleep(0.2)

    done = run_job("preprocess", videos, "--output", out, *SMALL, env={"RAY_ADDRESS": "local"})
    assert done.returncode == 0, done.stderr
    counts = json.loads((out / "run.json").read_text())["counts"]
    assert counts["ok"] + counts["unchanged"] == 30
    assert counts["unchanged"] == num_done
    assert pandas.read_parquet(out / "status")["url"].nunique() == 30
    assert len(urls_of_clips(out)) == len(set(urls_of_clips(out))) == 30


def urls_of_clips(output: Path) -> list[str]:
    """The video of each clip in `clips/`."""
    return [
        url
        for part in output.glob("clips/*.parquet")
        for url in pq.read_table(part, columns=["url"])["url"].to_pylist()
    ]


def slow_videos(folder: Path, num_videos: int) -> Path:
    """Copies of a video that takes a moment to decode."""
    folder.mkdir()
    frames = iter_frames("grow", np.random.default_rng(0), num_frames=100, height=480, width=640)
    write_video(folder / "0.mp4", frames, encoding=ENCODINGS["h264_mp4"])
    for number in range(1, num_videos):
        shutil.copyfile(folder / "0.mp4", folder / f"{number}.mp4")
    return folder
