"""Decode in a child process with a time limit and a memory limit: a crash, a hang or an out-of-memory is a DecodeError.

The child (`vidpipe.child`) gets a local path and sends clips back one at a time, so memory does not grow with a video's
length. It inherits no credentials. One child serves many videos; a new one starts after one had to die.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from vidpipe.errors import DecodeError
from vidpipe.ranges import RangeCopy, RangeError
from vidpipe.spec import ClipSpec

logger = logging.getLogger(__name__)

START_LIMIT_S = 120.0  # imports; torch takes a dozen seconds on a busy machine
START_TRIES = 3  # of one that is killed before it has said a word, as where memory is short
END_LIMIT_S = 5.0
MAX_HEADER_BYTES = 64 << 20
# What a Python with PyAV needs from the environment; credentials are not among it.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "MALLOC_ARENA_MAX")


Asked = tuple[str | RangeCopy, str]  # a local file, whole or not, and the id of its video


@dataclass(frozen=True)
class Clip:
    """One clip as the child sent it."""

    clip_index: int
    start_s: float
    end_s: float
    frame_pts_s: list[float]
    num_repeated: int
    max_shift_s: float
    payload: bytes
    sizes: list[int] | None
    """JPEG: bytes of each frame in the payload."""


@dataclass(frozen=True)
class Restart:
    """The clips of this video so far are void; they come again."""


@dataclass(frozen=True)
class VideoFacts:
    """The end of a video that was delivered whole."""

    facts: dict[str, Any]
    """A value, perhaps null, for each of `VIDEO_FACTS`."""
    decode_s: float


class _KilledFromOutsideError(Exception):
    """The child ended by a signal that neither we nor a decoder's bug sent."""


class Guard:
    """Decodes one video after the other in a child process; use as a context manager."""

    def __init__(self, spec: ClipSpec, *, time_limit_s: float, memory_limit_bytes: int) -> None:
        self.spec = spec
        self._spec_fields = asdict(spec)
        self.time_limit_s = time_limit_s
        self.memory_limit_bytes = memory_limit_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._asked: list[Asked] = []
        self._decoder_versions: dict[str, str] = {}

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def decoder_versions(self) -> dict[str, str]:
        """Of the decoder's library and the FFmpeg in it: the child tells, this process does without them."""
        if self._process is None and not self._decoder_versions:
            self._start()
        return self._decoder_versions

    def decode(
        self, file: str | RangeCopy, video_id: str, following: Asked | None = None
    ) -> Iterator[Clip | Restart | VideoFacts]:
        """The clips of a local file, then its facts; raises DecodeError, after which the clips so far are void.

        Of a `RangeCopy`, the child asks for the bytes it needs. `following`, the file and id of the video that will
        be asked for next, keeps the child busy while the caller deals with this one's clips. A child that somebody else
        kills (the kernel, an operator) says nothing about the video: it gets a second chance.
        """
        try:
            yield from self._decode((file, video_id), following)
        except _KilledFromOutsideError:
            logger.warning("the decoder of %s was killed from outside; trying once more", video_id)
            yield Restart()
            try:
                yield from self._decode((file, video_id), following)
            except _KilledFromOutsideError as error:
                raise DecodeError(
                    "out_of_memory", f"{error}, twice: most likely the machine's memory ran out"
                ) from None

    def close(self) -> None:
        if self._process is not None:
            assert self._connection is not None
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = self._connection = None
            self._asked = []

    def _ask(self, asked: Asked) -> None:
        """Send a request; the child serves them one after the other."""
        file, video_id = asked
        request: dict[str, Any] = {"path": str(file), "video_id": video_id, "spec": self._spec_fields}
        if isinstance(file, RangeCopy):
            request |= {"path": str(file.path), "size_bytes": file.size_bytes, "have": file.have}
        self._send(request)
        self._asked.append(asked)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send_bytes(json.dumps(message).encode())
        except OSError:
            raise self._why_it_died() from None

    def _fetch(self, ranges: list[tuple[int, int]]) -> None:
        file, _ = self._asked[0]
        if not isinstance(file, RangeCopy):
            raise DecodeError("crash", "the decoder asked for bytes of a file that is there")
        try:
            file.fetch(ranges)
        except RangeError as error:
            raise DecodeError("crash", f"the decoder asked for {error}") from None
        self._send({"kind": "fetched"})

    def _decode(self, asked: Asked, following: Asked | None) -> Iterator[Clip | Restart | VideoFacts]:
        if self._asked and self._asked[0] != asked:  # it works on a video that nobody wants any more
            self.close()
        if self._process is None:
            self._start()
        finished = False
        try:
            self._left_s = self.time_limit_s
            if not self._asked:
                self._ask(asked)
            if following is not None:
                self._ask(following)
            while not finished:
                message = json.loads(self._receive(MAX_HEADER_BYTES))
                kind = message.pop("kind")
                finished = kind in ("done", "failed")
                if finished:
                    self._asked.pop(0)
                if kind == "clip":
                    yield Clip(**message, payload=self._receive(self._max_payload_bytes))
                elif kind == "fetch":
                    self._fetch(message["ranges"])
                elif kind == "restart":
                    yield Restart()
                elif kind == "done":
                    yield VideoFacts(**message)
                else:
                    raise DecodeError(message["code"], message["error"])
        finally:
            if not finished:  # given up in the middle: what the child says next would be taken for the next video
                self.close()

    @property
    def _channel(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _start(self, num_tries: int = 1) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._inherited_kb = memory_peak_kb()
        arguments = str(theirs.fileno()), str(self.memory_limit_bytes), str(os.getpid()), self.spec.decoder
        # A terminal sends Ctrl-C to this one as well; it ends with its parent.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vidpipe.child", *arguments],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        # A message that stops half-way is a hang, too.
        seconds = struct.pack("ll", max(int(self.time_limit_s), 1), 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        self._connection = Connection(ours.detach())
        if not self._connection.poll(START_LIMIT_S):
            self.close()
            raise RuntimeError(
                f"the decoding process did not start within {START_LIMIT_S:g} s on {os.uname().nodename}"
            )
        try:
            self._decoder_versions = json.loads(self._connection.recv_bytes(MAX_HEADER_BYTES))["decoder_versions"]
        except (EOFError, OSError):
            why = self._why_it_died()
            if isinstance(why, _KilledFromOutsideError) and num_tries < START_TRIES:
                self._start(num_tries + 1)
            else:
                raise RuntimeError(f"the decoding process cannot start: {why}; see its stderr") from None

    @property
    def _max_payload_bytes(self) -> int:
        return 2 * self.spec.num_bytes_raw + (1 << 20)  # JPEG of noise is larger than its pixels

    def _receive(self, max_bytes: int) -> bytes:
        """The child's next message, within what is left of the video's time."""
        start_s = time.monotonic()
        try:
            if not self._channel.poll(max(self._left_s, 0)):
                raise BlockingIOError
            return self._channel.recv_bytes(max_bytes)
        except BlockingIOError:
            self.close()
            text = f"not decoded within {self.time_limit_s:g} s; --video-timeout-s sets this"
            raise DecodeError("timeout", text) from None
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            raise self._why_it_died() from None
        finally:
            self._left_s -= time.monotonic() - start_s

    def _why_it_died(self) -> Exception:
        assert self._process is not None
        process = self._process
        deadline_s = time.monotonic() + END_LIMIT_S
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        while not ended and time.monotonic() < deadline_s:
            time.sleep(0.001)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not ended:  # it hung up and lives on
            self.close()
            return DecodeError("crash", "the decoder closed its connection")
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        self.close()
        if code == -signal.SIGKILL or code == -signal.SIGTERM:
            return _KilledFromOutsideError(f"the decoder was killed by signal {-code}")
        if usage.ru_maxrss * 1024 > 0.9 * self.memory_limit_bytes and usage.ru_maxrss > self._inherited_kb:
            return DecodeError("out_of_memory", f"the decoder died at {usage.ru_maxrss >> 10} MB")
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
        return DecodeError("crash", f"the decoder died: {how}")


def memory_peak_kb() -> int:
    """This process's memory peak; Linux hands it down to a child, where only a higher one is the child's own."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
