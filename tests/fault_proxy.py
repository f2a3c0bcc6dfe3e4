"""An HTTP proxy in front of a storage, that does to requests what networks and overloaded servers do.

    with fault_proxy(s3.endpoint) as proxy:
        proxy.choose = lambda request: "reset" if request.method == "GET" and chance.random() < 0.1 else None
        ... AWS_ENDPOINT_URL=proxy.endpoint ...
        proxy.go_away(30)
        proxy.num_faults                     # a Counter by kind

A request is decided upon once; what it asks for again is another request. Signatures stay valid: the Host header goes
through as it came.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

STATUSES = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests"}
FAULTS = (
    *STATUSES,  # an answer that says: later
    "reset",  # the connection ends before an answer
    "lost_answer",  # the server has done it, and nobody hears of it
    "stall",  # half of the body, and then nothing
    "short_body",  # half of the body, and the connection ends
    "twice",  # a listing names everything twice
)


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    head: bytes
    body: bytes


@dataclass
class FaultProxy:
    """`choose` says which fault strikes a request, if any."""

    upstream: tuple[str, int]
    choose: Callable[[Request], str | None] = lambda request: None
    stall_s: float = 60.0
    num_requests: int = 0
    num_faults: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""
    _away_until_s: float = 0.0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def go_away(self, seconds: float) -> None:
        """Cut all connections, and accept none for a while."""
        self.num_faults["away"] += 1
        self._away_until_s = time.monotonic() + seconds
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: [reset(writer) for writer in [*self._writers]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, until either side ends it."""
        self._writers.add(writer)
        try:
            while time.monotonic() >= self._away_until_s and (request := await read_request(reader, writer)):
                self.num_requests += 1
                if not await self._answer(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            reset(writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can be used again."""
        fault = self.choose(request)
        assert fault is None or fault in FAULTS, fault
        if fault in ("reset", *STATUSES):
            self.num_faults[fault] += 1
        if fault == "reset":
            return False
        if fault in STATUSES:
            body = f"<Error><Code>{STATUSES[fault]}</Code><Message>by the test</Message></Error>".encode()
            body = b"" if request.method == "HEAD" else body
            writer.write(f"HTTP/1.1 {fault} Later\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            return True
        head, body = await self._ask_upstream(request)
        if (fault in ("stall", "short_body") and not body) or (fault == "twice" and b"<Contents>" not in body):
            fault = None  # there is nothing that it could strike
        self.num_faults.update([fault] if fault else [])
        if fault == "lost_answer":
            return False
        if fault == "twice":
            body = re.sub(rb"(<Contents>.*?</Contents>)", rb"\1\1", body, flags=re.DOTALL)
            head = re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % len(body), head)
        if fault in ("stall", "short_body"):
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            await asyncio.sleep(self.stall_s if fault == "stall" else 0.05)
            return False
        writer.write(head + body)
        await writer.drain()
        return True

    async def _ask_upstream(self, request: Request) -> tuple[bytes, bytes]:
        """The answer: a head with a length, and the body."""
        reader, writer = await asyncio.open_connection(*self.upstream)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            has_body = request.method != "HEAD" and head.split(b" ")[1] not in (b"204", b"304")
            body = await read_body(reader, head, to_end=True) if has_body else b""
            if header(head, "transfer-encoding") == b"chunked":
                head = re.sub(rb"(?i)transfer-encoding: chunked", b"Content-Length: %d" % len(body), head)
            return re.sub(rb"(?i)\r\nconnection: close", b"", head), body
        finally:
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crash does: what is not sent is lost, and the other side gets an error."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def header(head: bytes, name: str) -> bytes | None:
    found = re.search(rb"(?im)^%s:[ \t]*([^\r\n]*)" % re.escape(name.encode()), head)
    return found[1].strip() if found else None


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if header(head, "expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = re.sub(rb"(?im)^expect:[^\r\n]*\r\n", b"", head)
    body = await read_body(reader, head, to_end=False)
    if header(head, "transfer-encoding"):
        head = re.sub(rb"(?im)^transfer-encoding:[^\r\n]*", b"Content-Length: %d" % len(body), head)
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    return Request(method, target, head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), body)


async def read_body(reader: asyncio.StreamReader, head: bytes, *, to_end: bool) -> bytes:
    """The body that a head announces; one without a length goes on to the end of the connection, if `to_end`."""
    length = header(head, "content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    if header(head, "transfer-encoding") == b"chunked":
        pieces = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        while (await reader.readline()).strip():
            pass
        return b"".join(pieces)
    return await reader.read() if to_end else b""


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy on a free loopback port, in a thread of its own."""
    address = urlsplit(upstream)
    proxy = FaultProxy((address.hostname or "", address.port or 80))
    is_ready, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20)
        proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        proxy._loop = asyncio.get_running_loop()
        is_ready.set()
        await is_over.wait()
        server.close()
        for writer in [*proxy._writers]:
            reset(writer)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="fault-proxy", daemon=True)
    thread.start()
    is_ready.wait(10)
    try:
        yield proxy
    finally:
        assert proxy._loop is not None
        proxy._loop.call_soon_threadsafe(is_over.set)
        thread.join(10)
