"""Ctrl-C at random moments: `python tests/interrupt_storm.py --train 100 --preprocess 50 --predict 50` by hand.

Each try runs a job on the smallest inputs and sends SIGINT at a moment drawn from the span of an undisturbed run,
which begins when the job's handler is set. Half get a second signal 0 to 2 s later, half have another Ray beside them,
half of the signals go to the process and half to its group, as a terminal sends them. Each try is a line of --log, so
that the storm can be had in pieces: the same seed makes the same tries, and those that the log holds are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from labelled_clips import write_clips  # noqa: E402
from rank_group import TINY  # noqa: E402
from running import environment, job_command  # noqa: E402
from small_checkpoint import make_checkpoint  # noqa: E402

from vidpipe.interrupts import EXIT_CODE, MESSAGE  # noqa: E402
from vidpipe.synthetic import generate_folder  # noqa: E402

JOBS = ("train", "preprocess", "predict")
END_LIMIT_S = 60.0
EDGE_S = 0.5  # a result that came so soon after the signal may have been on its way already
NOISE = ("Traceback", "Exception ignored", "KeyboardInterrupt", "*** SIG", "Fatal Python error")


@dataclass(frozen=True)
class Try:
    """One run to be interrupted; `moment` and `second` are shares of their spans."""

    job: str
    number: int
    moment: float
    second: float | None
    to_group: bool
    beside: bool


@dataclass(frozen=True)
class Outcome:
    code: int | None
    """None of a process that hung and had to be killed."""
    verdict: str
    at_s: float
    took_s: float
    text: str = ""


def plan(job: str, count: int, seed: int) -> list[Try]:
    chance = random.Random(f"{seed} {job}")
    tries = []
    for number in range(count):
        moment, second = chance.random(), chance.random()
        tries.append(Try(job, number, moment, second if number % 2 else None, chance.random() < 0.5, number % 4 > 1))
    return tries


def prepare(folder: Path) -> None:
    """Inputs of all jobs."""
    folder.mkdir(parents=True)
    generate_folder(str(folder / "videos"), num_videos=4, seed=0, num_frames=24, height=64, width=96)
    write_clips(folder / "clips", {"train": 12, "val": 4})
    make_checkpoint(folder / "checkpoint")


def command(job: str, folder: Path, output: Path) -> list[str]:
    flags = {
        "train": [
            *(folder / "clips", "--model", "transformer", "--backbone", "videomae", "--weights", "none"),
            *("--model-config", *TINY.model_config, "--epochs", 3, "--batch-size", 4, "--num-workers", 1),
            *("--cpus-per-worker", 1),
        ],
        "preprocess": [folder / "videos", "--size", 32, "--num-frames", 4, "--num-workers", 1],
        "predict": [folder / "videos", "--checkpoint", folder / "checkpoint", "--num-workers", 1, "--num-actors", 1],
    }
    return job_command(job, *flags[job], "--output", output)


class Run:
    """A job in a session of its own."""

    def __init__(self, job: str, folder: Path, where: Path) -> None:
        self.output, self.log = where / "out", where / "log"
        where.mkdir()
        with self.log.open("w") as log:
            env = environment({"RAY_ADDRESS": "local"})
            self.process = subprocess.Popen(
                command(job, folder, self.output), env=env, stdout=log, stderr=log, start_new_session=True
            )
        while not self.is_watching() and self.process.poll() is None:
            time.sleep(0.002)
        self.since_s = time.monotonic()

    def is_watching(self) -> bool:
        """Whether the job's own handler is set: SIGALRM is caught since then."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return False
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGALRM - 1) & 1)

    def has_result(self) -> bool:
        return (self.output / "run.json").exists()

    def result_s(self) -> float:
        """The time of day at which the result was written."""
        return (self.output / "run.json").stat().st_mtime if self.has_result() else math.inf

    def has_ended_well(self) -> bool:
        return self.has_result() and "\noutput  " in f"\n{self.log.read_text()}"

    def send(self, to_group: bool) -> None:
        if to_group:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.send_signal(signal.SIGINT)

    def processes_left(self) -> list[str]:
        """Command lines of what the job started and is still there; Ray's own processes need a moment to end."""
        deadline_s = time.monotonic() + END_LIMIT_S
        while pids := [path for path in Path("/proc").glob("[0-9]*") if session_of(path) == self.process.pid]:
            if time.monotonic() > deadline_s:
                return [command_line(path) for path in pids]
            time.sleep(0.2)
        return []


def session_of(process: Path) -> int | None:
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return ""


def interrupt(one: Try, folder: Path, where: Path, span_s: float) -> Outcome | None:
    """Make a try; None where the job had ended before the signal."""
    run = Run(one.job, folder, where)
    process = run.process
    try:
        time.sleep(max(run.since_s + one.moment * span_s - time.monotonic(), 0))
        was_written, had_ended_well = run.has_result(), run.has_ended_well()
        if process.poll() is not None:
            return None
        sent_s, sent_at, said_before = time.monotonic(), time.time(), len(run.log.read_text())
        run.send(one.to_group)
        if one.second is not None:
            try:
                process.wait(2 * one.second)
            except subprocess.TimeoutExpired:
                run.send(one.to_group)
        try:
            code = process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        took_s = time.monotonic() - sent_s
    finally:
        process.kill()
        process.wait()
    text = run.log.read_text()
    on_edge = not had_ended_well and (was_written or run.result_s() < sent_at + EDGE_S)
    expected = {0} if had_ended_well else {0, EXIT_CODE} if on_edge else {EXIT_CODE}
    verdict = "result written" if had_ended_well else "on the edge" if on_edge else "interrupted"
    if code not in expected:
        verdict = "WRONG CODE"
    elif has_noise(text[said_before:]) or text.count(MESSAGE) != (code == EXIT_CODE):
        verdict = "NOISE"
    elif left := run.processes_left():
        verdict, text = "PROCESSES LEFT", "\n".join([text, *left])
    bad = verdict.isupper()
    return Outcome(code, verdict, round(sent_s - run.since_s, 2), round(took_s, 2), text if bad else "")


def has_noise(text: str) -> bool:
    """Ray's cleaner complains of each other Ray on the machine, interrupted or not."""
    lines = [line for line in text.splitlines() if "(PlacementGroupCleaner" not in line]
    return any(noise in line for line in lines for noise in NOISE)


def undisturbed_s(job: str, folder: Path, where: Path) -> float:
    """From the handler being set to the end of the process."""
    run = Run(job, folder, where)
    assert run.process.wait(600) == 0, run.log.read_text()
    seconds = time.monotonic() - run.since_s
    assert run.has_ended_well(), run.log.read_text()
    run.processes_left()
    shutil.rmtree(where)
    return seconds


@contextmanager
def another_ray(is_wanted: bool) -> Iterator[None]:
    import ray

    if is_wanted:
        ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR", object_store_memory=80 << 20)
    yield
    ray.shutdown()


def storm(tries: list[Try], spans: dict[str, float], folder: Path, log: Path, num_parallel: int) -> None:
    counter = itertools.count()

    def make(one: Try) -> None:
        outcome, again, span_s = None, 0, spans[one.job]
        while outcome is None and again < 10:  # a run that was quicker than usual: a little sooner
            where = folder / f"try-{next(counter)}"
            outcome = interrupt(one, folder, where, span_s * 0.95**again)
            shutil.rmtree(where)
            again += 1
        assert outcome is not None
        with log.open("a") as file:
            file.write(json.dumps(asdict(one) | asdict(outcome)) + "\n")
        print(f"{one.job:<10} {one.number:>3} at {outcome.at_s:>5} s: {outcome.code} {outcome.verdict}", flush=True)

    with ThreadPoolExecutor(num_parallel) as pool:
        list(pool.map(make, tries))


def print_table(lines: list[dict[str, object]]) -> int:
    """Exit codes and verdicts per kind; how many are wrong."""
    kinds = Counter(
        (
            str(line["job"]),
            "one signal" if line["second"] is None else "two signals",
            "another Ray" if line["beside"] else "alone",
            f"{line['code']} {line['verdict']}",
        )
        for line in lines
    )
    for (job, signals, beside, verdict), count in sorted(kinds.items()):
        print(f"{job:<11}{signals:<13}{beside:<13}{verdict:<24}{count:>4}")
    bad = [line for line in lines if str(line["verdict"]).isupper()]
    slowest_s = max((float(str(line["took_s"])) for line in lines), default=0.0)
    print(f"{len(lines) - len(bad)} of {len(lines)} as promised; the slowest took {slowest_s:.1f} s to end")
    return len(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for job in JOBS:
        parser.add_argument(f"--{job}", type=int, default=0, metavar="TRIES")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--log", type=Path, default=Path("interrupt_storm.jsonl"))
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one to ~/.ray
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tries = [one for job in JOBS for one in plan(job, getattr(options, job), options.seed)]
    done = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
    made = {(line["job"], line["number"]) for line in done}
    left = [one for one in tries if (one.job, one.number) not in made]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary, "inputs")
        prepare(folder)
        spans = {job: undisturbed_s(job, folder, folder / "calm") for job in sorted({one.job for one in left})}
        print("undisturbed:", ", ".join(f"{job} {seconds:.1f} s" for job, seconds in spans.items()), flush=True)
        for beside in (False, True):
            with another_ray(beside):
                group = [one for one in left if one.beside == beside]
                storm(group, spans, folder, options.log, options.parallel)
    sys.exit(print_table([json.loads(line) for line in options.log.read_text().splitlines()]) > 0)


if __name__ == "__main__":
    main()
