"""The other opinion, in a process of its own: hashes of all frames of a video by a plain sequential decode.

    with FullDecoder(spec, time_limit_s=20, memory_limit_bytes=1 << 29) as decoder:
        truth = decoder.decode(path)

A damaged file may crash or hang it; that is an answer, too: None. Run as a program, it answers each path on stdin.
"""

from __future__ import annotations

import hashlib
import json
import resource
import select
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from vidpipe.decode.container import open_container
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pyav import PyavVideo
from vidpipe.decode.resize import Resizer
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec


@dataclass(frozen=True)
class Truth:
    """What a full decode shows of one file."""

    hashes: list[str]
    """Of each frame, in order."""
    undefined: list[int]
    """Frames that differ from one full decode to another, as they show memory that nobody has written."""
    num_promised: int
    """Frames that the packets promise to `PyavVideo`; more than there are, where some cannot be decoded."""

    def index_of(self, frame: str, promised_index: int) -> int | None:
        """Which frame of the full decode this is, when it is the promised one: only lost ones move it forward."""
        num_lost = self.num_promised - len(self.hashes)
        for index in range(max(promised_index - num_lost, 0), promised_index + 1):
            if index < len(self.hashes) and (self.hashes[index] == frame or index in self.undefined):
                return index
        return None


class FullDecoder:
    """Asks a child process; a new one after one died or had to."""

    def __init__(self, spec: ClipSpec, *, time_limit_s: float, memory_limit_bytes: int) -> None:
        self._command = [sys.executable, __file__, spec.to_json(), str(memory_limit_bytes)]
        self._time_limit_s = time_limit_s
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> FullDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def decode(self, path: Path) -> Truth | None:
        if self._child is None:
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{path}\n")
        self._child.stdin.flush()
        has_answer, _, _ = select.select([self._child.stdout], [], [], self._time_limit_s)
        line = self._child.stdout.readline() if has_answer else ""
        if not line:
            self.__exit__()
            return None
        return Truth(**json.loads(line))


def full_decode(path: str, spec: ClipSpec, *, keep: bool) -> list[str]:
    """What cannot be decoded is left out. `keep` all pictures, and damage cannot show the memory of an earlier one."""
    resize, hashes, kept = Resizer(spec), [], []
    container, stream = open_container(path)
    stream.codec_context.thread_count = 1
    with container:
        packets = iter(container.demux(stream))
        while True:
            try:
                pictures = next(packets).decode()
            except StopIteration:
                return hashes
            except av.error.FFmpegError:
                pictures = []
            except IndexError:  # PyAV, at a packet of a stream that turned up late
                packets, pictures = iter(container.demux(stream)), []
            hashes += [hashlib.blake2b(resize(picture).tobytes()).hexdigest() for picture in pictures]
            kept += pictures if keep else []


def find_truth(path: str, spec: ClipSpec) -> Truth:
    first, second = (full_decode(path, spec, keep=keep) for keep in (False, True))
    undefined = [index for index, pair in enumerate(zip(first, second, strict=True)) if len(set(pair)) == 2]
    try:
        with closing(PyavVideo(path, spec)) as video:
            return Truth(first, undefined, len(video.times_s))
    except IndexMismatch:  # they promise nothing
        return Truth(first, undefined, len(first))


def main(spec: ClipSpec, memory_limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    for line in sys.stdin:
        try:
            truth = find_truth(line.strip(), spec)
        except (DecodeError, av.error.FFmpegError, MemoryError):
            truth = Truth([], [], 0)
        print(json.dumps(asdict(truth)), flush=True)


if __name__ == "__main__":
    main(ClipSpec.from_json(sys.argv[1]), int(sys.argv[2]))
