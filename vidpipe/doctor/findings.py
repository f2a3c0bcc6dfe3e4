"""What a check says, and what it is told of the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    level: Literal["ok", "warn", "FAIL"]
    value: str
    rule: str = ""
    way_out: str = ""

    def line(self, name: str) -> str:
        """As it is printed, on one line."""
        reason = "" if self.level == "ok" else f"; {self.rule}: {self.way_out}"
        return f"{self.level:<4}  {name:<15} {self.value}{reason}"


@dataclass(frozen=True)
class ClusterFacts:
    """What Ray says of the cluster that jobs started here would run on."""

    num_gpus: int = 0
    dashboard: str | None = None
    """host:port of the dashboard; None without one."""
    object_store_bytes: dict[str, int] = field(default_factory=dict)
    """By node."""
    preemption: dict[str, str] = field(default_factory=dict)
    """How each worker node learns that it is taken back: watched, on demand, kubernetes, unwatched, or unknown."""
