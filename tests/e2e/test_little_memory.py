"""An object store that is full, and a worker that takes more memory than the node has: every video is labelled once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, environment
from small_checkpoint import make_checkpoint

from vidpipe.predictions import read_predictions
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import generate_folder

NUM_VIDEOS = 20
LARGE = ClipSpec(num_frames=16, size="112", sampling="dense", num_clips=8)
STORE_MB = 80  # Ray's smallest
FREE_BYTES = 4 << 30  # what Ray and the hungry model may take before Ray thinks that the node is full
LIMIT_S = 150

# What jobs/predict.py does, on a Ray with so much memory and with a model of the tests.
SCRIPT = """
import sys
from functools import partial
import numpy as np
import ray
import colour_model, heavy_models
from ray._private.internal_api import memory_summary
from vidpipe.cli import run, setup_worker
from vidpipe.config import PredictConfig
from vidpipe.stages.predict import Work, predict

ray.cloudpickle.register_pickle_by_value(colour_model)
ray.cloudpickle.register_pickle_by_value(heavy_models)
ray.init(
    "local", num_cpus=3, include_dashboard=False, object_store_memory={store_mb} << 20,
    runtime_env={{"worker_process_setup_hook": setup_worker}}, logging_level="WARNING",
)
others = [ray.put(np.ones(8 << 20, np.uint8)) for _ in range({others_mb} // 8)]
config = PredictConfig(source={videos!r}, output={output!r}, checkpoint={checkpoint!r}, num_workers=2, batch_size=4)
predict(config, Work(model=heavy_models.{model}))
print(memory_summary(ray.get_runtime_context().gcs_address, stats_only=True))
"""


def predict_with(model: str, tmp_path: Path, *, clip: ClipSpec, store_mb: int, others_mb: int = 0, **env: str) -> str:
    """Label the videos in a process of its own; what it printed."""
    generate_folder(str(tmp_path / "videos"), num_videos=NUM_VIDEOS, seed=0, num_frames=48, height=64, width=96)
    paths = {"videos": tmp_path / "videos", "output": tmp_path / "out"}
    paths["checkpoint"] = Path(make_checkpoint(tmp_path / "model", clip=clip))
    settings = {name: str(path) for name, path in paths.items()}
    script = SCRIPT.format(model=model, store_mb=store_mb, others_mb=others_mb, **settings)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment({"RAY_ADDRESS": "local", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **env}),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-5000:]
    table = read_predictions(str(tmp_path / "out"))
    assert table["status"].to_pylist() == ["ok"] * NUM_VIDEOS
    assert len(set(table["video_id"].to_pylist())) == NUM_VIDEOS
    return printed


def test_with_an_object_store_that_is_full_all_videos_are_labelled(tmp_path: Path):
    printed = predict_with("SlowModel", tmp_path, clip=LARGE, store_mb=STORE_MB, others_mb=72)
    through_mb = NUM_VIDEOS * LARGE.num_clips * LARGE.num_bytes_raw >> 20
    spilled_mb = int(re.search(r"Spilled (\d+) MiB", printed)[1])
    print(
        f"{through_mb} MB of clips through a store of {STORE_MB} MB, of which others held 72; {spilled_mb} MB spilled"
    )
    assert through_mb > STORE_MB
    assert spilled_mb > 0  # the store was full
    assert spilled_mb < 72 + through_mb  # decoders wait for the model; what others hold moves to disk, and some clips


def test_a_model_that_is_killed_for_its_memory_is_started_again_and_no_video_is_blamed(tmp_path: Path):
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    share = (get_used_memory() + FREE_BYTES) / get_system_memory()
    if share > 0.85:
        pytest.skip("needs some GB of free memory")
    env = {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    printed = predict_with("HungryModel", tmp_path, clip=ClipSpec(num_frames=4, size="32"), store_mb=256, **env)
    assert (tmp_path / "marker").exists()
    assert "never came" not in printed
