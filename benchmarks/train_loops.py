"""Epochs of training, timed: vidpipe's own loop, the bare model on tensors in memory, and a DataLoader that decodes."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from vidpipe.model_spec import ModelSpec
from vidpipe.models import VideoModel, build_model
from vidpipe.spec import ClipSpec
from vidpipe.training.job import TrainJob, precision_of
from vidpipe.training.optimization import make_optimizer
from vidpipe.training.pace import Pace
from vidpipe.training.ranks import Ranks
from vidpipe.training.trainer import Trainer

# Dense bf16, from NVIDIA's data sheets, TFLOP/s; the first name that the card's own contains counts.
PEAK_TFLOPS = {"H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "B200": 2250, "A100": 312}
PEAK_TFLOPS |= {"L40S": 362, "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "A30": 165, "RTX 4090": 165}
DEFAULT_FRAMES = 16


@dataclass(frozen=True)
class Speed:
    """One epoch of one contender."""

    clips_per_s: float
    cpu_s: float | None
    """CPU seconds a clip, of this process and those that it started."""
    wait_share: float | None
    """Of the time, waiting for data."""


@dataclass(frozen=True)
class Run:
    """What all contenders train: the same model on as many clips of one size."""

    job: TrainJob
    ranks: Ranks
    videos: list[Path]

    def __str__(self) -> str:
        num_frames, height, width, _ = self.job.clips.spec.shape
        return f"{self.job.config.batch_size} x {num_frames} frames of {height}x{width}"

    @property
    def device(self) -> torch.device:
        return self.ranks.device

    @property
    def precision(self) -> torch.dtype:
        return precision_of(self.job.config, self.device)

    def built(self) -> VideoModel:
        torch.manual_seed(0)
        return build_model(self.job.config.model, self.job.clips.labels).to(self.device)

    @staticmethod
    def own_size(spec: ModelSpec) -> tuple[int, int]:
        """Pixels a side and frames that a model was made for."""
        wanted = build_model(spec, ("one", "two")).input
        return wanted.height, wanted.num_frames or DEFAULT_FRAMES

    @staticmethod
    def fitting_batch(spec: ModelSpec, clip: ClipSpec, device: torch.device, *, share: float, most: int) -> int:
        """As many clips a step as fill that share of the card, by what 4 and 8 of them take; a multiple of 8."""
        peaks = []
        for batch_size in (4, 8):
            model = build_model(spec, ("one", "two")).to(device)
            torch.cuda.reset_peak_memory_stats()
            step = bare_step(model, torch.optim.AdamW(model.parameters()), torch.bfloat16)
            for _ in range(2):
                step(noise(batch_size, clip, device), torch.zeros(batch_size, dtype=torch.long, device=device))
            peaks.append(torch.cuda.max_memory_allocated())
            del model, step
            torch.cuda.empty_cache()
        a_clip = (peaks[1] - peaks[0]) / 4
        fitting = (share * torch.cuda.get_device_properties(device).total_memory - peaks[0]) / a_clip
        return min(max(int(fitting) // 8 * 8, 8), most)


def noise(batch_size: int, clip: ClipSpec, device: torch.device) -> torch.Tensor:
    """Clips (B, T, 3, H, W) in the order in memory that vidpipe's transform gives them: channels last."""
    return torch.randn((batch_size, *clip.shape), device=device).permute(0, 1, 4, 2, 3)


Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def bare_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, precision: torch.dtype) -> Step:
    """A step as short as it gets: forward, cross-entropy, backward, optimizer."""

    def step(clips: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(clips.device.type, precision, enabled=precision != torch.float32):
            logits = model(clips)
        loss = functional.cross_entropy(logits.float(), truth)
        loss.backward()
        optimizer.step()
        return loss

    return step


def vidpipe_epochs(run: Run, num_epochs: int) -> list[Speed]:
    """Epochs of a new trainer: the first one reads Parquet, the later ones find the frames in memory."""
    trainer = Trainer(run.job, run.ranks)
    speeds = []
    for epoch in range(num_epochs):
        trainer.state.epoch, trainer.state.step = epoch, 0
        pace = Pace(epoch, 0, run.job.config, run.job.num_steps_an_epoch, run.ranks, lambda *_: None)
        with timed(run, run.job.num_steps_an_epoch) as speed:
            trainer.train_epoch(pace)
        speeds.append(speed(pace.figures()["data_wait_share"]))
    return speeds


def memory_epoch(run: Run, num_steps: int) -> Speed:
    """The model, its optimizer and one batch of noise that is on the device: what no input can beat."""
    model = run.built().train()
    if run.job.config.compile:
        model.compile()
    step = bare_step(model, make_optimizer(model, run.job.config), run.precision)
    batch_size = run.job.config.batch_size
    clips = noise(batch_size, run.job.clips.spec, run.device)
    truth = torch.arange(batch_size, device=run.device) % len(run.job.clips.labels)
    with timed(run, num_steps) as speed:
        for _ in range(num_steps):
            step(clips, truth)
    return speed(None)


def decoding_epoch(run: Run, num_steps: int, decoder: str, num_workers: int) -> Speed:
    """As tutorials do: a Dataset that decodes a video and scales 16 frames, workers, one bare step a batch."""
    model = run.built().train()
    step = bare_step(model, make_optimizer(model, run.job.config), run.precision)
    batch_size = run.job.config.batch_size
    num_labels = len(run.job.clips.labels)
    videos = Videos(run.videos, num_steps * batch_size, run.job.clips.spec, decoder, model, num_labels)
    wait_s = 0.0
    with timed(run, num_steps) as speed:
        start_s = time.perf_counter()
        loader = DataLoader(videos, batch_size, shuffle=True, num_workers=num_workers, pin_memory=on_gpu(run))
        batches: Iterator[Any] | None = iter(loader)
        assert batches is not None
        for _ in range(num_steps):
            before_s = time.perf_counter()
            clips, truth = next(batches)
            wait_s += time.perf_counter() - before_s
            step(clips.to(run.device, non_blocking=True), truth.to(run.device, non_blocking=True))
            if on_gpu(run):
                torch.cuda.synchronize()  # or the wait for the GPU would be one for data
        seconds = time.perf_counter() - start_s
        batches = None  # the workers end, and their CPU time counts
    return speed(wait_s / seconds)


class Videos(Dataset[tuple[torch.Tensor, int]]):
    """A clip (T, 3, H, W) float and its class, of each of so many videos; they repeat."""

    def __init__(
        self, paths: list[Path], length: int, clip: ClipSpec, decoder: str, model: VideoModel, num_labels: int
    ):
        self.paths, self.length, self.num_labels = paths, length, num_labels
        self.num_frames, self.height, self.width, _ = clip.shape
        self.frames = DECODERS[decoder]
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (model.input.mean, model.input.std))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        frames = self.frames(self.paths[number % len(self.paths)], self.num_frames)  # (T, 3, H, W) uint8
        clip = functional.interpolate(frames.float() / 255, (self.height, self.width), mode="bilinear")
        return (clip - self.mean) / self.std, number % self.num_labels


def decoded_by_pyav(path: Path, num_frames: int) -> torch.Tensor:
    """Every frame of the video is decoded and made RGB, as by torchvision.io.read_video; then some are taken."""
    import av

    with av.open(str(path)) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    chosen = frames[np.linspace(0, len(frames) - 1, num_frames).astype(int)]
    return torch.from_numpy(chosen).permute(0, 3, 1, 2)


def decoded_by_torchcodec(path: Path, num_frames: int) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(str(path), num_ffmpeg_threads=1)
    return video.get_frames_at(np.linspace(0, len(video) - 1, num_frames).astype(int).tolist()).data


def decoded_by_decord(path: Path, num_frames: int) -> torch.Tensor:
    import decord

    video = decord.VideoReader(str(path), num_threads=1)
    frames = video.get_batch(np.linspace(0, len(video) - 1, num_frames).astype(int)).asnumpy()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


DECODERS: dict[str, Callable[[Path, int], torch.Tensor]] = {
    "pyav": decoded_by_pyav,
    "torchcodec": decoded_by_torchcodec,
    "decord": decoded_by_decord,
}


def num_flops(run: Run) -> float:
    """Of a step on one clip, forward and backward: multiply and add are two."""
    model = run.built().train()
    clips = noise(1, run.job.clips.spec, run.device)
    with FlopCounterMode(display=False) as counter:
        model(clips).sum().backward()
    return float(counter.get_total_flops())


def peak_flops(device: torch.device) -> float | None:
    """What the card can do at most in bf16, of which clips/s are a share; None when it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((1e12 * peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


def on_gpu(run: Run) -> bool:
    return run.device.type == "cuda"


@contextmanager
def timed(run: Run, num_steps: int) -> Iterator[Callable[[float | None], Speed]]:
    """The clock around an epoch; what it gives makes a `Speed` of a share of waiting, once the epoch is over."""

    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + used.ru_utime + used.ru_stime

    found: list[float] = []
    if on_gpu(run):
        torch.cuda.synchronize()
    start_s, start_cpu_s = time.perf_counter(), cpu_s()
    num_clips = num_steps * run.job.config.batch_size
    yield lambda wait_share: Speed(num_clips / found[0], found[1] / num_clips, wait_share)
    if on_gpu(run):
        torch.cuda.synchronize()
    found += [time.perf_counter() - start_s, cpu_s() - start_cpu_s]
