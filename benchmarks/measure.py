"""A subprocess under watch: how much memory its whole process tree holds, and how much CPU it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import psutil

SAMPLE_EVERY_S = 0.5  # reading the PSS of ten large processes takes tens of milliseconds
BEGIN = "begin"  # the line that a script prints when its start-up is over


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started, and they started, as far as they live."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Watch:
    """Samples a process tree in a thread: the peak of its memory (PSS: shared pages count once), and its CPU time.

    Ray's workers die unwaited for, and take their CPU time with them: so it is noted while they live.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_bytes = 0
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def cpu_s(self) -> float:
        """CPU seconds of the tree so far."""
        for process in tree(self.pid):
            try:
                times = process.cpu_times()
                self._cpu_s[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return sum(list(self._cpu_s.values()))

    def sample(self) -> None:
        total = 0
        for process in tree(self.pid):
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.peak_bytes = max(self.peak_bytes, total)
        self.cpu_s()

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_EVERY_S):
            self.sample()


class DecodingWatch(Watch):
    """Peak RSS of a guard's child, of the worker that owns it, and of both at one moment."""

    def __init__(self, pid: int) -> None:
        self.child_bytes = self.worker_bytes = 0
        super().__init__(pid)

    def sample(self) -> None:
        for process in tree(self.pid):
            try:
                if "vidpipe.child" not in process.cmdline():
                    continue
                child, worker = process.memory_info().rss, process.parent().memory_info().rss
            except (psutil.NoSuchProcess, AttributeError):
                continue
            self.child_bytes = max(self.child_bytes, child)
            self.worker_bytes = max(self.worker_bytes, worker)
            self.peak_bytes = max(self.peak_bytes, child + worker)


def run_watched(script: str, *arguments: str, limit_s: float) -> dict[str, Any] | None:
    """Run a Python script: the JSON object in its last line, with the `cpu_s` since `BEGIN` and the `peak_bytes`.

    None when it failed or ran past its limit; why is on stderr.
    """
    command = [sys.executable, script, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    watch = Watch(process.pid)
    timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    begin_cpu_s, last = 0.0, ""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == BEGIN:
            begin_cpu_s = watch.cpu_s()
        if line.startswith("{"):
            last, end_cpu_s = line, watch.cpu_s()
            break
    process.stdout.read()
    returncode = process.wait()
    timer.cancel()
    watch.stop()
    if returncode != 0 or not last:
        return None
    return {**json.loads(last), "cpu_s": end_cpu_s - begin_cpu_s, "peak_bytes": watch.peak_bytes}
