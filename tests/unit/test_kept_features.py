"""Each frame goes through a frozen backbone once, whatever the number of epochs and of heads trained on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from vidpipe.config import TrainConfig
from vidpipe.ledger import Ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.model_spec import ModelSpec
from vidpipe.models.base import PerFrame
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import generate_folder
from vidpipe.training.clip_rows import labelled_clips
from vidpipe.training.job import TrainJob
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import read_history, run_training
from vidpipe.transform_spec import ViewSpec

SPLITS = ("train", "train", "val", "test")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One frame a clip, of 8 videos with 2 labels."""
    folder = tmp_path_factory.mktemp("clips")
    generate_folder(str(folder / "videos"), num_videos=26, seed=0, encodings=["mjpeg_avi"], num_frames=26)
    rows = [
        {"video_id": path.stem, "url": str(path), "version": "1", "size_bytes": path.stat().st_size}
        | {"label": label, "split": split, "group": None}
        for label in ("left", "right")
        for path, split in zip(sorted((folder / "videos" / label).iterdir()), SPLITS, strict=True)
    ]
    spec = ClipSpec(sampling="fps", rate_fps=5, size="32")
    limits = {"part_bytes": 1 << 20, "time_limit_s": 60, "memory_limit_bytes": 1 << 30}
    Ledger(str(folder / "out"), spec).commit(
        make_parts(rows, PartSettings(output=str(folder / "out"), spec=spec, **limits))
    )
    return str(folder / "out")


@pytest.fixture
def frames_through_backbones() -> Iterator[list[int]]:
    """Frames of each batch that a 2D backbone is given while the test runs."""
    seen: list[int] = []

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, PerFrame):
            seen.append(inputs[0].shape[0] * inputs[0].shape[1])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    yield seen
    hook.remove()


def train_head(clips: str, output: Path, **head: object) -> dict:
    model = ModelSpec(
        model="frame_vote", backbone="mobilenet_v3_small", weights="none", freeze_backbone=True, head="mlp", **head
    )
    config = TrainConfig(
        clips=clips, output=str(output), model=model, size="32", epochs=3, batch_size=4, views=ViewSpec(join="vote")
    )
    rows = labelled_clips(clips, "train", "val", "test")
    run_training(TrainJob(config, rows), Ranks(0, 1, torch.device("cpu")))
    return read_history(str(output))


def test_each_frame_goes_through_the_backbone_once_over_all_epochs_and_heads(
    clips: str, frames_through_backbones: list[int], tmp_path: Path
):
    history = train_head(clips, tmp_path, mlp_sizes=(16, 8), dropout=0.5)
    num_frames = 8 * 6  # 26 frames at 25 a second: 0, 0.2, … 1.0 s of each video
    assert sum(frames_through_backbones) == num_frames
    assert (len(history["epochs"]), history["metrics"]["test"]["num_videos"]) == (3, 2)
    kept = sorted((tmp_path / "features").iterdir())
    assert [path.name.split("-")[0] for path in kept] == ["test", "train", "val"]
    tables = [pq.read_table(path) for path in kept]
    assert sum(map(len, tables)) == num_frames
    assert tables[0].column_names == ["video_id", "clip_index", "features"]

    shutil.rmtree(tmp_path / "state")  # as --restart does
    train_head(clips, tmp_path, mlp_sizes=(32,), dropout=0.0)
    assert sum(frames_through_backbones) == num_frames
    assert sorted((tmp_path / "features").iterdir()) == kept


def test_clips_in_another_order_go_through_the_backbone_again(
    clips: str, frames_through_backbones: list[int], tmp_path: Path
):
    expected = train_head(clips, tmp_path)["metrics"]
    [kept] = (tmp_path / "features").glob("val-*")
    table = pq.read_table(kept)
    pq.write_table(table.take(list(range(len(table)))[::-1]), kept)
    frames_through_backbones.clear()
    shutil.rmtree(tmp_path / "state")
    assert train_head(clips, tmp_path)["metrics"] == expected
    assert sum(frames_through_backbones) == len(table)
