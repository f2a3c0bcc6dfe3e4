"""A step of our models against what tutorials and torchvision have, on data in memory: one table.

    python benchmarks/models.py                  # GPU when there is one, else CPU
    OMP_NUM_THREADS=1 python benchmarks/models.py --steps 10   # on a busy machine: threads that wait take CPU time, too

A step is forward, cross-entropy and backward, with the same weights and numbers; steps alternate. The rows `channels
last` give the network the order in memory that frames are stored in, the others the one that torchvision's own
transform makes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
import tyro
from torch import Tensor, nn
from torch.nn import functional

from vidpipe.model_spec import ModelSpec
from vidpipe.models import VideoModel, build_model

LABELS = tuple(str(number) for number in range(51))
Step = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare a step of our models with the usual ones."""

    steps: int = 5
    """Timed steps of each; figures are medians, ratios are taken step by step."""
    batch_size: int = 2
    """Clips a step."""
    num_frames: int = 8
    """Frames a clip."""
    size: int = 64
    """Pixels a side."""
    frame_backbones: tuple[str, ...] = ("resnet18", "mobilenet_v3_small")
    """Of cnn_rnn."""
    clip_backbones: tuple[str, ...] = ("r3d_18", "r2plus1d_18", "s3d")
    """Of conv3d."""


class LoopOverTime(nn.Module):
    """A CNN-RNN as tutorials write it: frame after frame through the network and the LSTM."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.network, self.head = model.backbone.network, model.head

    def forward(self, clips: Tensor) -> Tensor:
        hidden = None
        for time_step in range(clips.shape[1]):
            features = self.network(clips[:, time_step])
            out, hidden = self.head.rnn(features.unsqueeze(1), hidden)
        logits: Tensor = self.head.classifier(out[:, -1])
        return logits


class Bare(nn.Module):
    """torchvision's own model, on clips as its own transform stores them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = torchvision.models.get_model(name, weights=None, num_classes=len(LABELS))

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.network(clips.transpose(1, 2))
        return logits


def main(options: Options) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}; {options.batch_size} x {options.num_frames} frames of {options.size}x{options.size}; "
          f"medians of {options.steps} steps\n")  # fmt: skip
    print("| | against | wall ms | CPU ms | wall × | CPU × |")
    print("|---|---|---|---|---|---|")
    for backbone in options.frame_backbones:
        ours = built("cnn_rnn", backbone, device)
        loop = LoopOverTime(ours)
        compare(f"cnn_rnn {backbone}", {"": (ours, True), "loop over time steps": (loop, False)}, device, options)
    for backbone in options.clip_backbones:
        ours, bare = built("conv3d", backbone, device), Bare(backbone).to(device)
        others = {"": (ours, True), "bare torchvision": (bare, False), "bare torchvision, channels last": (bare, True)}
        compare(f"conv3d {backbone}", others, device, options)


def built(model: str, backbone: str, device: torch.device) -> VideoModel:
    torch.manual_seed(0)
    return build_model(ModelSpec(model=model, backbone=backbone, weights="none"), LABELS).to(device)  # type: ignore[arg-type]


def compare(title: str, models: dict[str, tuple[nn.Module, bool]], device: torch.device, options: Options) -> None:
    """Time the models step by step; the first one is ours, and gets clips as vidpipe's transform makes them."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for number in range(options.steps + 1):
        for name, (model, channels_last) in models.items():
            seconds = timed(step_of(model.train(), clips_of(options, device, channels_last)), device)
            if number:  # the first step chooses kernels
                found[name].append(seconds)
    ours = found[""]
    for name, all_seconds in found.items():
        wall, cpu = (1000 * statistics.median(column) for column in zip(*all_seconds, strict=True))
        ratios = [
            statistics.median(theirs[part] / mine[part] for theirs, mine in zip(all_seconds, ours, strict=True))
            for part in range(2)
        ]
        label = f"| {title} | ours |" if not name else f"| | {name} |"
        print(f"{label} {wall:.0f} | {cpu:.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def clips_of(options: Options, device: torch.device, channels_last: bool) -> Tensor:
    """(B, T, 3, H, W), in memory (B, T, H, W, 3) or (B, 3, T, H, W)."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch_size, options.num_frames, options.size, options.size, 3)
    clips = torch.randn(shape, generator=generator).to(device).permute(0, 1, 4, 2, 3)
    return clips if channels_last else clips.transpose(1, 2).contiguous().transpose(1, 2)


def step_of(model: nn.Module, clips: Tensor) -> Step:
    truth = torch.arange(len(clips), device=clips.device)

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=clips.is_cuda):
            logits = model(clips)
        loss = functional.cross_entropy(logits.float(), truth)
        loss.backward()
        return loss

    return step


def timed(step: Step, device: torch.device) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s


if __name__ == "__main__":
    main(tyro.cli(Options))
