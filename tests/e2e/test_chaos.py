"""Preprocess, then predict, on three nodes and a storage that fails, with a fault every few seconds: the same tables.

Longer, with torch: VIDPIPE_CHAOS_S=900 VIDPIPE_CHAOS_VIDEOS=3000 VIDPIPE_CHAOS_TORCH=1; another order of faults:
VIDPIPE_CHAOS_SEED.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import s3fs
from fault_proxy import FAULTS, FaultProxy, fault_proxy
from labelled_clips import write_clips
from rank_group import TINY, history_of, tiny_config, train_group
from ray_nodes import RayNodes
from running import ROOT, S3Server, job_command
from small_checkpoint import make_checkpoint
from storm import PROCESS_FAULTS, Storm, run_until_done

from vidpipe.synthetic import generate_broken, generate_folder

STORM_S = float(os.environ.get("VIDPIPE_CHAOS_S", "25"))
NUM_VIDEOS = int(os.environ.get("VIDPIPE_CHAOS_VIDEOS", "100"))
WITH_TORCH = bool(os.environ.get("VIDPIPE_CHAOS_TORCH"))
NUM_EPOCHS = int(os.environ.get("VIDPIPE_CHAOS_EPOCHS", "200"))
SEED = int(os.environ.get("VIDPIPE_CHAOS_SEED", "0"))
EVERY_S = (1.0, 5.0)
TRAINING_EVERY_S = (10.0, 30.0)  # workers of Ray Train take 20 s to start on two cores
LASTING_S = (1.0, 30.0) if STORM_S > 300 else (1.0, 4.0)
# Another head takes half a minute to start on two cores: in the long run only.
KINDS = (*FAULTS, "away", *(kind for kind in PROCESS_FAULTS if STORM_S > 60 or kind not in ("head", "preemption")))
LIMIT_S = 600 + 3 * STORM_S
STATUS = ["video_id", "url", "version", "status", "error_code", "num_clips"]
PREDICTIONS = ["video_id", "url", "version", "status", "error_code", "label", "num_clips", "checkpoint_id"]

# What jobs/predict.py does, with a model that needs no torch.
LIGHT_PREDICT = """
import sys
from functools import partial
import ray
import colour_model
from vidpipe.cli import parse, run
from vidpipe.config import PredictConfig
from vidpipe.stages.predict import Work, predict

ray.cloudpickle.register_pickle_by_value(colour_model)
run(partial(predict, work=Work(model=colour_model.ColourModel)), parse(PredictConfig))
"""


@dataclass
class Archive:
    """Videos in a bucket, and what two jobs make of them."""

    bucket: str
    checkpoint: str
    folder: Path

    def commands(self, name: str) -> list[list[str]]:
        flags = [f"{self.bucket}/videos", "--max-failure-rate", "1", "--output"]
        clips = job_command("preprocess", *flags, f"{self.bucket}/{name}/clips", "--size", "32", "--part-mb", "1")
        python = job_command("predict") if WITH_TORCH else [sys.executable, "-c", LIGHT_PREDICT]
        return [clips, [*python, *flags, f"{self.bucket}/{name}/labels", "--checkpoint", self.checkpoint]]

    def tables(self, name: str) -> dict[str, list[tuple[Any, ...]]]:
        """What any reader finds: the rows of both tables, and the clips, by a hash of their frames."""
        fs = s3fs.S3FileSystem()
        fs.invalidate_cache()

        def rows(folder: str, columns: list[str]) -> list[dict[str, Any]]:
            paths = [path for path in fs.ls(f"{self.bucket}/{name}/{folder}") if path.endswith(".parquet")]
            return [row for path in paths for row in pq.read_table(fs.open(path), columns=columns).to_pylist()]

        clips = rows("clips/clips", ["video_id", "clip_index", "frames"])
        hashed = [(c["video_id"], c["clip_index"], hashlib.sha256(c["frames"]).hexdigest()) for c in clips]
        tables = {"status": rows("clips/status", STATUS), "predictions": rows("labels/predictions", PREDICTIONS)}
        return {
            "clips": sorted(hashed),
            **{key: sorted(tuple(row.values()) for row in table) for key, table in tables.items()},
        }

    def counts(self, name: str) -> dict[str, dict[str, int]]:
        fs = s3fs.S3FileSystem()
        return {
            job: json.loads(fs.cat(f"{self.bucket}/{name}/{job}/run.json"))["counts"] for job in ("clips", "labels")
        }


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def nodes(s3: S3Server, proxy: FaultProxy, tmp_path: Path) -> Iterator[RayNodes]:
    """Whose processes know the proxy only, and note each decode in tmp_path/decode.log."""
    (tmp_path / "decode.log").touch()
    hooks = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'faults'}:{tmp_path}"
    variables = {**s3.env, "AWS_ENDPOINT_URL": proxy.endpoint, "PYTHONPATH": hooks}
    with tempfile.TemporaryDirectory(prefix="vp-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        nodes = RayNodes(Path(folder), 3 if STORM_S > 60 else 2, variables)
        try:
            nodes.start()
            yield nodes
        finally:
            nodes.stop()


def test_whatever_is_killed_or_fails_the_tables_end_as_undisturbed_ones(
    s3: S3Server, nodes: RayNodes, proxy: FaultProxy, tmp_path: Path
):
    num_bad = max(NUM_VIDEOS * 3 // 100, 2)
    bucket = s3.make_bucket()
    generate_folder(f"{bucket}/videos", num_videos=NUM_VIDEOS - num_bad, seed=SEED, num_frames=24, height=64, width=96)
    generate_broken(f"{bucket}/videos", num_videos=num_bad, seed=SEED)
    archive = Archive(bucket, make_checkpoint(tmp_path / "model"), tmp_path)
    storm = Storm(nodes, proxy, SEED, EVERY_S, LASTING_S, KINDS)
    storm.is_steady.set()
    for command in archive.commands("calm"):
        assert run_until_done(storm, command, lambda: nodes.env, str(tmp_path / "calm.log"), LIMIT_S) == 1
    expected = archive.tables("calm")
    assert len(expected["status"]) == len(expected["predictions"]) == NUM_VIDEOS
    num_decodes = [decodes(tmp_path)]

    num_runs, num_rounds, start_s = 0, 0, time.monotonic()
    with storm:
        while num_rounds == 0 or time.monotonic() - start_s < STORM_S:
            for command in archive.commands(f"stormy-{num_rounds}"):
                num_runs += run_until_done(storm, command, lambda: nodes.env, str(tmp_path / "stormy.log"), LIMIT_S)
            num_rounds += 1
    for number in range(num_rounds):
        assert archive.tables(f"stormy-{number}") == expected
    num_decodes.append(decodes(tmp_path) - num_decodes[0])
    share_twice = num_decodes[1] / num_decodes[0] / num_rounds - 1
    seconds = time.monotonic() - start_s
    print(f"\n{num_rounds} rounds of {NUM_VIDEOS} videos ({num_bad} bad) in {seconds:.0f} s: {num_runs} runs of "
          f"{2 * num_rounds} jobs; {sum(storm.num_faults.values())} faults {dict(sorted(storm.num_faults.items()))}; "
          f"{proxy.num_faults.total()} of {proxy.num_requests} requests struck; {100 * share_twice:.1f} % of the "
          f"videos decoded again; last counts {archive.counts(f'stormy-{num_rounds - 1}')}")  # fmt: skip
    assert storm.num_faults.total() >= 3


@pytest.mark.skipif("VIDPIPE_CHAOS_S" not in os.environ, reason="takes minutes: VIDPIPE_CHAOS_S=300")
def test_training_ends_with_the_metrics_of_an_undisturbed_run(
    s3: S3Server, nodes: RayNodes, proxy: FaultProxy, tmp_path: Path
):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    clips = write_clips(tmp_path / "clips", {"train": 53, "val": 13, "test": 11}, num_clips=2)
    fs.put(f"{clips}/", f"{bucket}/clips", recursive=True)
    calm = tiny_config(clips, tmp_path / "calm", epochs=NUM_EPOCHS, learning_rate=3e-4, num_workers="2")
    assert train_group(calm, 2) == [0, 0]
    flags = ["--model", "transformer", "--backbone", "videomae", "--weights", "none", "--output", f"{bucket}/trained"]
    flags += ["--model-config", *TINY.model_config, "--epochs", str(NUM_EPOCHS), "--batch-size", "10"]
    flags += ["--learning-rate", "3e-4", "--num-workers", "2", "--cpus-per-worker", "1"]
    command = job_command("train", f"{bucket}/clips", *flags, "--checkpoint-every-s", "1", "--max-failures", "100")
    kinds = tuple(kind for kind in KINDS if kind != "decoder")
    storm = Storm(nodes, proxy, SEED, TRAINING_EVERY_S, LASTING_S, kinds)
    start_s = time.monotonic()
    with storm:
        num_runs = run_until_done(storm, command, lambda: nodes.env, str(tmp_path / "train.log"), LIMIT_S)
    (tmp_path / "stormy").mkdir()
    fs.get(f"{bucket}/trained/history.json", str(tmp_path / "stormy" / "history.json"))
    assert history_of(dataclasses.replace(calm, output=str(tmp_path / "stormy"))) == history_of(calm)
    print(f"\ntrained in {time.monotonic() - start_s:.0f} s, {num_runs} runs, under {storm.num_faults.total()} faults "
          f"{dict(sorted(storm.num_faults.items()))}")  # fmt: skip


def decodes(folder: Path) -> int:
    return len((folder / "decode.log").read_text().splitlines())
