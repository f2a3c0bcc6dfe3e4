"""One run at a time works on an output, also when runs begin at the same moment, or die without a word."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vidpipe import lease as lease_module
from vidpipe.errors import OutputInUseError
from vidpipe.lease import Lease, hold
from vidpipe.transfer import put_bytes

SINCE = "2026-01-01T00:00:00+00:00"
ELSEWHERE = {"host": "node-7", "pid": 4711, "process": "another-boot/pid:[1]/4711/1", "since": SINCE}


def claims(output: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(Path(output, "lease").glob("*.json"))]


def claim_elsewhere(output: str, *, state: str = "holding", num_beats: int = 1, age_s: float = 0.0) -> Path:
    """A claim of a run on another machine, as its file was left `age_s` ago."""
    content = {"id": "0" * 32, "command": "preprocess", "state": state, "num_beats": num_beats, **ELSEWHERE}
    path = Path(output, "lease", f"{content['id']}.json")
    put_bytes(json.dumps(content).encode(), str(path))
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def test_a_run_holds_its_output_until_it_ends(tmp_path: Path) -> None:
    with hold(str(tmp_path), "predict"):
        (claim,) = claims(str(tmp_path))
        assert (claim["state"], claim["command"], claim["pid"]) == ("holding", "predict", os.getpid())
    assert not claims(str(tmp_path))
    with hold(str(tmp_path), "predict"):
        pass


@pytest.mark.parametrize("output", ["folder", "memory://bucket/lease-test"])
def test_a_second_run_leaves_and_says_whose_turn_it_is(tmp_path: Path, output: str) -> None:
    output = output if ":" in output else str(tmp_path)
    first = rf"in use by preprocess \(process {os.getpid()} on .* another --output"
    with hold(output, "preprocess", beat_s=0.1), pytest.raises(OutputInUseError, match=first):
        Lease(output, "preprocess", poll_s=0.05).take()
    Lease(output, "preprocess").take()


def test_of_runs_that_begin_at_the_same_moment_one_works(tmp_path: Path) -> None:
    for attempt in range(5):
        leases = [Lease(str(tmp_path / str(attempt)), "preprocess", poll_s=0.02) for _ in range(8)]
        barrier = threading.Barrier(len(leases))
        is_over = threading.Event()

        def work(lease: Lease, barrier: threading.Barrier = barrier, is_over: threading.Event = is_over) -> bool:
            barrier.wait()
            try:
                lease.take()
            except OutputInUseError:
                return False
            while not is_over.wait(0.05):
                lease.beat()
            return True

        with ThreadPoolExecutor(len(leases)) as threads:
            futures = [threads.submit(work, lease) for lease in leases]
            deadline = time.monotonic() + 30
            while sum(future.done() for future in futures) < len(leases) - 1 and time.monotonic() < deadline:
                time.sleep(0.02)
            is_over.set()
            assert sorted(future.result() for future in futures) == [False] * 7 + [True]


def test_a_run_that_was_killed_on_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    script = f"""import time; from vidpipe.lease import hold
with hold({str(tmp_path)!r}, "train", beat_s=0.1): print(1, flush=True); time.sleep(99)"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(OutputInUseError, match=rf"train \(process {process.pid} "):
            Lease(str(tmp_path), "train", poll_s=0.05).take()
        process.kill()
        with hold(str(tmp_path), "train"):  # not even waited for: a zombie is dead
            assert [claim["pid"] for claim in claims(str(tmp_path))] == [os.getpid()]


def test_a_silent_run_elsewhere_is_replaced_after_the_limit(tmp_path: Path) -> None:
    claim_elsewhere(str(tmp_path))
    start_s = time.monotonic()
    lease = Lease(str(tmp_path), "predict", limit_s=1.0, poll_s=0.05)
    lease.take()
    assert time.monotonic() - start_s >= 0.9
    assert [claim["host"] for claim in claims(str(tmp_path))] != ["node-7"]


def test_a_run_elsewhere_that_has_long_been_silent_is_replaced_at_once(tmp_path: Path) -> None:
    claim_elsewhere(str(tmp_path), age_s=3601)
    Lease(str(tmp_path), "predict", limit_s=3600).take()  # by the storage's clock
    assert len(claims(str(tmp_path))) == 1


def test_a_run_elsewhere_that_gives_a_sign_of_life_keeps_its_output(tmp_path: Path) -> None:
    claim_elsewhere(str(tmp_path))
    threading.Timer(0.3, lambda: claim_elsewhere(str(tmp_path), num_beats=2)).start()
    with pytest.raises(OutputInUseError, match=rf"preprocess \(process 4711 on node-7, since {SINCE[:19]}"):
        Lease(str(tmp_path), "predict", poll_s=0.05).take()
    assert [claim["host"] for claim in claims(str(tmp_path))] == ["node-7"]


def test_a_run_that_was_taken_for_dead_stops_before_it_writes(tmp_path: Path) -> None:
    first = Lease(str(tmp_path), "preprocess", limit_s=0.5)
    first.take()
    first.check()
    time.sleep(0.6)  # as a machine does that is suspended
    second = Lease(str(tmp_path), "preprocess", limit_s=0.5, poll_s=0.05)
    second.take()
    with pytest.raises(OutputInUseError, match="taken over by another run"):
        first.check()
    second.beat()


def test_a_run_that_writes_its_claim_again_after_it_was_removed_stops(tmp_path: Path) -> None:
    """Its listing came before the other run removed the claim, and what it writes comes after."""
    first = Lease(str(tmp_path), "preprocess", limit_s=0.5)
    first.take()
    (own,) = Path(tmp_path, "lease").glob("*.json")
    time.sleep(0.6)
    second = Lease(str(tmp_path), "preprocess", limit_s=0.5, poll_s=0.05)
    second.take()
    own.touch()
    with pytest.raises(OutputInUseError, match="in use by preprocess"):
        first.beat()


@pytest.fixture
def background() -> Iterator[None]:
    """As a shell starts a command with &: Ctrl-C is not for it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("background")
def test_a_run_in_the_background_is_interrupted_too_and_not_by_ctrl_c(tmp_path: Path) -> None:
    def work() -> None:
        with hold(str(tmp_path), "train", beat_s=0.1):
            os.kill(os.getpid(), signal.SIGINT)
            for path in Path(tmp_path, "lease").glob("*.json"):
                path.unlink()
            time.sleep(30)

    with pytest.raises(OutputInUseError, match="taken over"):
        work()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_the_work_is_interrupted_when_another_run_takes_over(tmp_path: Path) -> None:
    def work() -> None:
        with hold(str(tmp_path), "train", beat_s=0.1):
            for path in Path(tmp_path, "lease").glob("*.json"):
                path.unlink()
            time.sleep(30)

    with pytest.raises(OutputInUseError, match="taken over"):
        work()


def test_ctrl_c_stays_ctrl_c(tmp_path: Path) -> None:
    def work() -> None:
        with hold(str(tmp_path), "train"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not claims(str(tmp_path))


def test_a_storage_that_is_away_for_a_while_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put, num_failures = lease_module.put_bytes, 0

    def sometimes(data: bytes, url: str) -> None:
        nonlocal num_failures
        if b'"holding"' in data and num_failures < 3 and claims(str(tmp_path))[0]["state"] == "holding":
            num_failures += 1
            raise ConnectionError("the storage is away")
        put(data, url)

    monkeypatch.setattr(lease_module, "put_bytes", sometimes)
    monkeypatch.setattr(lease_module.logger, "parent", None)
    lease_module.logger.addHandler(caplog.handler)
    with hold(str(tmp_path), "train", beat_s=0.05):
        deadline = time.monotonic() + 20
        while claims(str(tmp_path))[0]["num_beats"] < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    lease_module.logger.removeHandler(caplog.handler)
    assert num_failures == 3
    assert sum("the storage is away" in record.message for record in caplog.records) == 3
