"""Faults that real decoders have, for videos that carry a mark; and a log of every decode. Unknown to vidpipe itself.

The child that `vidpipe.guard` starts has a bare environment, but its PYTHONPATH is the parent's sys.path. So

    sys.path += ["tests/faults"]        (or PYTHONPATH, for a job and its Ray workers)

is all that a test does: `sitecustomize.py` in this folder then patches `vidpipe.decode.DECODERS["pyav"]` in each child.

A video is struck by the fault whose name stands between dashes in its file name (`a-segfault-1.mp4`), or which `marked`
has written at the end of its bytes: that survives a bucket, and a spool folder, where names are lost. All others decode
normally.

To log decodes, put a folder with an empty file `decode.log` on sys.path, too: each request to a child appends a line
`video_id <tab> path`, before its decode begins. Two lines of one video are a video that was decoded twice.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

MARK = b"vidpipe-fault:"
LOG_NAME = "decode.log"


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def hang() -> None:
    while True:
        time.sleep(3600)


def hang_busy() -> None:
    while True:
        pass


def hang_deaf() -> None:
    """A busy loop that Python's signal handlers do not reach: only SIGKILL does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang_busy()


def eat_memory() -> None:
    held = []
    while True:
        held.append(b"x" * (8 << 20))


def eat_memory_abort() -> None:
    """Allocate until nothing is left, then do as C++ does."""
    try:
        eat_memory()
    except MemoryError:
        # What was held is free again by now; the peak is what the parent sees.
        os.abort()


def surprise() -> None:
    raise KeyError("what no decoder should raise")


def exit_process() -> None:
    os._exit(3)


def system_exit() -> None:
    sys.exit(4)


def print_noise() -> None:
    """Noise on both streams, from Python and from C; the video decodes all the same."""
    print("noise" * 1000, flush=True)
    print("noise" * 1000, file=sys.stderr, flush=True)
    os.write(1, b'{"kind": "failed", "code": "crash", "error": "not a message"}\n')


def kill_self() -> None:
    """Be killed as by the kernel's out-of-memory killer, at every try."""
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS: dict[str, Callable[[], None]] = {
    "segfault": segfault,
    "abort": abort,
    "hang": hang,
    "hang_busy": hang_busy,
    "hang_deaf": hang_deaf,
    "eat_memory": eat_memory,
    "eat_memory_abort": eat_memory_abort,
    "surprise": surprise,
    "exit": exit_process,
    "system_exit": system_exit,
    "print": print_noise,
    "killed": kill_self,
}


def marked(mp4: bytes, fault: str) -> bytes:
    """An MP4 that still is a sound video, with a mark in a `free` box at its end."""
    assert fault in FAULTS
    payload = MARK + fault.encode()
    return mp4 + struct.pack(">I4s", 8 + len(payload), b"free") + payload


def fault_of(path: str) -> str | None:
    """Name of the fault that strikes this video, if any."""
    for word in Path(path).stem.split("-"):
        if word in FAULTS:
            return word
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - 64, 0))
        _, mark, name = file.read().rpartition(MARK)
    return name.decode() if mark else None


class PatchOnImport(importlib.abc.MetaPathFinder):
    """Calls `patch` with a module as soon as it has been imported, and imports nothing on its own."""

    def __init__(self, name: str, patch: Callable[[Any], None]) -> None:
        self.name, self.patch = name, patch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            self.patch(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def break_decoder(decode: Any) -> None:
    """Patch `vidpipe.decode`: strike when a marked video is opened."""
    sound = decode.DECODERS["pyav"]

    def open_faulty(path: str, spec: Any) -> Any:
        fault = fault_of(path)
        if fault is not None:
            FAULTS[fault]()
        return sound(path, spec)

    decode.DECODERS["pyav"] = open_faulty


def log_requests(connection: Any) -> None:
    """Patch `multiprocessing.connection`: what a child receives are requests, one a video."""
    logs = [Path(folder) / LOG_NAME for folder in sys.path if (Path(folder) / LOG_NAME).is_file()]
    receive = connection.Connection.recv_bytes

    def receive_and_log(self: Any, *arguments: Any) -> bytes:
        message: bytes = receive(self, *arguments)
        request = json.loads(message)
        for log in logs:
            with log.open("a") as file:  # one write of a short line: children do not mix them
                file.write(f"{request['video_id']}\t{request['path']}\n")
        return message

    connection.Connection.recv_bytes = receive_and_log


def install() -> None:
    sys.meta_path.insert(0, PatchOnImport("vidpipe.decode", break_decoder))
    sys.meta_path.insert(0, PatchOnImport("multiprocessing.connection", log_requests))
