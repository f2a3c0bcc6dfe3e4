"""How far a run is: a bar or lines, and a time that is left only once it means something."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable

import pytest

from vidpipe.cli import setup_logging
from vidpipe.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def results(clock: Clock) -> Callable[[Progress, float, int], str]:
    """Has some videos done after some seconds more; the line then."""

    def add(progress: Progress, seconds: float, num_done: int) -> str:
        clock.now_s += seconds
        progress.add(num_done, 0)
        return progress.line()

    return add


def test_a_short_run_is_given_no_time_that_its_start_has_made_up(clock: Clock, results: Callable[..., str]):
    progress = Progress(83, clock=clock)
    # 20 s in which Ray and the model start, then 7 videos: by the clock since the start it would be 217 s more.
    assert results(progress, 20, 7) == "7 / 83 videos (8 %), 0 failed"
    assert results(progress, 1, 28) == "35 / 83 videos (42 %), 0 failed"
    assert results(progress, 1, 48) == "83 / 83 videos (100 %), 0 failed"


def test_the_rate_is_that_since_the_first_result(clock: Clock, results: Callable[..., str]):
    progress = Progress(1000, clock=clock)
    results(progress, 60, 100)
    assert results(progress, 10, 100) == "200 / 1000 videos (20 %), 80 s left, 0 failed, 10.0 videos/s"


def test_few_results_of_many_tell_a_time_after_half_a_minute(clock: Clock, results: Callable[..., str]):
    progress = Progress(10_000, clock=clock)
    results(progress, 5, 1)
    assert results(progress, 29, 29) == "30 / 10000 videos (0 %), 0 failed"
    assert results(progress, 1, 1) == "31 / 10000 videos (0 %), 2.8 h left, 0 failed, 1.0 videos/s"


def test_what_an_earlier_run_has_done_counts_for_the_share_and_not_for_the_rate(clock: Clock):
    progress = Progress(1000, "steps", num_done=500, clock=clock)
    progress.move_to(500, "")
    clock.now_s += 30
    progress.move_to(501, "loss 2.0")
    assert progress.line() == "501 / 1000 steps (50 %), loss 2.0"
    clock.now_s += 40
    progress.move_to(511, "loss 1.9")
    assert progress.line() == "511 / 1000 steps (51 %), 33 min left, loss 1.9, 15.0 steps/min"


def test_a_file_gets_one_line_every_ten_seconds(
    clock: Clock, results: Callable[..., str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("vidpipe"), "propagate", True)
    caplog.set_level(logging.INFO)
    with Progress(100, clock=clock) as progress:
        for _ in range(100):
            results(progress, 0.25, 1)
    assert [message.split(" ")[0] for message in caplog.messages] == ["40", "80"]


def test_on_a_terminal_lines_come_above_the_bar_and_none_breaks_it(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    ours = logging.getLogger("vidpipe")
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(ours, "propagate", False)
    setup_logging()
    with Progress(40) as progress:
        progress.add(10, 1)
        ours.warning("a word of ours")
        print("(pid=1) a word of ", end="", file=sys.stderr)
        print("a worker's", file=sys.stderr)
        print("said", flush=True)
        progress.add(30, 0)
    assert sys.stderr is terminal
    # What is seen of a line is what comes after the last return to its beginning.
    seen = [line.rpartition("\r")[2].rstrip() for line in terminal.getvalue().split("\n")]
    assert [line.partition("WARNING ")[2] or line for line in seen[:3]] == [
        "a word of ours",
        "(pid=1) a word of a worker's",
        "said",
    ]
    assert "40 / 40 videos (100 %), 1 failed" in seen[3]
    assert len(seen) == 5
    assert seen[4] == ""


def test_durations_are_told_in_the_unit_that_fits():
    assert [duration(seconds) for seconds in (0.4, 79, 119, 121, 3600, 7200, 86_400)] == [
        *("0 s", "79 s", "119 s", "2 min", "60 min", "2.0 h", "24.0 h")
    ]
