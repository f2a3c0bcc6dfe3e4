"""The processes that train together, and the few things they tell each other. One process is a group of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vidpipe.training.story import Tell, tell_nobody


@dataclass(frozen=True)
class Ranks:
    """This process among the others of the run; `device` is where it computes."""

    rank: int
    num_ranks: int
    device: torch.device
    tell: Tell = tell_nobody
    """How the first rank tells the driver how far it is."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: Any) -> Any:
        """The first rank's value, on every rank."""
        if self.num_ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order of rank, on the first one; an empty list elsewhere."""
        if self.num_ranks == 1:
            return [value]
        values = [None] * self.num_ranks if self.is_first else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, on every rank, in place."""
        if self.num_ranks > 1:
            dist.all_reduce(value)
        return value

    def agree(self, value: Any, what: str) -> None:
        """Raise RuntimeError on every rank unless all have the same value: better than ranks that wait for ever."""
        values = self.from_first(self.gather(value))
        if any(other != values[0] for other in values):
            raise RuntimeError(f"the workers do not agree on {what}: {values}")

    def share_buffers(self, model: nn.Module) -> None:
        """Give all ranks the first one's buffers, such as the running means of batch norms."""
        if self.num_ranks > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)
