"""Videos to labels, against the two stages of it alone and against what people write instead: one table.

    python benchmarks/predict.py                                   # generated videos; on a GPU when there is one
    python benchmarks/predict.py --videos FOLDER --checkpoint OUT  # your own
    python benchmarks/predict.py --backbone r3d_18 --size 112      # another model, with weights of chance

The rounds are interleaved, each contender of each round in a process of its own; figures are medians. On a machine
without a GPU decoding and model share the cores: no pipeline can then be faster than both their CPU times together,
which is the row `both, on shared cores`. With a GPU the slower of the two is the limit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import tyro
from content import default_content
from measure import run_watched
from predict_contenders import CONTENDERS, DECODE, MODEL, PREPARED

from vidpipe.checkpoints import CheckpointFacts, save_checkpoint
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

SCRIPT = str(Path(__file__).with_name("predict_contenders.py"))
LABELS = tuple(f"label {number}" for number in range(400))
# On a CPU: a VideoMAE that takes about as long as decoding does.
SMALL = ("hidden_size=192", "num_hidden_layers=4", "num_attention_heads=3", "intermediate_size=768", "image_size=112")
START_LIMIT_S, VIDEO_LIMIT_S = 180, 5.0  # past these a contender hangs


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare predict with its stages and with others over the same files."""

    videos: str | None = None
    """Folder with videos (default: generated ones in the style of Kinetics)."""
    generate: int = 96
    """Of the default content, how many."""
    checkpoint: str | None = None
    """A checkpoint's folder (default: one with weights of chance)."""
    backbone: str = "videomae"
    """Without a checkpoint: videomae, or one of conv3d such as r3d_18."""
    size: int | None = None
    """Without a checkpoint: pixels a side (default: 224 on a GPU, 112 on a CPU)."""
    rounds: int = 3
    """Times that each contender runs; figures are medians."""
    only: tuple[str, ...] = ()
    """Run only contenders whose name begins like one of these."""


def main(options: Options) -> None:
    folder = Path(options.videos or default_content(["kinetics"], options.generate, 1))
    num_videos = sum(path.is_file() for path in folder.rglob("*"))
    names = [name for name in CONTENDERS if not options.only or name.startswith(options.only)]
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        checkpoint = options.checkpoint or save_random_checkpoint(options, f"{scratch}/checkpoint")
        for number in range(options.rounds):
            for name in names:
                print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
                output = f"{scratch}/{number}-{names.index(name)}"
                limit_s = START_LIMIT_S + VIDEO_LIMIT_S * num_videos
                rounds[name].append(
                    run_watched(SCRIPT, name, str(folder), checkpoint, output, limit_s=limit_s) or {"num_delivered": 0}
                )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores"
    print(f"{num_videos} videos in {folder}; {options.checkpoint or options.backbone}; {device}; "
          f"medians of {options.rounds} rounds\n")  # fmt: skip
    print_table(num_videos, rounds)


def save_random_checkpoint(options: Options, url: str) -> str:
    """A checkpoint whose weights were never trained: it takes as long as any."""
    on_gpu = torch.cuda.is_available()
    size = options.size or (224 if on_gpu else 112)
    is_transformer = options.backbone == "videomae"
    spec = ModelSpec(
        model="transformer" if is_transformer else "conv3d",
        backbone=options.backbone,
        weights="none",
        model_config=SMALL if is_transformer and not on_gpu else (),
    )
    facts = CheckpointFacts(
        model=spec, labels=LABELS, clip=ClipSpec(size=str(size)), views=ViewSpec(), size=(size, size), temperature=1.0,
        metrics={}, training={}, versions={}, created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )  # fmt: skip
    save_checkpoint(url, build_model(spec, LABELS), facts)
    return url


def print_table(num_videos: int, rounds: dict[str, list[dict[str, Any]]]) -> None:
    print("| | videos/s | x slower stage | CPU s a video | peak MB | start-up s | model busy | videos delivered |")
    print("|---|---|---|---|---|---|---|---|")
    limits = [slower_stage(rounds, number) for number in range(len(next(iter(rounds.values()))))]
    for name, runs in rounds.items():
        done = [(run, limit) for run, limit in zip(runs, limits, strict=True) if run["num_delivered"]]
        if not done:
            print(f"| {name} | broke | | | | | | 0 of {num_videos} |")
            continue

        def median(key: str, done: list[Any] = done) -> float:
            return statistics.median(run[key] for run, _ in done)

        rates = [rate_of(run) for run, _ in done]
        ratios = [rate / limit for rate, (_, limit) in zip(rates, done, strict=True) if limit]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else ""
        busy = f"{100 * median('model_busy_share'):.0f} %" if "model_busy_share" in done[0][0] else ""
        print(
            f"| {name} | {statistics.median(rates):.2f} | {ratio} | {median('cpu_s') / num_videos:.3f} "
            f"| {median('peak_bytes') / 1e6:.0f} | {median('start_s'):.1f} | {busy} "
            f"| {min(run['num_delivered'] for run in runs)} of {num_videos} |"
        )
    if not torch.cuda.is_available() and DECODE in rounds and MODEL in rounds:
        both = [both_stages(rounds, number) for number in range(len(limits))]
        ratios = [rate / limit for rate, limit in zip(both, limits, strict=True) if rate and limit]
        if ratios:
            print(
                f"| both, on shared cores | {statistics.median(both):.2f} | {statistics.median(ratios):.2f} | | | | | |"
            )
    if PREPARED in rounds and torch.cuda.is_available() and DECODE in rounds:
        print(f"\nCPU cores of decoding that feed this GPU: {cores_a_gpu(rounds):.1f}")


def rate_of(run: dict[str, Any]) -> float:
    return run.get("num_timed", run["num_delivered"]) / run["seconds"] if run["num_delivered"] else 0.0


def slower_stage(rounds: dict[str, list[dict[str, Any]]], number: int) -> float:
    """Videos/s of decoding alone or of the model alone, whichever is less; 0 when one of them did not run."""
    return min((rate_of(rounds[name][number]) if name in rounds else 0.0) for name in (DECODE, MODEL))


def both_stages(rounds: dict[str, list[dict[str, Any]]], number: int) -> float:
    """Videos/s of a pipeline that costs nothing itself: each stage takes all cores for as long as it takes alone."""
    rates = [rate_of(rounds[name][number]) for name in (DECODE, MODEL)]
    return 1 / sum(1 / rate for rate in rates) if all(rates) else 0.0


def cores_a_gpu(rounds: dict[str, list[dict[str, Any]]]) -> float:
    """CPU time of decoding a video, times the videos that the model takes in that time."""
    cpu_s = statistics.median(run["cpu_s"] / run["num_delivered"] for run in rounds[DECODE] if run["num_delivered"])
    return cpu_s * statistics.median(rate_of(run) for run in rounds[MODEL])


if __name__ == "__main__":
    main(tyro.cli(Options))
