"""jobs/train.py interrupted and killed, then the same command again: it ends as an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled_clips import write_clips
from rank_group import TINY, history_of, tiny_config, train_alone
from running import environment, job_command

from vidpipe.interrupts import MESSAGE
from vidpipe.training.saved_state import state_names

LIMIT_S = 240.0
NUM_EPOCHS = 50  # short ones: it takes a second or two until Ctrl-C has ended the workers


@pytest.mark.usefixtures("ray_local")
def test_a_command_interrupted_killed_and_repeated_ends_as_an_undisturbed_one(tmp_path: Path):
    clips = write_clips(tmp_path / "clips", {"train": 53, "val": 13, "test": 11}, num_clips=2)
    calm = tiny_config(clips, tmp_path / "calm", epochs=NUM_EPOCHS, learning_rate=3e-4)
    expected = train_alone(calm)
    stormy = tiny_config(clips, tmp_path / "stormy", epochs=NUM_EPOCHS, learning_rate=3e-4)
    flags = ["--model", "transformer", "--backbone", "videomae", "--weights", "none"]
    flags += ["--model-config", *TINY.model_config, "--output", stormy.output, "--batch-size", 10]
    flags += ["--epochs", NUM_EPOCHS, "--learning-rate", 3e-4, "--checkpoint-every-s", 0.0001]
    flags += ["--num-workers", 1, "--cpus-per-worker", 1]
    command = job_command("train", clips, *flags)

    def run_until(is_time: Callable[[], bool], what: signal.Signals | None) -> tuple[int, str]:
        """Exit code and output; another signal comes while the process is on its way out."""
        with (tmp_path / "log").open("w+") as log:
            job = subprocess.Popen(command, env=environment({}), stdout=log, stderr=log)
            try:
                deadline_s = time.monotonic() + LIMIT_S
                while what and job.poll() is None and not is_time():
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
                if what:
                    job.send_signal(what)
                while what == signal.SIGINT and MESSAGE not in (tmp_path / "log").read_text():
                    assert job.poll() is None
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
                if what == signal.SIGINT:
                    time.sleep(0.3)
                    job.send_signal(what)
                code = job.wait(LIMIT_S)
            finally:
                job.kill()
            log.seek(0)
            return code, log.read()

    def is_past(epoch: int) -> Callable[[], bool]:
        """In the middle of this epoch or a later one."""

        def now() -> bool:
            names = state_names(stormy.output)
            return bool(names) and names[-1] > f"{epoch:05d}-0000002.pt" and not names[-1].endswith("-0000000.pt")

        return now

    code, text = run_until(is_past(1), signal.SIGINT)
    assert code == 130, text
    assert text.count(MESSAGE) == 1
    assert "Traceback" not in text
    first = state_names(stormy.output)[-1]
    code, text = run_until(is_past(int(first[:5]) + 2), signal.SIGKILL)
    assert code == -signal.SIGKILL, text
    assert "going on from epoch" in text
    assert not Path(stormy.output, "run.json").exists()
    assert state_names(stormy.output)[-1] > first
    code, text = run_until(lambda: True, None)
    assert code == 0, text
    assert history_of(stormy) == expected
    started_s = time.monotonic()
    code, text = run_until(lambda: True, None)
    assert (code, "finished" in text) == (0, True)
    print(f"a finished command again: {time.monotonic() - started_s:.1f} s")
