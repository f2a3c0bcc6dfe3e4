"""The whole path of GPUs on a machine without one: a Ray that claims two, where every promised GPU is a CPU."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import logical_gpus
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rank_group import history_of, tiny_config, train_alone
from small_checkpoint import CLIP

from vidpipe.checkpoints import load_checkpoint
from vidpipe.guard import Guard
from vidpipe.label_video import label_video
from vidpipe.promised_gpu import GPUS_ARE_CPUS

LIMIT_S = 300.0

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="here are GPUs")


def run_apart(name: str, folder: Path, **variables: str) -> str:
    """Runs `logical_gpus`; returns what it printed."""
    command = [sys.executable, logical_gpus.__file__, name, str(folder)]
    env = {**os.environ, **variables}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stderr


def seen(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_two_models_and_two_ranks_have_a_gpu_each_and_say_what_a_cpu_says(tmp_path: Path):
    printed = run_apart("on_cpus", tmp_path, **{GPUS_ARE_CPUS: "1"})
    assert "2 decoded at a time, 2 models" in printed
    run = json.loads((tmp_path / "labels/run.json").read_text())
    assert run["num_actors"] == 2
    assert (run["counts"]["ok"], run["counts"]["failed"]) == (20, 1)
    models = seen(tmp_path, "models")
    assert len({model["pid"] for model in models}) == len(models) == 2
    assert sorted(model["gpus"] for model in models) == [["0"], ["1"]]
    assert {model["asked"] for model in models} == {"cuda"}

    sent, received = ([block["rows"] for block in seen(tmp_path, name)] for name in ("sent", "received"))
    assert Counter(map(str, received)) == Counter(map(str, sent)), "blocks were joined or cut on their way"
    num_full = sum(block["num_clips"] == 4 for block in seen(tmp_path, "sent"))
    assert num_full >= math.ceil(60 / 4) - 3  # of 60 clips; a task has one block that is not full

    checkpoint = load_checkpoint(str(tmp_path / "model"))
    rows = pq.read_table(tmp_path / "labels/predictions").to_pylist()
    with Guard(CLIP, time_limit_s=60, memory_limit_bytes=1 << 30) as guard:
        for row in (row for row in rows if row["status"] == "ok"):
            answer = label_video(row["url"], checkpoint, guard)
            expected = [
                dict(zip(answer.labels, answer.scores, strict=True))[label] for label in checkpoint.facts.labels
            ]
            np.testing.assert_allclose(row["scores"], expected, atol=1e-5)

    ranks = seen(tmp_path, "ranks")
    assert {(rank["rank"], rank["backend"], rank["device"]) for rank in ranks} == {
        (0, "gloo", "cpu"),
        (1, "gloo", "cpu"),
    }
    assert {tuple(rank["gpus"]) for rank in ranks} == {("0",), ("1",)}
    assert json.loads((tmp_path / "trained/run.json").read_text())["worker_resources"] == {"CPU": 1, "GPU": 1}
    alone = train_alone(tiny_config(tmp_path / "clips", tmp_path / "alone"))
    found = history_of(tiny_config(tmp_path / "clips", tmp_path / "trained"))
    assert [epoch["train_loss"] for epoch in found["epochs"]] == pytest.approx(
        [epoch["train_loss"] for epoch in alone["epochs"]], abs=1e-5
    )


def test_a_promised_gpu_that_is_not_there_ends_both_stages_and_names_the_node(tmp_path: Path):
    run_apart("without_any", tmp_path)
    predicted, trained = seen(tmp_path, "errors")
    for message in (predicted["predict"], trained["train"]):
        assert f"Ray promised a GPU on node {socket.gethostname()}, and torch sees none there" in message
        assert "--device cpu does without GPUs" in message
    assert trained["train"].startswith("Ray promised")
    assert not (tmp_path / "labels/run.json").exists()
    assert not (tmp_path / "trained/run.json").exists()
