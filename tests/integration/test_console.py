"""A newcomer sees the job's own few lines, in order, and none that would have to be ignored."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from labelled_clips import write_clips
from rank_group import TINY
from running import JOB_LIMIT_S, environment, job_command, run_job
from small_checkpoint import make_checkpoint

pytestmark = pytest.mark.usefixtures("ray_local")

TIME = r"\d\d:\d\d:\d\d INFO "


def unexpected(text: str, expected: list[str]) -> list[str]:
    """The lines that none of the patterns matches."""
    return [line for line in text.splitlines() if not any(re.fullmatch(pattern, line) for pattern in expected)]


def test_a_file_gets_the_story_of_a_training_on_two_workers_in_order_and_plain(tmp_path: Path):
    clips, out = write_clips(tmp_path / "clips", {"train": 53, "val": 13}, num_clips=2), tmp_path / "out"
    done = run_job(
        *("train", clips, "--output", out, "--model", "transformer", "--backbone", "videomae", "--weights", "none"),
        *("--model-config", *TINY.model_config, "--epochs", 3, "--batch-size", 10, "--num-workers", 2),
        *("--cpus-per-worker", 1, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    progress = TIME + r"\d+ / 30 steps \(.*"
    story = [TIME + "2 workers, each with 1 CPU", *(TIME + rf"epoch {epoch}/3: loss .*" for epoch in (1, 2, 3))]
    assert unexpected(done.stderr, [*story, progress]) == []
    told = [line for line in done.stderr.splitlines() if not re.fullmatch(progress, line)]
    assert unexpected("\n".join(told), story) == []
    assert [bool(re.fullmatch(pattern, line)) for pattern, line in zip(story, told, strict=True)] == [True] * 4
    names = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert names == ["geometry", "clips", "val", "best", "time", "output"]
    assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_gets_a_bar_and_the_summary_after_it(twenty_videos: Path, tmp_path: Path):
    checkpoint = make_checkpoint(tmp_path / "model")
    text = on_a_terminal("predict", twenty_videos, "--checkpoint", checkpoint, "--output", tmp_path / "out")
    text = text.removesuffix("\x1b[0m").replace("\r\n", "\n")  # a terminal is reset at the end
    lines = [line.rpartition("\r")[2] for line in text.strip("\n").split("\n")]
    bar = r"█{10} 20 / 20 videos \(100 %\), 0 failed *"
    first = TIME + "20 videos to label in .*"
    summary = [rf"{name} .*" for name in ("videos", "failures", "labels", "time", "output")]
    assert unexpected("\n".join(lines), [first, bar, *summary]) == []
    assert re.fullmatch(bar, lines[1])
    assert [line.split(" ", 1)[0] for line in lines[2:]] == ["videos", "failures", "labels", "time", "output"]


def on_a_terminal(name: str, *arguments: object) -> str:
    """All that a job writes to the terminal that it is started on."""
    terminal, end = pty.openpty()
    job = subprocess.Popen(job_command(name, *arguments), env=environment({}), stdout=end, stderr=end, stdin=end)
    os.close(end)
    written = io.BytesIO()
    try:
        while data := os.read(terminal, 1 << 16):
            written.write(data)
    except OSError:  # how Linux says that nobody has the terminal open any more
        pass
    finally:
        os.close(terminal)
    assert job.wait(JOB_LIMIT_S) == 0, written.getvalue().decode()
    return written.getvalue().decode()
