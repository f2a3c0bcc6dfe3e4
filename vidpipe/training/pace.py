"""How fast training goes, and how much of the time it waits for data: log lines, and figures for the record."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from vidpipe.config import TrainConfig
from vidpipe.training.batches import Batches

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
MAX_WAIT_SHARE = 0.1
STEPS_AHEAD = 2  # that a GPU may have in its queue: the wait for data is then a wait of the GPU

Report = Callable[[int, dict[str, float]], None]


class Pace:
    """The clock of one epoch on one rank."""

    def __init__(self, epoch: int, first_step: int, config: TrainConfig, num_steps: int, report: Report):
        self._epoch, self._num_epochs, self._num_steps = epoch, config.epochs, num_steps
        self._first_step, self._batch_size, self._report = first_step, config.batch_size, report
        self._start_s = self._logged_s = time.monotonic()
        self._wait_s = 0.0
        self._done = 0
        self._queue: deque[torch.cuda.Event] = deque()

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
        if now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            figures = self.figures()
            self._report(number, {"loss": loss.item(), "learning_rate": learning_rate, **figures})
            step = self._first_step + self._done
            num_left = self._num_steps * (self._num_epochs - self._epoch) - step
            left_s = num_left * (now_s - self._start_s) / self._done
            logger.info(
                f"epoch {self._epoch + 1}/{self._num_epochs}, step {step}/{self._num_steps}, loss {loss.item():.4f}, "
                f"learning rate {learning_rate:.2e}, {figures['clips_per_s']:.1f} clips/s, "
                f"{100 * figures['data_wait_share']:.0f} % waiting for data, {left_s:.0f} s left"
            )

    def figures(self) -> dict[str, float]:
        """Clips/s of all ranks together, and the share of the time that this rank waited for data."""
        seconds = max(time.monotonic() - self._start_s, 1e-9)
        return {
            "clips_per_s": self._done * self._batch_size / seconds,
            "data_wait_share": self._wait_s / seconds,
            "seconds": seconds,
        }

    def finished(self) -> dict[str, Any]:
        """The figures of the epoch; warns when too much of it was waiting."""
        figures = self.figures()
        if figures["data_wait_share"] > MAX_WAIT_SHARE and self._done > 1:
            logger.warning(
                "%.0f %% of epoch %d was waiting for data: give the worker more CPUs (--cpus-per-worker), a larger "
                "--cache-mb, or clips nearer to it",
                100 * figures["data_wait_share"],
                self._epoch + 1,
            )
        return figures
