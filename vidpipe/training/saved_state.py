"""The state from which a killed run goes on: weights, optimizer, place in the epoch, what happened so far.

OUT/state/00003-0000120.pt was written before step 120 of epoch 3. The newest file that can be read counts; two
are kept. Files are read with torch's `weights_only`: tensors, numbers and text, never code.
"""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import dataclass, field
from typing import Any

import torch

from vidpipe.errors import DamagedFileError
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, read_head, remove_files

logger = logging.getLogger(__name__)

FOLDER = "state"
NAME = r"[0-9]{5}-[0-9]{7}\.pt"
NUM_KEPT = 2
HEAD_BYTES = 1024
# As torch.save pickles the names of the first three, with the numbers of the first two between them.
_BEGINNING = re.compile(rb"X\x05\0\0\0epoch.{1,8}X\x04\0\0\0step.{1,8}X\x05\0\0\0model", re.DOTALL)


@dataclass
class TrainState:
    """Where a run stands: before step `step` of epoch `epoch`."""

    epoch: int = 0
    step: int = 0
    model: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    """The exponential moving average of the weights, when there is one."""
    warms_up_average: bool = False
    """Whether the average's decay rises, see `warmed_up_decay`. Absent in states of older runs: constant decay."""
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights of the best epoch so far."""
    loss_sum: float = 0.0
    """Of the steps of this epoch so far, over the clips of all ranks."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry a finished epoch."""


def save_state(output: str, state: TrainState) -> None:
    """Write the state whole, then remove the older ones but one."""
    data = io.BytesIO()
    torch.save({**vars(state), "history": json.dumps(state.history)}, data)
    put_bytes(data.getvalue(), join(output, FOLDER, f"{state.epoch:05d}-{state.step:07d}.pt"))
    remove_files(join(output, FOLDER), own_states(output)[:-NUM_KEPT])


def load_state(output: str, name: str) -> TrainState:
    """A state on the CPU: `load_state_dict` copies it where it belongs, and Adam's step counts stay off the GPU."""
    url = join(output, FOLDER, name)
    data = io.BytesIO(read_buffer(url))
    try:
        content = torch.load(data, map_location="cpu", weights_only=True)
        history = json.loads(content["history"])
    except Exception as error:  # of bytes that are damaged, torch raises almost anything
        raise DamagedFileError(f"{url} is damaged ({type(error).__name__}: {error})") from error
    return TrainState(**{**content, "history": history})


def newest_state(output: str) -> str | None:
    """Name of the newest state that can be read; None when there is none."""
    for name in reversed(state_names(output)):
        try:
            load_state(output, name)
        except DamagedFileError as error:
            logger.warning("%s; going on from the one before", error)
            continue
        return name
    return None


def state_names(output: str) -> list[str]:
    """Files with the name of a state, oldest first."""
    return [name for name in file_names(join(output, FOLDER)) if re.fullmatch(NAME, name)]


def own_states(output: str) -> list[str]:
    """Those of them that vidpipe wrote, whole or not: each begins with the first fields of a `TrainState`."""
    folder = join(output, FOLDER)
    return [name for name in state_names(output) if _BEGINNING.search(read_head(join(folder, name), HEAD_BYTES))]
