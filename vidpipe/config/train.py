"""Settings of jobs/train.py."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Literal

import tyro

from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelSpec
from vidpipe.transform_spec import AugmentSpec, ViewSpec

# What may differ between a run and the one that goes on from its state: it changes no result.
FREE_FIELDS = (
    *("output", "num_workers", "device", "cpus_per_worker", "max_failures", "checkpoint_every_s", "cache_mb"),
    *("restart", "tracking", "allow_partial_weights"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a model on clips; the checkpoint knows its model, labels and clips."""

    clips: tyro.conf.Positional[str]
    """Folder or prefix that jobs/preprocess.py wrote. Labels, splits and the clips' settings are read from it."""
    output: str
    """Folder or prefix for best/ and last/ (checkpoints), state/, tensorboard/, history.json and run.json. The same
    command again goes on where it stopped."""
    # Not ModelSpec(): its fields are filled in for one model, and --model would start from these.
    model: tyro.conf.OmitArgPrefixes[ModelSpec] = tyro.MISSING_NONPROP
    allow_partial_weights: bool = False
    """Start although the weights fill less than 90 % of the backbone; the rest starts from random values."""
    size: str | None = None
    """Frame size that the model sees: 112 or HEIGHTxWIDTH (default: the model's)."""
    augment: tyro.conf.OmitArgPrefixes[AugmentSpec] = tyro.MISSING_NONPROP
    views: ViewSpec = field(default_factory=ViewSpec)
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split that chooses the best epoch and the temperature; test, if there is one, is evaluated once at the end."""

    epochs: int = 20
    """Passes over the training clips."""
    batch_size: int = 32
    """Clips a step, on all workers together. The result does not depend on their number where neither batch norm nor
    dropout is at work (--model transformer as published, a frozen backbone); elsewhere it does, and the run says so."""
    micro_batch_size: int | None = None
    """Clips that a worker runs through the model at once; gradients of several are accumulated (default: its share).
    Batch norm sees these alone, and dropout is drawn for them."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """adamw, adam, or sgd with momentum."""
    learning_rate: float = 3e-4
    """Peak learning rate, for one batch of batch_size clips."""
    weight_decay: float = 0.0
    """Weight decay of matrices and kernels; biases and norms have none."""
    momentum: float = 0.9
    """sgd: momentum."""
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine to 0, cut when the validation loss stands still, or constant."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises linearly."""
    plateau_factor: float = 0.5
    """plateau: what the learning rate is multiplied with."""
    plateau_patience: int = 5
    """plateau: epochs without a lower validation loss that are let pass before a cut."""
    plateau_best: bool = False
    """plateau: a cut also goes back to the best weights."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all labels."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare labels count more, in inverse proportion to their clips."""
    clip_grad_norm: float | None = None
    """Limit of the gradients' norm."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights with this decay, such as 0.999; it is what is evaluated and
    saved. The decay warms up: after n steps it is at most (1 + n) / (10 + n)."""
    best_by: Literal["loss", "top1"] = "loss"
    """Which epoch is best: the lowest validation loss, or the highest top-1."""
    early_stop: int | None = None
    """Stop after this many epochs that were not better than the best."""
    max_steps: int | None = None
    """Stop after this many steps, without an evaluation if in mid-epoch: for timing."""
    seed: int = 0
    """Seed of the initial weights, the order of the clips, augmentation and dropout."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number type of the forward pass; auto: bf16 on GPUs that have it, else fp32."""
    compile: bool = False
    """torch.compile the model."""
    sync_batch_norm: bool = False
    """Batch norm over the clips of all workers (GPUs only)."""
    num_workers: str = "auto"
    """Workers of Ray Train: a number, a range such as 2-8 (elastic), or auto: one for each GPU, else one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: GPUs when the cluster has any."""
    cpus_per_worker: int | None = None
    """CPUs, and torch threads, of a worker (default: its even share; with a GPU 4 or fewer)."""
    max_failures: int = 3
    """Lost workers or nodes after which the job gives up; each time it goes on from its last state."""
    checkpoint_every_s: float = 600.0
    """Seconds between two states within an epoch; one is written after an epoch, too, unless the one before took more
    than a tenth of the time since."""
    cache_mb: int = 4096
    """Memory of a worker for frames that it read: clips that fit are read once, not every epoch."""
    restart: bool = False
    """Begin anew although the output holds a run; it is replaced."""
    tracking: tuple[Literal["mlflow", "wandb"], ...] = ()
    """Trackers beside TensorBoard; they must be installed (pip install 'vidpipe[tracking]')."""

    def __post_init__(self) -> None:
        for name, settings in (("model", ModelSpec), ("augment", AugmentSpec)):
            if getattr(self, name) is tyro.MISSING_NONPROP:
                object.__setattr__(self, name, settings())
        for name in (
            *("epochs", "batch_size", "micro_batch_size", "learning_rate", "clip_grad_norm", "early_stop", "max_steps"),
            *("cpus_per_worker", "checkpoint_every_s", "cache_mb"),
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be above 0, got {value}")
        for name in ("weight_decay", "plateau_patience", "seed", "max_failures"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be 0 or above, got {getattr(self, name)}")
        for name in ("momentum", "warmup", "label_smoothing", "ema_decay"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise UsageError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        if not 0 < self.plateau_factor < 1:
            raise UsageError(f"plateau_factor must be between 0 and 1, got {self.plateau_factor}")
        if self.plateau_best and self.schedule != "plateau":
            raise UsageError(f"plateau_best is for schedule plateau, not {self.schedule}; drop it")
        if self.train_split == self.val_split:
            raise UsageError(f"train_split and val_split are both {self.train_split}: no number would be honest")
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})?", self.size):
            raise UsageError(f"size must be pixels such as 112, or HEIGHTxWIDTH such as 128x171, got {self.size!r}")
        low, high = self.worker_range or (1, 1)
        if not 1 <= low <= high:
            raise UsageError(f"num_workers must be auto, a number, or a range such as 2-8, got {self.num_workers!r}")
        if high > self.batch_size:
            raise UsageError(
                f"batch_size {self.batch_size} is the clips of all workers together: {high} workers need {high} or more"
            )
        if self.sync_batch_norm and self.device == "cpu":
            raise UsageError("sync_batch_norm works on GPUs only, and device is cpu; drop it")

    @property
    def worker_range(self) -> tuple[int, int] | None:
        """Smallest and largest number of workers; None for auto, (0, 0) for what is none."""
        if self.num_workers == "auto":
            return None
        found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", self.num_workers)
        return (int(found[1]), int(found[2] or found[1])) if found else (0, 0)

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the result, as JSON values."""
        return {name: value for name, value in json.loads(json.dumps(asdict(self))).items() if name not in FREE_FIELDS}
