"""The training loop of one rank. A step is the same on one rank and on many, but for what `sharing` names; a killed run
goes on to the same end."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vidpipe.errors import UsageError
from vidpipe.models import VideoModel, build_model
from vidpipe.training.batches import Batches
from vidpipe.training.checks import input_size
from vidpipe.training.job import TrainJob, precision_of
from vidpipe.training.optimization import (
    class_weights,
    clip_gradients,
    learning_rate,
    loss_sum,
    make_optimizer,
    soft_targets,
    warmed_up_decay,
)
from vidpipe.training.order import epoch_batches, share_of
from vidpipe.training.pace import Pace
from vidpipe.training.ranks import Ranks
from vidpipe.training.saved_state import TrainState, save_state
from vidpipe.training.sources import make_source
from vidpipe.transforms import ClipTransform, mix


class Trainer:
    """A model in training: its weights, optimizer and place in the run."""

    def __init__(self, job: TrainJob, ranks: Ranks):
        config = job.config
        self.job, self.ranks, self.config = job, ranks, config
        self.precision = precision_of(config, ranks.device)
        torch.manual_seed(config.seed)
        model = build_model(config.model, job.clips.labels, allow_partial_weights=config.allow_partial_weights)
        self.model = model.to(ranks.device)
        if config.sync_batch_norm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.transform = ClipTransform(self.model.input, input_size(config, self.model), config.views, config.augment)
        self.source = make_source(job, self.model, self.transform, ranks)
        self.optimizer = make_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=self.precision == torch.float16)
        self.average: AveragedModel | None = None
        if config.ema_decay is not None:
            self.average = AveragedModel(self.model, multi_avg_fn=self._average_weights, use_buffers=True)
        weights = class_weights(job.train.truth, len(job.clips.labels), config)
        self.class_weights = torch.from_numpy(weights).to(ranks.device)
        if config.compile:
            self.source.net.compile()
        self.net = self._distributed(self.source.net)
        self.state = TrainState(warms_up_average=True)
        self.best_written: int | None = None
        """The epoch of the best checkpoint that this process wrote."""
        self._saved_s, self._save_cost_s = time.monotonic(), 0.0

    def _distributed(self, net: nn.Module) -> nn.Module:
        if self.ranks.num_ranks == 1:
            return net
        on_gpu = self.ranks.device.type == "cuda"
        return DistributedDataParallel(
            net, device_ids=[self.ranks.device] if on_gpu else None, gradient_as_bucket_view=True
        )

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.job.num_steps_an_epoch * self.config.epochs

    @property
    def evaluated(self) -> VideoModel:
        """The weights that count: the moving average, when there is one."""
        if self.average is None:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, VideoModel)
        return averaged

    def train_epoch(self, pace: Pace) -> None:
        """The steps of this epoch that are left; `state` says which, and where the run stands afterwards."""
        epoch, config = self.state.epoch, self.config
        steps = epoch_batches(self.job.train.group, config.batch_size, config.seed, epoch)
        share = share_of(self.ranks.rank, self.ranks.num_ranks, config.batch_size)
        self.net.train()
        total = torch.tensor(self.state.loss_sum, dtype=torch.float64, device=self.ranks.device)
        batches = Batches(self.source.readers[config.train_split], (rows[share] for rows in steps[self.state.step :]))
        for rows, batch in pace.timed(batches):
            number = epoch * len(steps) + self.state.step
            loss = self._step(number, rows, batch)
            total += loss.double()
            self.state.step += 1
            pace.step(number, loss, self.optimizer.param_groups[0]["lr"])
            if self.job.on_step is not None:
                self.job.on_step(number, loss, self.model)
            if self.is_over(number + 1):
                break
            if time.monotonic() - self._saved_s > config.checkpoint_every_s and self.state.step < len(steps):
                self.state.loss_sum = finite(total, number)
                self.save()
        self.state.loss_sum = finite(total, number)

    def is_over(self, number: int) -> bool:
        return self.config.max_steps is not None and number >= self.config.max_steps

    def _step(self, number: int, rows: np.ndarray, batch: torch.Tensor) -> torch.Tensor:
        """One step on this rank's clips; returns the loss over the clips of all ranks."""
        config, epoch = self.config, self.state.epoch
        torch.manual_seed(self._seed(number))  # of dropout; augmentation has a seed for every clip
        val_losses = [entry["monitor"]["loss"] for entry in self.state.history]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, number, self.num_steps, val_losses)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.ranks.device)
        truth = torch.from_numpy(self.job.train.truth[rows])
        micro = config.micro_batch_size or len(rows)
        for first, is_last in slices(len(rows), micro):
            part = slice(first, first + micro)
            inputs = batch[part].to(self.ranks.device, non_blocking=True)
            seeds = [(config.seed, epoch, int(row)) for row in rows[part]]
            inputs = self.source.training_input(inputs, seeds)
            targets = soft_targets(
                truth[part].to(self.ranks.device), len(self.job.clips.labels), config.label_smoothing
            )
            if config.augment.mixes:
                inputs, targets = mix(inputs, targets, seeds, config.augment)
            with self._no_sync(is_last):
                with torch.autocast(self.ranks.device.type, self.precision, enabled=self.precision != torch.float32):
                    logits = self.net(inputs)
                part_loss = loss_sum(logits, targets, self.class_weights) / config.batch_size
                # DDP takes the mean over the ranks; the sum is what one rank alone would have.
                self.scaler.scale(part_loss * self.ranks.num_ranks).backward()
            loss += part_loss.detach()
        self.scaler.unscale_(self.optimizer)
        clip_gradients(self.model.parameters(), config.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return self.ranks.sum(loss)

    def _average_weights(self, averages: Any, weights: Any, num_updates: torch.Tensor | int) -> None:
        assert self.average is not None
        assert self.config.ema_decay is not None
        decay = self.config.ema_decay
        if self.state.warms_up_average:
            decay = warmed_up_decay(decay, int(self.average.n_averaged))  # on the CPU: a GPU need not be waited for
        get_ema_multi_avg_fn(decay)(averages, weights, num_updates)

    def _no_sync(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        if is_last or not isinstance(self.net, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.net.no_sync()

    def _seed(self, number: int) -> int:
        text = f"{self.config.seed} {number} {self.ranks.rank}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")

    @property
    def is_worth_saving(self) -> bool:
        """Writing took less than a tenth of the time that it would save now: large models have short epochs, too."""
        return time.monotonic() - self._saved_s >= 10 * self._save_cost_s

    def save(self, write_checkpoints: Callable[[], None] = lambda: None) -> None:
        """Write the state, after the checkpoints that go with it; the first rank's is everybody's."""
        start_s = time.monotonic()
        if self.ranks.is_first:
            write_checkpoints()
            state = self.state
            state.model, state.optimizer = self.model.state_dict(), self.optimizer.state_dict()
            state.scaler = self.scaler.state_dict()
            state.average = self.average.state_dict() if self.average is not None else {}
            save_state(self.config.output, state)
        self._saved_s = time.monotonic()
        self._save_cost_s = self._saved_s - start_s

    def load(self, state: TrainState) -> None:
        self.state = state
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        if self.average is not None:
            self.average.load_state_dict(state.average)


def finite(loss_sum: torch.Tensor, step: int) -> float:
    """The number; UsageError when the loss is none any more: no such state is ever saved."""
    value: float = loss_sum.item()
    if not math.isfinite(value):
        raise UsageError(
            f"the loss was {value} by step {step}: training diverged; give a lower --learning-rate, "
            "--clip-grad-norm 1, --warmup 0.1 or --precision fp32, with --restart"
        )
    return value


def slices(num_rows: int, size: int) -> Iterator[tuple[int, bool]]:
    """The first row of each slice of `size` rows, and whether it is the last one."""
    for first in range(0, num_rows, size):
        yield first, first + size >= num_rows
