"""A checkpoint's model at work: uint8 clips in, the logits of every view of them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from vidpipe.checkpoints import Checkpoint, load_checkpoint
from vidpipe.clip_blocks import CLOSING_INDEX, answered_rows, frames_in
from vidpipe.models.base import at_least_float32
from vidpipe.promised_gpu import promised_device
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import AugmentSpec
from vidpipe.transforms import ClipTransform

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ClipAnswers:
    logits: np.ndarray
    """(N, crops, K) float32."""
    features: np.ndarray | None
    """(N, D) float32: the mean over the crops, and over frames or tokens where the backbone has some for each."""
    model_s: float
    """Seconds for which the device was at work."""


class ClipModel:
    """The views of a checkpoint: each clip is shown to its model once a crop.

    Two threads may call it at once: one batch is copied to the device while the other is computed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        precision: Precision = "fp32",
        compiled: bool = False,
        batch_size: int | None = None,
        with_features: bool = False,
    ) -> None:
        """`batch_size` is the one number of clips that a compiled model is shown: smaller batches are filled up."""
        facts, model = checkpoint.facts, checkpoint.model
        self.crops = facts.views.crops
        self._device = next(model.parameters()).device
        self._dtype = precision_on(self._device, precision)
        self._transform = ClipTransform(model.input, facts.size, facts.views, AugmentSpec())
        self._with_features = with_features
        self._batch_size = batch_size if compiled else None

        def answer(clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features = model.features(clips)
            return at_least_float32(model.head(features)), features

        self._answer: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = (
            torch.compile(answer) if compiled else answer
        )
        self._copies = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        # Batches of two threads would share the device's memory and its time, and both would count all of it.
        self._computing = threading.Lock()

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> ClipAnswers:
        """What the model says of frames (N, T, H, W, C) uint8."""
        clips, is_copied = self._on_device(frames)
        with self._computing:
            if is_copied is not None:
                stream = torch.cuda.current_stream(self._device)
                stream.wait_event(is_copied)
                clips.record_stream(stream)
            return self._compute(clips, len(frames))

    def _compute(self, clips: torch.Tensor, num_clips: int) -> ClipAnswers:
        """Logits, and features where wanted, of the first `num_clips` clips (N, T, H, W, C) uint8 on its device."""
        busy = _Stopwatch(self._device)
        logits, features = [], []
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            for crop in range(self.crops):
                of_crop, of_backbone = self._answer(self._transform.view(clips, crop))
                logits.append(of_crop.float())
                if self._with_features:
                    of_backbone = of_backbone.float()
                    features.append(of_backbone.flatten(1, -2).mean(1) if of_backbone.ndim > 2 else of_backbone)
        busy.stop()
        found = torch.stack(logits, dim=1)[:num_clips].cpu().numpy()
        kept = torch.stack(features).mean(0)[:num_clips].cpu().numpy() if features else None
        return ClipAnswers(found, kept, busy.seconds())

    def _on_device(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """A copy on the device; of a GPU by way of pinned memory, and the event that says that it is there."""
        num_clips = max(len(frames), self._batch_size or 0)
        pinned = self._copies is not None
        host = torch.empty((num_clips, *frames.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        host[: len(frames)].numpy()[:] = frames
        host[len(frames) :] = 0
        if self._copies is None:
            return host, None
        with torch.cuda.stream(self._copies):
            clips = host.to(self._device, non_blocking=True)
            return clips, self._copies.record_event()


def precision_on(device: torch.device, precision: Precision) -> torch.dtype:
    """The type in which the model computes; auto: exact on a CPU, bf16 on a GPU that has it."""
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    return DTYPES[precision]


class _Stopwatch:
    """How long a device works, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else None
        self._times_s = [time.perf_counter()]
        if self._events:
            self._events[0].record()

    def stop(self) -> None:
        self._times_s.append(time.perf_counter())
        if self._events:
            self._events[1].record()

    def seconds(self) -> float:
        """Once the answers are here."""
        if self._events:
            self._events[1].synchronize()
            return self._events[0].elapsed_time(self._events[1]) / 1e3
        return self._times_s[1] - self._times_s[0]


class BlockModel:
    """What a Ray actor runs: blocks of clips in, their logits out, the closing rows passed on."""

    def __init__(
        self, checkpoint_url: str, checkpoint_id: str, clip: ClipSpec, *, device: str, num_threads: int, **how: Any
    ) -> None:
        """`how` goes to `ClipModel`; `clip` is how the clips of the blocks were cut."""
        torch.set_num_threads(num_threads)
        checkpoint = load_checkpoint(checkpoint_url, promised_device() if device == "cuda" else device)
        if checkpoint.checkpoint_id != checkpoint_id:
            raise RuntimeError(
                f"{checkpoint_url} holds checkpoint {checkpoint.checkpoint_id} now, and the run began with "
                f"{checkpoint_id}: it was replaced; run the same command again"
            )
        self._clip = clip
        self._model = ClipModel(checkpoint, **how)

    def __call__(self, block: pa.Table) -> pa.Table:
        """The rows of the block as `answered_rows` makes them."""
        began_at = time.time()
        if pc.all(pc.equal(block["clip_index"], CLOSING_INDEX)).as_py():
            return answered_rows(block, None, None, began_at=began_at, model_s=0.0)
        answers = self._model(frames_in(block, self._clip))
        return answered_rows(block, answers.logits, answers.features, began_at=began_at, model_s=answers.model_s)
