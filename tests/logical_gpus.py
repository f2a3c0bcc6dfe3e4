"""Predict and train on a Ray that claims two GPUs where there are none: `python tests/logical_gpus.py NAME FOLDER`.

In a process of its own, with a Ray of its own: that of the tests has no GPUs. What was seen on the workers lies as JSON
lines in the files of FOLDER.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from labelled_clips import write_clips
from rank_group import tiny_config
from small_checkpoint import make_checkpoint
from torch import nn

from vidpipe.cli import setup_logging, setup_worker
from vidpipe.clip_blocks import CLOSING_INDEX, BlockSettings, decoded_blocks
from vidpipe.clip_model import BlockModel
from vidpipe.config import PredictConfig
from vidpipe.errors import MissingGpuError
from vidpipe.spec import ClipSpec
from vidpipe.stages.predict import Work, predict
from vidpipe.stages.train import train
from vidpipe.synthetic import generate_folder

FOLDER = "VIDPIPE_TEST_FOLDER"


def note(name: str, **facts: Any) -> None:
    """Append a line to what was seen; short appends do not mix."""
    with Path(os.environ[FOLDER], f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **facts}) + "\n")


def block_facts(block: pa.Table) -> dict[str, Any]:
    """The clips of a block, in order."""
    rows = block.select(["video_id", "clip_index"]).to_pylist()
    num_clips = sum(row["clip_index"] != CLOSING_INDEX for row in rows)
    return {"rows": [[row["video_id"], row["clip_index"]] for row in rows], "num_clips": num_clips}


def watched_blocks(videos: pa.Table, settings: BlockSettings) -> Iterator[pa.Table]:
    for block in decoded_blocks(videos, settings):
        note("sent", **block_facts(block))
        yield block


class WatchedModel(BlockModel):
    def __init__(self, *args: Any, clip: ClipSpec, device: str, **how: Any) -> None:
        super().__init__(*args, clip=clip, device=device, **how)
        note("models", asked=device, gpus=ray.get_runtime_context().get_accelerator_ids()["GPU"])

    def __call__(self, block: pa.Table) -> pa.Table:
        note("received", **block_facts(block))
        return super().__call__(block)


@dataclass(frozen=True)
class NoteRank:
    """An OnStep."""

    def __call__(self, number: int, loss: torch.Tensor, model: nn.Module) -> None:
        gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        backend = torch.distributed.get_backend()
        device = str(next(model.parameters()).device)
        note("ranks", rank=torch.distributed.get_rank(), gpus=gpus, backend=backend, device=device)


def run_on_cpus(folder: Path) -> None:
    """Both stages; every promised GPU is a CPU."""
    source = str(folder / "videos")
    generate_folder(source, num_videos=20, seed=0, num_frames=24, height=64, width=96)
    Path(source, "bad.mp4").write_text("not a video")
    checkpoint = make_checkpoint(folder / "model")
    config = PredictConfig(
        source=source, output=f"{folder}/labels", checkpoint=checkpoint, batch_size=4, all_scores=True
    )
    predict(config, Work(watched_blocks, WatchedModel))
    train(tiny_config(write_clips(folder / "clips", SPLITS), folder / "trained"), NoteRank())


def run_without_any(folder: Path) -> None:
    """Both stages, as on a node whose driver is broken: the errors."""
    source = str(folder / "videos")
    generate_folder(source, num_videos=2, seed=0, num_frames=24, height=64, width=96)
    checkpoint = make_checkpoint(folder / "model")
    clips = write_clips(folder / "clips", SPLITS)
    try:
        predict(PredictConfig(source=source, output=f"{folder}/labels", checkpoint=checkpoint))
    except ray.exceptions.ActorDiedError as error:
        note("errors", predict=str(error))
    try:
        train(tiny_config(clips, folder / "trained", max_failures=1000))
    except MissingGpuError as error:
        note("errors", train=str(error))


SPLITS = {"train": 53, "val": 13}
RUNS: dict[str, Callable[[Path], None]] = {"on_cpus": run_on_cpus, "without_any": run_without_any}


def main(name: str, folder: str) -> None:
    setup_logging()
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), FOLDER: folder}
    os.environ.pop("RAY_ADDRESS", None)
    context = ray.init(
        "local",
        num_cpus=3,
        num_gpus=2,
        include_dashboard=False,
        logging_level="WARNING",
        object_store_memory=256 << 20,
        _node_ip_address="127.0.0.1",
        runtime_env={"worker_process_setup_hook": setup_worker},
    )
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    RUNS[name](Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
