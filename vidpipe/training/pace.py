"""How fast training goes, and how much of the time it waits for data: for people to watch, and for the record."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from vidpipe.config import TrainConfig
from vidpipe.training.batches import Batches
from vidpipe.training.ranks import Ranks
from vidpipe.training.story import TELL_EVERY_S, Place

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 10.0
MAX_WAIT_SHARE = 0.1
STEPS_AHEAD = 2  # that a GPU may have in its queue: the wait for data is then a wait of the GPU

Report = Callable[[int, dict[str, float]], None]


class Pace:
    """The clock of one epoch on one rank."""

    def __init__(self, epoch: int, first_step: int, config: TrainConfig, num_steps: int, ranks: Ranks, report: Report):
        self._epoch, self._config, self._num_steps, self._ranks = epoch, config, num_steps, ranks
        self._first_step, self._report = first_step, report
        self._start_s = self._reported_s = self._told_s = time.monotonic()
        self._wait_s = 0.0
        self._done = 0
        self._queue: deque[torch.cuda.Event] = deque()
        self.tell("")

    def timed(self, batches: Batches) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """The batches; keeps how long they were waited for."""
        before_s = batches.wait_s
        for batch in batches:
            self._wait_s += batches.wait_s - before_s
            before_s = batches.wait_s
            yield batch

    def step(self, number: int, loss: torch.Tensor, learning_rate: float) -> None:
        """Note that a step is done; a GPU's may still be under way."""
        self._done += 1
        if loss.is_cuda:
            event = torch.cuda.Event()
            event.record()
            self._queue.append(event)
            if len(self._queue) > STEPS_AHEAD:
                self._queue.popleft().synchronize()
        now_s = time.monotonic()
        if now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._report(number, {"loss": loss.item(), "learning_rate": learning_rate, **self.figures()})
        if now_s - self._told_s >= TELL_EVERY_S or self._first_step + self._done == self._num_steps:
            self._told_s = now_s
            waiting = 100 * self.figures()["data_wait_share"]
            self.tell(f", loss {loss.item():.4f}, learning rate {learning_rate:.2e}, {waiting:.0f} % waiting for data")

    def tell(self, what: str) -> None:
        """Tell how far the run is, and what else there is to say."""
        config, num_done = self._config, self._epoch * self._num_steps + self._first_step + self._done
        total = min(config.epochs * self._num_steps, config.max_steps or math.inf)
        note = f"epoch {self._epoch + 1} of {config.epochs}{what}"
        self._ranks.tell(Place("training", num_done, int(total), "steps", note))

    def figures(self) -> dict[str, float]:
        """Clips/s of all ranks together, and the share of the time that this rank waited for data."""
        seconds = max(time.monotonic() - self._start_s, 1e-9)
        return {
            "clips_per_s": self._done * self._config.batch_size / seconds,
            "data_wait_share": self._wait_s / seconds,
            "seconds": seconds,
        }

    def finished(self) -> dict[str, Any]:
        """The figures of the epoch; the first rank warns when too much of it was waiting."""
        figures = self.figures()
        if self._ranks.is_first and figures["data_wait_share"] > MAX_WAIT_SHARE and self._done > 1:
            logger.warning(
                "%.0f %% of epoch %d was waiting for data: give the worker more CPUs (--cpus-per-worker), a larger "
                "--cache-mb, or clips nearer to it",
                100 * figures["data_wait_share"],
                self._epoch + 1,
            )
        return figures
