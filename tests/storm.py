"""Faults of all kinds, one every few seconds, in an order that a seed decides, beside the job that has to bear them."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from fault_proxy import FAULTS, FaultProxy
from killing import command_line
from ray_nodes import RayNodes

SHARE_STRUCK = 0.3  # of the requests, while a fault of the storage lasts
PROCESS_FAULTS = ("decoder", "worker", "node", "preemption", "driver", "head")


@dataclass
class Storm:
    """Use as a context manager; `driver` is whatever job runs at the time."""

    nodes: RayNodes
    proxy: FaultProxy
    seed: int
    every_s: tuple[float, float]
    lasting_s: tuple[float, float]
    """How long a fault of the storage lasts, and a node stays away."""
    kinds: tuple[str, ...] = (*FAULTS, "away", *PROCESS_FAULTS)
    driver: subprocess.Popen[bytes] | None = None
    num_faults: Counter[str] = field(default_factory=Counter)
    is_steady: threading.Event = field(default_factory=threading.Event)
    """Clear while there is no cluster to submit to."""

    def __enter__(self) -> Storm:
        self._chance, self._is_over = random.Random(self.seed), threading.Event()
        self.is_steady.set()
        self._thread = threading.Thread(target=self._blow, name="storm")
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.proxy.choose = lambda request: None

    def _blow(self) -> None:
        deck: list[str] = []
        while not self._is_over.wait(self._chance.uniform(*self.every_s)):
            if not deck:  # each kind once before any comes again
                deck = self._chance.sample(self.kinds, len(self.kinds))
            kind = deck.pop()
            if kind in FAULTS:
                self._strike_requests(kind)
            elif kind == "away":
                self.proxy.go_away(self._chance.uniform(*self.lasting_s))
                self.num_faults[kind] += 1
            elif ACTIONS[kind](self):
                self.num_faults[kind] += 1

    def _strike_requests(self, kind: str) -> None:
        chance, before = random.Random(self._chance.random()), self.proxy.num_faults[kind]
        self.proxy.choose = lambda request: kind if chance.random() < SHARE_STRUCK else None
        self._is_over.wait(self._chance.uniform(*self.lasting_s))
        self.proxy.choose = lambda request: None
        self.num_faults[kind] += self.proxy.num_faults[kind] > before

    def kill_decoder(self) -> bool:
        return self._kill_one("vidpipe.child")

    def kill_worker(self) -> bool:
        return self._kill_one("ray::")

    def kill_node(self) -> bool:
        """One that comes back, or another in its place, joins later."""
        if len(self.nodes.nodes) < 2:
            return False
        self.nodes.kill(self._chance.choice(self.nodes.nodes))
        self._is_over.wait(self._chance.uniform(*self.lasting_s))
        self.nodes.add()
        return True

    def announce_end(self) -> bool:
        """A spot node is told that it will go, and goes."""
        node = self.nodes.nodes[0]
        names = self.nodes.alive()[1:]
        named = [name for name in names if any(name in command_line(p) for p in below(node))]
        if not named:
            return False
        self.nodes.announce_end(named[0], 3)
        self._is_over.wait(3)
        self.nodes.kill(node)
        self.nodes.add()
        return True

    def kill_driver(self) -> bool:
        if self.driver is None or self.driver.poll() is not None:
            return False
        self.driver.kill()
        return True

    def kill_head(self) -> bool:
        """With it goes the cluster; another one is there some seconds later, and jobs of the old one are over."""
        self.is_steady.clear()
        self.nodes.stop()
        if self.driver is not None:
            self.driver.kill()  # on a cluster it runs on the head
        self.nodes.start()
        self.is_steady.set()
        return True

    def _kill_one(self, mark: str) -> bool:
        victims = [process for process in self.nodes.processes() if mark in command_line(process)]
        if not victims:
            return False
        try:
            self._chance.choice(victims).kill()
        except psutil.NoSuchProcess:
            return False
        return True


ACTIONS: dict[str, Callable[[Storm], bool]] = {
    "decoder": Storm.kill_decoder,
    "worker": Storm.kill_worker,
    "node": Storm.kill_node,
    "preemption": Storm.announce_end,
    "driver": Storm.kill_driver,
    "head": Storm.kill_head,
}


def below(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(node.pid).children(recursive=True)


def run_until_done(
    storm: Storm, command: list[str], env: Callable[[], dict[str, str]], log: str, limit_s: float
) -> int:
    """The same command again and again until it ends well; how many times."""
    deadline_s, num_runs = time.monotonic() + limit_s, 0
    while True:
        storm.is_steady.wait(limit_s)
        num_runs += 1
        with open(log, "ab") as file:
            file.write(f"--- run {num_runs}: {' '.join(command)[-200:]}\n".encode())
            file.flush()
            storm.driver = subprocess.Popen(command, env=env(), stdout=file, stderr=file)
            code = storm.driver.wait(max(deadline_s - time.monotonic(), 1))
            file.write(f"--- exit code {code}\n".encode())
        if code == 0:
            return num_runs
        assert time.monotonic() < deadline_s, Path(log).read_text()[-5000:]
        time.sleep(1)  # as whatever submits it again
