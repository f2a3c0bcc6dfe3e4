"""Training from clips on disk, against the same model on tensors in memory and on videos decoded each epoch: one table.

    python benchmarks/train.py                                  # GPU when there is one, else CPU
    python benchmarks/train.py --models conv3d/r3d_18 --job     # one model, also through jobs/train.py on Ray
    python benchmarks/train.py --kinds fights                   # what the DataLoader decodes: real clips

A round is one epoch of each contender, one after the other, from the same weights; figures are medians of the rounds,
ratios are taken within a round. Weights are random and videos are generated: no internet is needed.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from content import KINDS, default_content
from train_loops import Run, Speed, decoding_epoch, memory_epoch, num_flops, peak_flops, vidpipe_epochs
from training_content import write_clips

from vidpipe.config import TrainConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.spec import ClipSpec
from vidpipe.training.clip_rows import labelled_clips
from vidpipe.training.job import TrainJob
from vidpipe.training.ranks import Ranks

HERE = Path(__file__).parent
# Frame size, frames, clips a step. On a GPU: what the model was made for, and as many clips as fill the card.
CPU_CASES = {
    "conv3d/r3d_18": (64, 8, 4),
    "cnn_rnn/resnet18": (64, 16, 8),
    "cnn_rnn/mobilenet_v3_small": (112, 16, 8),
}
GPU_MODELS = ("conv3d/r3d_18", "conv3d/r2plus1d_18", "conv3d/mvit_v2_s", "transformer/videomae")
OTHER_CASE = (64, 16, 4)
MEMORY, FIRST, LATER = "the model on tensors in memory", "vidpipe, first epoch", "vidpipe, later epochs"
SHARE_OF_MEMORY = 0.85
MAX_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare training on clips with its own model in memory, and with a DataLoader that decodes."""

    models: tuple[str, ...] = ()
    """MODEL/BACKBONE (default: three of all costs on a CPU; four of the field on a GPU)."""
    size: int | None = None
    """Pixels a side (default: small on a CPU, the model's own on a GPU)."""
    num_frames: int | None = None
    """Frames a clip (default as for the size)."""
    batch_size: int | None = None
    """Clips a step (default: few on a CPU; on a GPU as many as fit)."""
    steps: int = 6
    """Steps an epoch; a GPU wants 20 or more."""
    rounds: int = 3
    """Times that each contender runs; figures are medians."""
    kinds: tuple[str, ...] = ("ucf101",)
    """Videos that are decoded: kinds of content.py."""
    num_workers: int = torch.get_num_threads()
    """Processes of the DataLoader."""
    decoders: tuple[str, ...] = ("pyav", "torchcodec")
    """How the DataLoader decodes; none: leave it out."""
    compile: bool = False
    """torch.compile the model, in memory and in vidpipe."""
    job: bool = False
    """Also run jobs/train.py on Ray."""

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {', '.join(unknown)}")


def main(options: Options) -> None:
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    print(f"{torch.cuda.get_device_name() if on_gpu else f'{torch.get_num_threads()} CPU threads'}; medians of "
          f"{options.rounds} rounds of {options.steps} steps; ratios and CPU within a round\n")  # fmt: skip
    print("| model, clips a step | | clips/s | × memory | CPU ms a clip | × memory | waiting for data | of the peak |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models or (GPU_MODELS if on_gpu else tuple(CPU_CASES)):
        run, flops = measure(name, options, device)
        print_rows(run, flops)
        gc.collect()


def measure(name: str, options: Options, device: torch.device) -> tuple[dict[str, list[Speed]], tuple[str, float]]:
    """The rounds of each contender; what the rows are called; the share of the peak that a clip/s is."""
    model, _, backbone = name.partition("/")
    spec = ModelSpec(model=model, backbone=backbone, weights="none")  # type: ignore[arg-type]
    videos = sorted(path for path in default_content([*options.kinds], 24, 1).iterdir() if path.is_file())
    rounds: dict[str, list[Speed]] = {}
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        run = make_run(spec, options, device, videos, scratch)
        print(f"{name}: {run}", file=sys.stderr)
        memory_epoch(run, 2)  # kernels are chosen and memory is taken
        for number in range(options.rounds):
            first, later = vidpipe_epochs(run, 2)
            found = {MEMORY: memory_epoch(run, options.steps), FIRST: first, LATER: later}
            for decoder in options.decoders:
                found[f"DataLoader, {decoder}"] = decoding_epoch(run, options.steps, decoder, options.num_workers)
            if options.job:
                found |= job_epochs(run, f"{scratch}/job-{number}")
            for contender, speed in found.items():
                print(f"round {number + 1} of {options.rounds}: {contender}: {speed}", file=sys.stderr)
                rounds.setdefault(contender, []).append(speed)
        peak = peak_flops(device)
        share = num_flops(run) / peak if peak else 0.0
    return rounds, (f"{name}, {run}", share)


def make_run(spec: ModelSpec, options: Options, device: torch.device, videos: list[Path], scratch: str) -> Run:
    """Clips on disk and the job that trains on them."""
    size, num_frames, batch_size = CPU_CASES.get(f"{spec.model}/{spec.backbone}", OTHER_CASE)
    if device.type == "cuda":
        size, num_frames = Run.own_size(spec)
        batch_size = 8
    clip = ClipSpec(num_frames=options.num_frames or num_frames, size=str(options.size or size), resize="squash")
    if device.type == "cuda" and options.batch_size is None:
        batch_size = Run.fitting_batch(spec, clip, device, share=SHARE_OF_MEMORY, most=MAX_BATCH)
    batch_size = options.batch_size or batch_size
    output = f"{scratch}/clips"
    write_clips(videos, clip, batch_size * options.steps, output)
    config = TrainConfig(
        clips=output, output=f"{scratch}/out", model=spec, size=clip.size, batch_size=batch_size, epochs=1000,
        cache_mb=32 << 10, compile=options.compile,
    )  # fmt: skip
    return Run(TrainJob(config, labelled_clips(output, "train", "val", "test")), Ranks(0, 1, device), videos)


def job_epochs(run: Run, output: str) -> dict[str, Speed]:
    """jobs/train.py with the same settings: what it wrote of its own pace."""
    config = run.job.config
    command = [sys.executable, str(HERE.parent / "jobs" / "train.py"), config.clips, "--output", output]
    command += ["--model", config.model.model, "--backbone", str(config.model.backbone), "--weights", "none"]
    command += ["--size", str(config.size), "--batch-size", str(config.batch_size), "--epochs", "2"]
    subprocess.run(command, check=True, capture_output=True)
    epochs = json.loads(Path(output, "history.json").read_text())["epochs"]
    names = ("jobs/train.py, first epoch", "jobs/train.py, later epochs")
    return {
        name: Speed(epoch["clips_per_s"], None, epoch["data_wait_share"])
        for name, epoch in zip(names, epochs, strict=True)
    }


def print_rows(rounds: dict[str, list[Speed]], facts: tuple[str, float]) -> None:
    title, share = facts
    floors = rounds[MEMORY]
    for contender, speeds in rounds.items():
        rate = statistics.median(speed.clips_per_s for speed in speeds)
        ratios = [speed.clips_per_s / floor.clips_per_s for speed, floor in zip(speeds, floors, strict=True)]
        cells = [f"{rate:.1f}", f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"]
        if all(speed.cpu_s is not None for speed in speeds):
            cpu = [(speed.cpu_s or 0.0, floor.cpu_s or 1.0) for speed, floor in zip(speeds, floors, strict=True)]
            cells.append(f"{1000 * statistics.median(one for one, _ in cpu):.0f}")
            cells.append(f"{statistics.median(one / floor for one, floor in cpu):.2f}")
        else:
            cells += ["", ""]
        waits = [speed.wait_share for speed in speeds if speed.wait_share is not None]
        cells.append(f"{100 * statistics.median(waits):.1f} %" if waits else "")
        cells.append(f"{100 * rate * share:.0f} %" if share else "")
        print(f"| {title} | {contender} | {' | '.join(cells)} |", flush=True)
        title = ""


if __name__ == "__main__":
    main(tyro.cli(Options))
