"""Training without Ray: on one rank in this process, or on several processes that talk gloo as Ray's workers do."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vidpipe.config import TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.training.clip_rows import labelled_clips
from vidpipe.training.job import OnStep, TrainJob
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import run_training

# Neither batch norm nor dropout: nothing in it depends on how a batch is shared.
TINY = ModelSpec(
    model="transformer",
    backbone="videomae",
    weights="none",
    model_config=(
        *("hidden_size=32", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=64"),
        *("image_size=32", "num_frames=4", "tubelet_size=2", "patch_size=8"),
    ),
)
LIMIT_S = 120.0


def tiny_config(clips: Path | str, output: Path | str, **changes: Any) -> TrainConfig:
    """2 epochs of batches of 10, which 3 ranks cannot share evenly."""
    settings: dict[str, Any] = {"model": TINY, "epochs": 2, "batch_size": 10, "learning_rate": 3e-3, **changes}
    return TrainConfig(clips=str(clips), output=str(output), **settings)


def job_of(config: TrainConfig, on_step: OnStep | None = None) -> TrainJob:
    return TrainJob(config, labelled_clips(config.clips, config.train_split, config.val_split, "test"), on_step)


def train_alone(config: TrainConfig, on_step: OnStep | None = None) -> dict[str, Any]:
    """Train in this process; what history.json says."""
    torch.set_num_threads(1)
    run_training(job_of(config, on_step), Ranks(0, 1, torch.device("cpu")))
    return history_of(config)


def history_of(config: TrainConfig) -> dict[str, Any]:
    """history.json without what differs from run to run: times, and the id that holds them."""
    history = json.loads(Path(config.output, "history.json").read_text())
    history.pop("checkpoint_id", None)
    for entry in history["epochs"]:
        for name in ("seconds", "clips_per_s", "data_wait_share"):
            del entry[name]
    return history


def train_group(config: TrainConfig, num_ranks: int, on_step: OnStep | None = None) -> list[int | None]:
    """Train on so many processes; their exit codes. When one ends badly the others are killed, as by Ray."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vidpipe.training.run"])  # torch is imported once, not by each of them
    with tempfile.TemporaryDirectory() as folder:
        arguments = (job_of(config, on_step), num_ranks, f"file://{folder}/meeting")
        processes = [context.Process(target=_train_rank, args=(rank, *arguments)) for rank in range(num_ranks)]
        for process in processes:
            process.start()
        waiting = {process.sentinel: process for process in processes}
        while waiting:
            ready = multiprocessing.connection.wait(list(waiting), LIMIT_S)
            ended = [waiting.pop(sentinel) for sentinel in ready]
            for process in ended:
                process.join()
            if not ended or any(process.exitcode for process in ended):
                for process in waiting.values():
                    process.kill()
        for process in processes:
            process.join()
    return [process.exitcode for process in processes]


def _train_rank(rank: int, job: TrainJob, num_ranks: int, meeting: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=num_ranks)
    run_training(job, Ranks(rank, num_ranks, torch.device("cpu")))
    torch.distributed.destroy_process_group()


def rank_here() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


@dataclass(frozen=True)
class KeepSteps:
    """Hook that notes loss and gradients of each step on the first rank."""

    path: Path

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        if rank_here() == 0:
            gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
            with self.path.open("ab") as file:
                pickle.dump((number, loss.item(), gradients), file)


def kept_steps(path: Path) -> list[tuple[int, float, dict[str, np.ndarray]]]:
    steps = []
    with path.open("rb") as file:
        while file.peek(1):
            steps.append(pickle.load(file))  # noqa: S301 - written by the test itself
    return steps


def largest_difference(one: Path, other: Path) -> tuple[int, float, float]:
    """Steps of two runs, and the largest difference of their losses and of any gradient."""
    ours, theirs = kept_steps(one), kept_steps(other)
    assert [number for number, *_ in ours] == [number for number, *_ in theirs]
    losses = max(abs(mine - their) for (_, mine, _), (_, their, _) in zip(ours, theirs, strict=True))
    gradients = 0.0
    for (_, _, mine), (_, _, their) in zip(ours, theirs, strict=True):
        assert mine.keys() == their.keys()
        assert len(mine) > 0
        gradients = max(gradients, *(float(np.abs(mine[name] - their[name]).max()) for name in mine))
    return len(ours), losses, gradients


@dataclass(frozen=True)
class KillOnce:
    """Hook that kills its process with SIGKILL after a step on one rank; a second time it lets pass."""

    marker: Path
    step: int
    rank: int = 0

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        if number == self.step and rank_here() == self.rank and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class BreakOnce:
    """Hook that raises what numpy or a bug raises after a step; a second time it lets pass."""

    marker: Path
    step: int

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        if number == self.step and not self.marker.exists():
            self.marker.touch()
            np.zeros(3).reshape(2)


@dataclass(frozen=True)
class Both:
    """Two hooks, one after the other."""

    first: OnStep
    second: OnStep

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        self.first(number, loss, model)
        self.second(number, loss, model)


class EndOfProcessError(Exception):
    """Stands for a kill where the process is the test's own."""


@dataclass(frozen=True)
class EndAt:
    """Hook that ends the run after a step: only what is on disk is left."""

    step: int

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        if number == self.step:
            raise EndOfProcessError
