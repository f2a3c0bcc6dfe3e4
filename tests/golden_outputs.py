"""Copies of what earlier versions left behind (tests/golden/), and the commands that made them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from vidpipe.cli import parse

GOLDEN = Path(__file__).parent / "golden" / "4d62fbf"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
MADE_AT = "/tmp/g"  # where make.py ran: paths below it stand in settings.json and in the manifest
NUM_VIDEOS = 15

CLIP = ("--size", "24x32", "--num-frames", "4", "--on-damage", "keep")
WINDOWS = ("--sampling", "windows", "--window-s", "0.4", "--hop-s", "0.3")
PREPROCESSED = {"clips": CLIP, "windows": (*CLIP, *WINDOWS)}
SEGMENTS = ("--segments", "--features", "--all-scores")
PREDICTED = {
    "predictions": ("--features", "--all-scores"),
    "segments": SEGMENTS,
    "short_segments": (*SEGMENTS, "--window-s", "0.4", "--hop-s", "0.3"),
}
HALF_TRAINED = (
    *("--model", "transformer", "--backbone", "videomae", "--weights", "none", "--model-config", "hidden_size=16"),
    *("num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=32", "image_size=16", "num_frames=4"),
    *("tubelet_size=2", "patch_size=8", "--batch-size", "4", "--learning-rate", "0.01", "--optimizer", "sgd"),
    *("--ema-decay", "0.9", "--epochs", "3", "--crop", "random", "--flip", "0.5", "--num-workers", "1"),
)


def copy_golden(target: Path) -> Path:
    """Copy the outputs and their videos into a folder; paths in them lead there."""
    shutil.copytree(GOLDEN, target)
    settings = target / "half" / "settings.json"
    settings.write_text(settings.read_text().replace(MADE_AT, str(target)))
    manifest = pq.read_table(target / "videos" / "manifest.parquet")
    urls = pc.replace_substring(manifest["url"], MADE_AT, str(target))
    write_manifest(target, manifest.set_column(manifest.schema.get_field_index("url"), manifest.field("url"), urls))
    return target


def write_manifest(golden: Path, manifest: pa.Table) -> None:
    pq.write_table(manifest, golden / "videos" / "manifest.parquet")


def add_video(golden: Path) -> None:
    """List one video more: what came in last night."""
    manifest = pq.read_table(golden / "videos" / "manifest.parquet")
    new = manifest.slice(0, 1).to_pylist()[0] | {"video_id": "0" * 16, "version": "v1"}
    shutil.copy(new["url"], new["url"].replace("00.mp4", "new.mp4"))
    new["url"] = new["url"].replace("00.mp4", "new.mp4")
    write_manifest(golden, pa.concat_tables([manifest, pa.Table.from_pylist([new], manifest.schema)]))


def remove_videos(golden: Path) -> None:
    """Remove the videos themselves: whoever decodes one now fails."""
    for path in (golden / "videos").glob("*.mp4"):
        path.unlink()


def drop_column(folder: Path, column: str) -> None:
    """Rewrite the tables of a folder without a column, as by a version that did not have it yet."""
    for path in folder.glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns([column]), path)


def command(config_class: type, *arguments: object) -> Any:
    """The settings that a command line gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["job", *map(str, arguments)])
        return parse(config_class)


def counts_of(output: Path) -> dict[str, int]:
    """The counts of the run that wrote the output last."""
    return json.loads((output / "run.json").read_text())["counts"]
