"""A long video that changes class every few minutes: its segments are the truth within one window, in bounded memory.

Longer, with the memory of every kind of worker: VIDPIPE_LONG_MINUTES=120.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch

from vidpipe.checkpoints import CheckpointFacts, save_checkpoint
from vidpipe.config import PredictConfig
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.spec import ClipSpec
from vidpipe.stages.predict import predict
from vidpipe.synthetic import ENCODINGS, write_video
from vidpipe.transform_spec import ViewSpec

MINUTES = float(os.environ.get("VIDPIPE_LONG_MINUTES", "3"))
STRETCH_S = (120, 300) if MINUTES > 30 else (20, 50)
FPS, SIZE = 5, (48, 64)
WINDOW_S, HOP_S = 10.0, 5.0
COLOURS = {"blue": (60, 80, 180), "green": (70, 160, 80), "red": (180, 70, 60), "yellow": (180, 170, 60)}
KINDS = {"decoding tasks": "ray::MapBatches", "their decoders": "vidpipe.child", "model": "ray::MapWorker"}


def noisy(label: str, rng: np.random.Generator) -> np.ndarray:
    """A frame in which the colour is there on the whole and in no pixel."""
    noise = rng.normal(0, 40, (*SIZE, 3))
    return (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)


def stretches(rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """Label, start and end of each stretch of the video; a label is never followed by itself."""
    found: list[tuple[str, float, float]] = []
    now_s, label = 0.0, ""
    while now_s < MINUTES * 60:
        label = str(rng.choice([name for name in COLOURS if name != label]))
        end_s = now_s + float(rng.integers(*STRETCH_S))
        found.append((label, now_s, min(end_s, MINUTES * 60)))
        now_s = end_s
    return found


def frames(truth: list[tuple[str, float, float]], rng: np.random.Generator) -> Iterator[np.ndarray]:
    for label, start_s, end_s in truth:
        kept = [noisy(label, rng) for _ in range(8)]
        for number in range(round((end_s - start_s) * FPS)):
            yield kept[number % len(kept)]


def colour_checkpoint(folder: Path) -> str:
    """A network with random weights and a last layer that was fitted to tell the colours apart."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    spec = ModelSpec(model="frame_vote", backbone="resnet18", weights="none")
    labels = tuple(COLOURS)
    model = build_model(spec, labels).eval()
    shown = [(index, noisy(label, rng)) for index, label in enumerate(labels) for _ in range(20)]
    pictures = torch.from_numpy(np.stack([picture[:, 8:56] for _, picture in shown])).float() / 255
    pictures = (pictures - torch.tensor(model.input.mean)) / torch.tensor(model.input.std)
    wanted = torch.nn.functional.one_hot(torch.tensor([index for index, _ in shown]), len(labels)).float() * 8
    with torch.no_grad():
        features = model.features(pictures.permute(0, 3, 1, 2)[:, None])[:, 0]
        layer = model.head.classifier[1]
        fitted = torch.linalg.lstsq(torch.cat([features, torch.ones(len(features), 1)], 1), wanted).solution
        layer.weight.copy_(fitted[:-1].T)
        layer.bias.copy_(fitted[-1])
    clip = ClipSpec(num_frames=4, size="48")
    save_checkpoint(
        str(folder), model, CheckpointFacts(model=spec, labels=labels, clip=clip, views=ViewSpec(), size=(48, 48))
    )
    return str(folder)


class PeakMemory:
    """The most that each kind of worker held for itself, in MB, sampled in a thread."""

    def __enter__(self) -> PeakMemory:
        self.peaks_mb: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            for process in psutil.process_iter(["cmdline"]):
                command = " ".join(process.info["cmdline"] or [])
                for kind, mark in KINDS.items():
                    if mark in command:
                        try:
                            self.peaks_mb[kind] = max(self.peaks_mb[kind], process.memory_full_info().uss >> 20)
                        except psutil.Error:  # it is ending
                            continue


@pytest.mark.usefixtures("ray_local")
def test_segments_of_a_long_video_are_the_truth_within_one_window(tmp_path: Path):
    rng = np.random.default_rng(0)
    truth = stretches(rng)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "long.mp4", frames(truth, rng), encoding=ENCODINGS["h264_mp4"], fps=FPS)
    out = tmp_path / "out"
    config = PredictConfig(
        source=str(tmp_path / "videos"), output=str(out), checkpoint=colour_checkpoint(tmp_path / "model"),
        segments=True, window_s=WINDOW_S, hop_s=HOP_S,
    )  # fmt: skip
    with PeakMemory() as memory:
        predict(config)

    found = pq.read_table(out / "segments").sort_by("start_s").to_pylist()
    assert [row["label"] for row in found] == [label for label, _, _ in truth]
    errors_s = [abs(row["end_s"] - end_s) for row, (_, _, end_s) in zip(found[:-1], truth[:-1], strict=True)]
    assert max(errors_s) <= WINDOW_S
    assert found[-1]["end_s"] == pytest.approx(MINUTES * 60, abs=1)
    (row,) = pq.read_table(out / "predictions").to_pylist()
    seconds: Counter[str] = Counter()
    for label, start_s, end_s in truth:
        seconds[label] += round(end_s - start_s)
    assert row["label"] == seconds.most_common(1)[0][0]
    assert row["num_clips"] == (MINUTES * 60 - WINDOW_S) / HOP_S + 1
    print(f"{MINUTES:g} minutes, {len(truth)} stretches: changes found {np.mean(errors_s):.1f} s off "
          f"average, {max(errors_s):.1f} s at most; most memory, MB: {dict(memory.peaks_mb)}")  # fmt: skip
