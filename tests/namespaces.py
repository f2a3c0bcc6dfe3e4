"""Network namespaces joined by a bridge: nodes of a cluster on one machine that can be cut off from the others."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Namespace:
    name: str
    ip: str
    cable: str
    """The end of its cable that is plugged into the bridge."""

    def cut_off(self) -> None:
        """All that runs there goes on, and reaches nobody."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        _ip("link", "set", self.cable, "up")


@contextmanager
def namespaces(number: int) -> Iterator[tuple[str, list[Namespace]]]:
    """The bridge's address, where this machine itself is reached, and the namespaces; skips without the right to."""
    tag, subnet = secrets.token_hex(2), f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(255)}"
    bridge, made = f"vpb-{tag}", []
    try:
        _ip("link", "add", "name", bridge, "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs `ip` and the right to make a bridge: {error}")
    try:
        _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place in range(2, number + 2):
            one = Namespace(f"vp-{tag}-{place}", f"{subnet}.{place}", f"vpc-{tag}-{place}")
            _ip("netns", "add", one.name)
            made.append(one)
            _ip("link", "add", one.cable, "type", "veth", "peer", "name", "eth0", "netns", one.name)
            _ip("link", "set", one.cable, "master", bridge, "up")
            _ip("-n", one.name, "addr", "add", f"{one.ip}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", one.name, "link", "set", device, "up")
        yield f"{subnet}.1", made
    finally:
        for one in made:
            _ip("netns", "del", one.name)
        _ip("link", "del", bridge)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
