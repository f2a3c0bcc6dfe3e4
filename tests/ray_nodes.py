"""A Ray of several nodes on this machine, each of them processes of its own that can be killed together."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from namespaces import Namespace
from ray.util import get_node_ip_address
from running import BIN, environment, free_ports

START_LIMIT_S = 120.0
STORE_BYTES = 128 << 20


@dataclass
class RayNodes:
    """A head that runs no tasks, and nodes with one CPU each; `start` them, and `stop` them in the end."""

    folder: Path
    """Short: sockets below it have names of at most 107 bytes."""
    num_nodes: int
    variables: dict[str, str]
    """For every process of the nodes, besides the environment of the test."""
    host_ip: str = field(default_factory=get_node_ip_address)
    """The head's; not 127.0.0.1, which Ray takes for its address when a second node joins."""
    address: str = ""
    head: subprocess.Popen[bytes] | None = None
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def env(self) -> dict[str, str]:
        """For nodes and drivers."""
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_ADDRESS": self.address}
        ray |= {"RAY_raylet_start_wait_time_s": "120"}  # a busy machine
        return environment({**self.variables, **{name: value for name, value in ray.items() if value}})

    def start(self) -> None:
        port = next(port for port in iter(lambda: free_ports(1)[0], None) if port >= 20_000)  # below are its workers'
        self.address = ""
        flags = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
        flags += [f"--node-ip-address={self.host_ip}", f"--temp-dir={self.folder / secrets.token_hex(2)}"]
        self.head = self._start(*flags)
        self.address = f"{self.host_ip}:{port}"
        self.wait_for(1)
        for number in range(self.num_nodes):  # one after the other: each starts a dozen processes
            self.add()
            self.wait_for(number + 2)

    def wait_for(self, num_alive: int) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while len(self.alive()) < num_alive:
            assert time.monotonic() < deadline_s, (self.folder / "nodes.log").read_text()[-3000:]
            time.sleep(0.5)

    def add(self, namespace: Namespace | None = None) -> None:
        """One more node; it has joined some seconds later. In a namespace it has an address of its own."""
        flags = [f"--address={self.address}", "--num-cpus=1"]
        if namespace is None:
            self.nodes.append(self._start(*flags))
        else:
            within = ("ip", "netns", "exec", namespace.name)
            self.nodes.append(self._start(*flags, f"--node-ip-address={namespace.ip}", within=within))

    def alive(self) -> list[str]:
        """Ids of the nodes that the head knows to live, its own first."""
        listing = "for n in ray.nodes(): print('node', n['Alive'], n['Resources'].get('CPU', 0), n['NodeID'])"
        listing = f"import ray; ray.init(logging_level='ERROR')\n{listing}"
        command = [str(BIN / "python"), "-c", listing]
        try:
            done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30)
        except subprocess.TimeoutExpired:
            return []
        found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("node ")]
        return [name for is_alive, _, name in sorted(found, key=lambda line: line[1]) if is_alive == "True"]

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """As a machine that loses its power."""
        for process in [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        node.wait()
        if node in self.nodes:
            self.nodes.remove(node)

    def announce_end(self, node_id: str, seconds: int) -> None:
        """What deploy/spot_watch.py does when the cloud takes a node back."""
        flags = ["--address", self.address, "--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        flags += ["--reason-message", "by the test", "--deadline-remaining-seconds", str(seconds)]
        subprocess.run([str(BIN / "ray"), "drain-node", *flags], env=self.env, capture_output=True, timeout=60)

    def stop(self) -> None:
        for node in [*self.nodes, *([self.head] if self.head else [])]:
            if node.poll() is None:
                self.kill(node)
        self.nodes.clear()

    def processes(self) -> list[psutil.Process]:
        """All below the nodes that run tasks."""
        return [
            process
            for node in [*self.nodes]
            if node.poll() is None
            for process in psutil.Process(node.pid).children(recursive=True)
        ]

    def _start(self, *flags: str, within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        command = [*within, str(BIN / "ray"), "start", *flags, "--block"]
        command += [f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        with (self.folder / "nodes.log").open("ab") as log:
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
