"""Ctrl-C ends a job with 130 and one message, wherever it hits; once the result is written it changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import is_running

from vidpipe.interrupts import MESSAGE

# A job without flags and without Ray; `press` is Ctrl-C.
JOB = """
import atexit, os, signal, sys, time
from vidpipe.cli import run
from vidpipe.errors import FailureRateError, UsageError
from vidpipe.interrupts import ignore_interrupts, watch_keyboard
from vidpipe.lease import hold

def press(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)

watch_keyboard()
{imports}

def stage(config):
    {body}

run(stage, None)
"""
SWALLOWED = """
    try:
        press()
        time.sleep(30)
    except BaseException:
        pass
    time.sleep(30)
"""
IN_A_DESTRUCTOR = """
    class Held:
        def __del__(self):
            press()
            time.sleep(30)
    held = Held()
    del held
    time.sleep(30)
"""
TURNED_INTO_ANOTHER_ERROR = """
    try:
        press()
        time.sleep(30)
    except KeyboardInterrupt as error:
        raise ImportError("libtorch") from error
"""
DISTURBED_WHILE_IT_COMMITS = """
    try:
        press()
        time.sleep(30)
    finally:
        try:
            raise OSError("a try that fails")
        except OSError:
            press()
        press(2)
        time.sleep(1.5)
        print("committed", flush=True)
"""
AT_THE_END = """
    atexit.register(press, 2)
    press()
    time.sleep(30)
"""


def run_job(tmp_path: Path, body: str, imports: str = "", *, before: object = signal.default_int_handler):
    def prepare() -> None:
        signal.signal(signal.SIGINT, before)

    (tmp_path / "job.py").write_text(JOB.format(body=body, imports=imports))
    return subprocess.run(
        [sys.executable, "job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=prepare
    )


@pytest.mark.parametrize("body", [SWALLOWED, IN_A_DESTRUCTOR, TURNED_INTO_ANOTHER_ERROR, AT_THE_END])
def test_whoever_swallows_it_the_job_ends_with_130_and_one_message(tmp_path: Path, body: str):
    job = run_job(tmp_path, body)
    assert (job.returncode, job.stderr) == (130, f"{MESSAGE}\n")


def test_an_import_that_is_interrupted_ends_the_job(tmp_path: Path):
    (tmp_path / "heavy.py").write_text("import sys, time; sys.modules['__main__'].press(); time.sleep(30)")
    job = run_job(tmp_path, "pass", "try:\n    import heavy\nexcept BaseException as e:\n    raise ImportError from e")
    assert (job.returncode, job.stderr) == (130, f"{MESSAGE}\n")


def test_what_is_committed_on_the_way_out_is_committed(tmp_path: Path):
    job = run_job(tmp_path, DISTURBED_WHILE_IT_COMMITS)
    assert (job.returncode, job.stdout, job.stderr) == (130, "committed\n", f"{MESSAGE}\n")


@pytest.mark.parametrize(("end", "code"), [("return", 0), ("raise FailureRateError('3 of 4')", 3), ("sys.exit(1)", 1)])
def test_once_the_result_is_written_the_exit_code_is_the_runs_own(tmp_path: Path, end: str, code: int):
    job = run_job(tmp_path, f"ignore_interrupts(); atexit.register(press, 2); press(2); {end}")
    assert (job.returncode, MESSAGE in job.stderr) == (code, False)


def test_a_mistake_that_was_said_stays_one(tmp_path: Path):
    job = run_job(tmp_path, "atexit.register(press, 2); raise UsageError('size must be above 0')")
    assert (job.returncode, job.stderr) == (2, "error: size must be above 0\n")


def test_what_an_interrupted_job_has_started_ends_with_it(tmp_path: Path):
    body = """
    child = subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '120'])"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (below := Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()):
        time.sleep(0.01)
    print(child.pid, *below, flush=True)
    press()
    time.sleep(30)
    """
    job = run_job(tmp_path, body, imports="import subprocess; from pathlib import Path")
    pids = list(map(int, job.stdout.split()))
    assert (job.returncode, len(pids)) == (130, 2)
    deadline_s = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_starts_while_an_interrupted_job_ends_and_loses_its_parent_ends_with_it(tmp_path: Path):
    body = """
    def shut_down():  # as Ray does: the node ends, and an agent that it has just started stays
        node = subprocess.Popen(["sh", "-c", "sleep 120 & echo $!; exec sleep 120"], stdout=subprocess.PIPE,
            start_new_session=True)
        print(int(node.stdout.readline()), flush=True)
        node.kill()

    sys.modules["ray"] = types.SimpleNamespace(shutdown=shut_down)
    press()
    time.sleep(30)
    """
    job = run_job(tmp_path, body, imports="import subprocess, types")
    assert job.returncode == 130
    assert not is_running(int(job.stdout))


def test_a_job_in_the_background_goes_on(tmp_path: Path):
    job = run_job(tmp_path, "press(2); print('done')", before=signal.SIG_IGN)
    assert (job.returncode, job.stdout, job.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def test_a_job_whose_output_is_taken_over_says_so(tmp_path: Path, before: object):
    body = """
    with hold("out", "train", beat_s=0.1):
        os.unlink(f"out/lease/{os.listdir('out/lease')[0]}")
        try:
            time.sleep(30)
        except KeyboardInterrupt as error:
            raise ImportError("libtorch") from error
    """
    job = run_job(tmp_path, body, before=before)
    assert job.returncode == 4, job.stderr
    assert "taken over by another run" in job.stderr
    assert MESSAGE not in job.stderr
