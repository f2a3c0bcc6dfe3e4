"""What the stage costs besides decoding: manifests of up to a million rows, and a decode that does nothing.

    python benchmarks/scale.py                             # 10,000, 100,000 and 1,000,000 videos
    python benchmarks/scale.py --stage predict --sizes 1000 10000 100000     # and a model that does nothing

Each size runs in a process of its own: first everything, then a rerun with nothing to do, then 50 new videos.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa
import tyro
from measure import run_watched

from vidpipe.clip_blocks import BLOCK_SCHEMA, CLOSING_INDEX, BlockSettings, answered_rows
from vidpipe.config import PredictConfig, PreprocessConfig
from vidpipe.ledger import status_schema
from vidpipe.make_parts import PartSettings
from vidpipe.manifest.schema import build_manifest, write_manifest

NUM_ADDED = 50
LIMIT_S = 3600.0
LABELS = [f"class_{number:03d}" for number in range(101)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Time and memory of a stage around a decode, and a model, that do nothing."""

    stage: Literal["preprocess", "predict"] = "preprocess"
    """Which stage."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Rows of the manifests."""
    steps: bool = False
    """Print the seconds of each step, too."""


def main(options: Options) -> None:
    print("| videos | all new, s | µs a video | driver peak MB | rerun, s | +50 videos, s |")
    print("|---|---|---|---|---|---|")
    for num_videos in options.sizes:
        figures = run_watched(__file__, "--one-size", options.stage, str(num_videos), limit_s=LIMIT_S)
        if figures is None:
            print(f"| {num_videos:,} | broke | | | | |", flush=True)
            continue
        print(
            f"| {num_videos:,} | {figures['all']:.1f} | {1e6 * figures['all'] / num_videos:.0f} "
            f"| {figures['peak_mb']:.0f} | {figures['rerun']:.1f} | {figures['added']:.1f} |",
            flush=True,
        )
        if options.steps:
            for run, steps in figures["steps"].items():
                print(f"  {run}: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items()), flush=True)


def noop_task(videos: pa.Table, settings: PartSettings) -> Iterator[pa.Table]:
    """Status rows that claim that every video was decoded, and holds no clip."""
    num_videos = len(videos)
    columns: dict[str, Any] = {
        "status": pa.array(["ok"] * num_videos),
        "stage": pa.array(["preprocess"] * num_videos),
        "num_clips": pa.array(np.ones(num_videos, np.int64)),
        "bytes_read": videos["size_bytes"],
        "decode_s": pa.array(np.full(num_videos, 0.02)),
        "duration_s": pa.array(np.full(num_videos, 10.0)),
    }
    columns |= {name: videos[name] for name in ("video_id", "url", "version", "label", "split", "group")}
    schema = status_schema(settings.spec)
    arrays = [columns.get(field.name, pa.nulls(num_videos, field.type)) for field in schema]
    yield pa.table([column.cast(field.type) for column, field in zip(arrays, schema, strict=True)], schema=schema)


def noop_blocks(videos: pa.Table, settings: BlockSettings) -> Iterator[pa.Table]:
    """A black clip of each video, and that it was decoded."""
    receipt = {"status": "ok", "num_clips": 1, "duration_s": 10.0, "decode_s": 0.02, "bytes_read": 1, "num_requests": 1}
    frames = bytes(settings.spec.num_bytes_raw)
    for first in range(0, len(videos), settings.clips_a_block):
        rows = []
        for video_id in videos["video_id"].slice(first, settings.clips_a_block).to_pylist():
            rows.append((video_id, 0, 0, 0.0, 10.0, frames, None))
            rows.append((video_id, 0, CLOSING_INDEX, 0.0, 0.0, None, json.dumps(receipt)))
        columns = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, BLOCK_SCHEMA, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=BLOCK_SCHEMA)


class NoopModel:
    """Logits of nothing, for as many labels as there are."""

    def __init__(self, **how: Any) -> None:
        self.num_labels = len(LABELS)

    def __call__(self, block: pa.Table) -> pa.Table:
        began_at, num_clips = time.time(), len(block["frames"].drop_null())
        logits = np.zeros((num_clips, 1, self.num_labels), np.float32)
        return answered_rows(block, logits, None, began_at=began_at, model_s=0.0)


def write_checkpoint(folder: str) -> None:
    from vidpipe.checkpoints import CheckpointFacts, save_checkpoint
    from vidpipe.model_spec import ModelSpec
    from vidpipe.models import build_model
    from vidpipe.spec import ClipSpec
    from vidpipe.transform_spec import ViewSpec

    spec = ModelSpec(model="frame_vote", backbone="mobilenet_v3_small", weights="none")
    facts = CheckpointFacts(
        model=spec, labels=tuple(LABELS), clip=ClipSpec(size="32", num_frames=4), views=ViewSpec(), size=(32, 32)
    )
    save_checkpoint(folder, build_model(spec, LABELS), facts)


def generated_manifest(num_videos: int) -> pa.Table:
    """Rows like those of a bucket: URLs of 80 characters, ETags, 101 labels in groups, sizes of all orders."""
    rng = np.random.default_rng(0)
    numbers = np.arange(num_videos)
    files = pa.table(
        {
            "url": [
                f"s3://company-videos/raw/2026/day-{n % 365:03d}/camera-{n % 997:04d}/recording-{n:09d}-1080p.mp4"
                for n in numbers.tolist()
            ],
            "version": [f"{number:032x}" for number in rng.integers(0, 2**62, num_videos).tolist()],
            "size_bytes": rng.lognormal(14, 1.5, num_videos).astype(np.int64),
        }
    )
    label = pa.array(LABELS).take(pa.array(numbers % len(LABELS)))
    group = pa.array([f"camera-{number:04d}" for number in (numbers % 997).tolist()])
    split = pa.array(["train", "val", "test"]).take(pa.array(numbers % 997 % 3))
    return build_manifest(files, label, group, split)


def write_inputs(folder: str, num_videos: int, stage: str) -> None:
    if stage == "predict":
        write_checkpoint(f"{folder}/model")
    manifest = generated_manifest(num_videos + NUM_ADDED)
    write_manifest(manifest.slice(0, num_videos), f"{folder}/manifest.parquet")
    write_manifest(manifest, f"{folder}/more.parquet")


def one_size(stage: str, num_videos: int) -> dict[str, Any]:
    """The seconds of the three runs, and the driver's peak memory."""
    from vidpipe.cli import connect_ray

    with tempfile.TemporaryDirectory(prefix="vidpipe-scale-") as folder:
        source, output = f"{folder}/manifest.parquet", f"{folder}/out"
        # In a process of its own: what generating takes is not the driver's memory.
        generating = multiprocessing.get_context("spawn").Process(target=write_inputs, args=(folder, num_videos, stage))
        generating.start()
        generating.join()
        connect_ray()
        steps: dict[str, dict[str, float]] = {}
        with PeakRss() as memory:
            seconds = {
                "all": timed_run(stage, source, output, steps.setdefault("all", {})),
                "rerun": timed_run(stage, source, output, steps.setdefault("rerun", {})),
                "added": timed_run(stage, f"{folder}/more.parquet", output, steps.setdefault("added", {})),
            }
    return {**seconds, "peak_mb": memory.peak_bytes / 1e6, "base_mb": memory.first_bytes / 1e6, "steps": steps}


def timed_run(stage: str, source: str, output: str, steps: dict[str, float]) -> float:
    if stage == "predict":
        return timed_predict(source, output)
    from vidpipe.stages.preprocess import preprocess

    start_s = time.monotonic()
    with steps_timed(steps):
        preprocess(PreprocessConfig(source=source, output=output, num_workers=2), task=noop_task)
    return time.monotonic() - start_s


def timed_predict(source: str, output: str) -> float:
    from vidpipe.stages.predict import Work, predict

    start_s = time.monotonic()
    config = PredictConfig(source=source, output=output, checkpoint=f"{output}/../model", batch_size=32, num_workers=2)
    with contextlib.redirect_stdout(sys.stderr):
        predict(config, Work(decode=noop_blocks, model=NoopModel))
    return time.monotonic() - start_s


STAGE_STEPS = ("load_manifest", "cut_tasks", "decode_all", "refresh_parts", "check_counts")
LEDGER_STEPS = ("work_left", "adopt", "commit", "compact", "sweep")


@contextmanager
def steps_timed(seconds: dict[str, float]) -> Iterator[None]:
    """Sum up the seconds spent in the stage's steps, a step within another one counted in both."""
    from vidpipe.ledger import Ledger
    from vidpipe.stages import preprocess as stage

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            start_s = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.monotonic() - start_s

        return step

    steps = [(stage, name) for name in STAGE_STEPS] + [(Ledger, name) for name in LEDGER_STEPS]
    with ExitStack() as patches:
        for owner, name in steps:
            patches.enter_context(patch.object(owner, name, timed(name, getattr(owner, name))))
        yield


class PeakRss:
    """The most memory that this process held, sampled in a thread."""

    def __enter__(self) -> PeakRss:
        self.first_bytes = self.peak_bytes = psutil.Process().memory_info().rss
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, psutil.Process().memory_info().rss)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-size"]:
        print(json.dumps(one_size(sys.argv[2], int(sys.argv[3]))))
    else:
        main(tyro.cli(Options))
