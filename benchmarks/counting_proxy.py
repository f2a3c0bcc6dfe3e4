"""What a client really asks of a storage: a proxy on loopback that counts requests and the bytes of their answers.

It can be as slow as a real network: so long a request until it is passed on, so many bytes a second a connection.
Knows only requests without a body (GET, HEAD).
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

BLOCK_BYTES = 256 << 10


@dataclass
class Network:
    """How slow the proxy is, which may be changed at any time, and its counts."""

    latency_s: float = 0.0
    connection_bytes_s: float = float("inf")
    num_requests: int = 0
    num_bytes: int = 0

    def set(self, latency_s: float = 0.0, connection_bytes_s: float = float("inf")) -> None:
        self.latency_s, self.connection_bytes_s = latency_s, connection_bytes_s

    def forget(self) -> None:
        self.num_requests = self.num_bytes = 0


@contextmanager
def counting_proxy(host: str, port: int) -> Iterator[tuple[str, Network]]:
    """The endpoint that leads through the proxy to a server, and what goes through it."""
    network, lock = Network(), threading.Lock()

    class Connection(socketserver.StreamRequestHandler):
        rbufsize = BLOCK_BYTES
        disable_nagle_algorithm = True

        def setup(self) -> None:
            # What is sent counts, even if the client hangs up before it reads it: little is to be under way.
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)
            super().setup()

        def handle(self) -> None:
            try:
                with socket.create_connection((host, port)) as server, server.makefile("rb", BLOCK_BYTES) as answers:
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while head := read_head(self.rfile):
                        if content_length(head):
                            raise ValueError(f"a request with a body: {head!r}")
                        with lock:
                            network.num_requests += 1
                        time.sleep(network.latency_s)
                        server.sendall(head)
                        self.answer(head.split(b" ", 1)[0], answers)
            except ConnectionError:
                pass  # either side hung up, as some clients do when they have read enough

        def answer(self, method: bytes, answers: BinaryIO) -> None:
            head = read_head(answers)
            self.wfile.write(head)
            left = 0 if method == b"HEAD" else content_length(head)
            start_s, num_sent = time.monotonic(), 0
            while left:
                block = answers.read1(min(left, BLOCK_BYTES))
                if not block:
                    raise ConnectionResetError
                self.wfile.write(block)
                left, num_sent = left - len(block), num_sent + len(block)
                with lock:
                    network.num_bytes += len(block)
                early_s = num_sent / network.connection_bytes_s - (time.monotonic() - start_s)
                if early_s > 0:
                    time.sleep(early_s)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", network
        finally:
            server.shutdown()


def read_head(stream: BinaryIO) -> bytes:
    """A request's or an answer's lines up to the empty one; nothing at the end."""
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            return b"".join(lines)
    return b""


def content_length(head: bytes) -> int:
    for line in head.splitlines()[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
        if name.lower() == b"transfer-encoding":
            raise ValueError(f"a body without a length: {head!r}")
    return 0
