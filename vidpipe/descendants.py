"""The processes below one, as /proc knows them; without it there are none."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
LOOK_EVERY_S = 0.02


def adopt_orphans() -> None:
    """From now on the children of a process below this one that ends are this one's, not init's (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill what is left below this process until nothing is: also what starts meanwhile, once orphans are adopted."""
    while below := processes_below(os.getpid()):
        kill(below)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(LOOK_EVERY_S)


def processes_below(pid: int) -> dict[int, str]:
    """Each process below this one with the time it started, which tells it from a later one of the same number."""
    found: dict[int, str] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            for child in map(int, path.read_text().split()):
                with suppress(OSError):  # the process has
                    found |= {child: _start_of(child), **processes_below(child)}
    return found


def kill(processes: dict[int, str]) -> None:
    """Kill those that are still there."""
    for pid, start in processes.items():
        with suppress(OSError):
            if _start_of(pid) == start:
                os.kill(pid, signal.SIGKILL)


def _start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): field 22
