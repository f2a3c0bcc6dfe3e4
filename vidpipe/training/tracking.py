"""Curves of a run for people to watch: TensorBoard always, MLflow and Weights & Biases when asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from fsspec.implementations.local import LocalFileSystem
from tensorboard.compat.proto.event_pb2 import Event, LogMessage
from torch.utils.tensorboard import SummaryWriter

from vidpipe.config import TrainConfig
from vidpipe.errors import UsageError
from vidpipe.storage import filesystem
from vidpipe.training.checks import CURVES_MARK, TENSORBOARD_FOLDER
from vidpipe.transfer import join, put_bytes


class Tracker(Protocol):
    """Where figures go."""

    def add(self, step: int, figures: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in OUT/tensorboard; of a remote output, copied there after each epoch."""

    def __init__(self, config: TrainConfig):
        self._url = join(config.output, TENSORBOARD_FOLDER)
        fs, path = filesystem(self._url)
        self._copied_from = None if isinstance(fs, LocalFileSystem) else Path(tempfile.mkdtemp(prefix="vidpipe-"))
        self._writer = SummaryWriter(self._copied_from or path)
        cast(Any, self._writer.file_writer).add_event(Event(log_message=LogMessage(message=CURVES_MARK)))

    def add(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        if self._copied_from is not None:
            for file in self._copied_from.iterdir():
                put_bytes(file.read_bytes(), join(self._url, file.name))

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of MLflow; its server and experiment come from MLflow's own environment variables."""

    def __init__(self, config: TrainConfig):
        import mlflow

        self._mlflow = mlflow
        mlflow.start_run(run_name=config.output.rstrip("/").rsplit("/", 1)[-1])
        mlflow.log_params({name: str(value)[:500] for name, value in config.settings.items()})

    def add(self, step: int, figures: dict[str, float]) -> None:
        self._mlflow.log_metrics({name.replace("/", "_"): value for name, value in figures.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class WeightsAndBiases:
    """A run of W&B; its project and key come from W&B's own environment variables."""

    def __init__(self, config: TrainConfig):
        import wandb

        self._run = wandb.init(name=config.output.rstrip("/").rsplit("/", 1)[-1], config=dict(config.settings))

    def add(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[TrainConfig], Tracker]] = {"mlflow": MLflow, "wandb": WeightsAndBiases}


def make_trackers(config: TrainConfig) -> list[Tracker]:
    return [TensorBoard(config), *(TRACKERS[name](config) for name in config.tracking)]


def check_trackers(config: TrainConfig) -> None:
    """Raise UsageError for a tracker that is not installed."""
    from importlib.util import find_spec

    for name in config.tracking:
        if find_spec(name) is None:
            raise UsageError(f"tracking {name} is not installed; pip install {name}, or drop it")
