"""kill -9 for the processes below a driver, and waiting until Ray's own are gone."""

from __future__ import annotations

import subprocess
import time

import psutil

GONE_LIMIT_S = 60.0


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is ending
        return ""


def victims(driver: subprocess.Popen[bytes], kind: str, marks: dict[str, str]) -> list[psutil.Process]:
    """The driver, it with everything below it, or the first process below it whose command line holds the mark."""
    root = psutil.Process(driver.pid)
    below = root.children(recursive=True)
    if kind in ("driver", "everything"):
        return [root] if kind == "driver" else [root, *below]
    return [process for process in below if marks[kind] in command_line(process)][:1]


def kill(processes: list[psutil.Process]) -> int:
    """How many of them were still there to be killed."""
    num_killed = 0
    for process in processes:
        try:
            process.kill()
            num_killed += 1
        except psutil.Error:
            continue
    return num_killed


def wait_until_gone(output: str) -> None:
    """Ray's own processes end some seconds after their driver was killed: those whose command line names `output`."""
    deadline_s = time.monotonic() + GONE_LIMIT_S
    while time.monotonic() < deadline_s:
        if not any(output in command_line(process) for process in psutil.process_iter()):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{GONE_LIMIT_S:.0f} s after their driver was killed, processes for {output} are still there")
