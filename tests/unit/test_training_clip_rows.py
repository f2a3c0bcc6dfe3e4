"""What training knows of the clips before it reads a frame, and every error that it finds before any work."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from labelled_clips import LABELS, write_clips
from rank_group import TINY, tiny_config, train_alone

from vidpipe.clips import read_clips
from vidpipe.model_spec import ModelSpec
from vidpipe.spec import ClipSpec
from vidpipe.stages.train import train
from vidpipe.training.clip_rows import LabelledClips, labelled_clips
from vidpipe.transform_spec import AugmentSpec


def read(output: Path) -> LabelledClips:
    return labelled_clips(str(output), "train", "val", "test")


def test_rows_lie_where_they_say_and_belong_to_their_labels(tmp_path: Path):
    output = write_clips(tmp_path / "clips", {"train": 11, "val": 7}, num_clips=2, failed={"val": 2, "train": 1})
    clips = read(output)
    assert clips.labels == LABELS
    stored = {}
    for part in read_clips(str(output)):
        for row in part.table.drop_columns("frames").to_pylist():
            stored[row["video_id"], row["clip_index"]] = row
    for split, rows in clips.splits.items():
        names = list(zip(rows.video_ids.tolist(), rows.clip_index.tolist(), strict=True))
        assert {*names} == {name for name, row in stored.items() if row["split"] == split}
        assert [LABELS[truth] for truth in rows.truth] == [stored[name]["label"] for name in names]
    assert {split: rows.num_videos for split, rows in clips.splits.items()} == {"train": 11, "val": 7}
    assert {split: rows.failed.tolist() for split, rows in clips.splits.items()} == {"train": [0], "val": [0, 1]}


def test_videos_of_a_group_are_known_as_such_the_failed_ones_too(tmp_path: Path):
    kind: dict[str, Any] = {"splits": {"train": 5, "val": 7}, "num_clips": 2, "failed": {"val": 1}}
    groups = read(write_clips(tmp_path / "grouped", **kind, videos_a_group=3)).splits["val"].groups
    assert groups is not None
    assert [groups.tolist().index(group) for group in groups] == [0, 0, 0, 3, 3, 3, 6, 0]
    assert read(write_clips(tmp_path / "alone", **kind)).splits["val"].groups is None


def test_the_interval_that_training_tells_is_that_of_its_groups(tmp_path: Path):
    """12 videos in 2 groups tell no more than 2 videos."""
    widths = []
    for name, videos_a_group in (("alone", None), ("grouped", 6)):
        clips = write_clips(tmp_path / name, {"train": 12, "val": 12}, videos_a_group=videos_a_group)
        metrics = train_alone(tiny_config(clips, tmp_path / f"{name} out", epochs=1))["metrics"]["val"]
        low, high = metrics["top1_ci"]
        widths.append(high - low)
    assert widths[0] < 0.6 < 0.8 < widths[1]


@pytest.mark.parametrize(("window_end", "weight", "span_s"), [("shifted", 0.5, 1.0), ("repeat", 1.0, 4.0)])
def test_windows_count_by_their_seconds_and_their_span_is_known(
    tmp_path: Path, window_end: Literal["shifted", "repeat"], weight: float, span_s: float
):
    spec = ClipSpec(sampling="windows", num_frames=4, window_s=4.0, size="32", window_end=window_end)
    # Two clips per video, both of its first second.
    clips = read(write_clips(tmp_path / "clips", {"train": 3, "val": 3}, spec=spec, num_clips=2))
    assert clips.clip_span_s == span_s
    for rows in clips.splits.values():
        assert rows.weights.tolist() == [weight] * 6


def test_videos_of_other_splits_and_of_none_are_left_alone(tmp_path: Path):
    labels = (*LABELS, "only in the split that nobody named")
    output = write_clips(tmp_path / "clips", {"train": 3, "val": 3, "extra": 4, None: 4}, labels=labels)
    clips = read(output)
    assert clips.splits.keys() == {"train", "val"}
    assert clips.labels == LABELS


def test_the_key_changes_with_every_clip_label_and_split(tmp_path: Path):
    kinds: list[dict[str, Any]] = [
        {"splits": {"train": 6, "val": 3}},
        {"splits": {"train": 7, "val": 3}},
        {"splits": {"train": 6, "val": 3}, "labels": (*LABELS[1:], LABELS[0])},
        {"splits": {"train": 6, "val": 3, "test": 3}},
        {"splits": {"train": 6, "val": 3}, "failed": {"val": 1}},
        {"splits": {"train": 6, "val": 3}, "spec": ClipSpec(num_frames=5, size="32")},
    ]
    keys = {read(write_clips(tmp_path / str(number), **kind)).key for number, kind in enumerate(kinds)}
    assert len(keys) == len(kinds)
    assert read(write_clips(tmp_path / "again", **kinds[0])).key in keys


# Value, rule and way out of each.
BAD_CLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "no label": (
        {"splits": {"train": 4, "val": 4}, "labels": ("a", "b", None)},
        r"2 of 8 videos in .* have no label \(first: train-002\); make the manifest with .*--layout folders",
    ),
    "no split": (
        {"splits": {None: 6}},
        r"has no videos in split train \(it has: none 6\); split the manifest with jobs/index.py --val-fraction",
    ),
    "split that is missing": (
        {"splits": {"train": 6, "extra": 1}},
        r"has no videos in split val \(it has: .*extra 1.*\); .*or name another",
    ),
    "split of which no video was decoded": (
        {"splits": {"train": 6}, "failed": {"val": 2}},
        r"no video of split val in .* was decoded \(2 failed\); .*--retry-failed",
    ),
    "label in val that train has not": (
        {"splits": {"train": 2, "val": 3}},
        r"1 labels have no video in split train, but some in val \(first: up\).*move videos to train, or drop",
    ),
    "one label": (
        {"splits": {"train": 12, "val": 6}, "labels": ("a",)},
        r"split train of .* has the one label a; training needs two or more",
    ),
}
VIDEOMAE_OF_8 = dataclasses.replace(TINY, model_config=(*TINY.model_config[:-2], "num_frames=8", "tubelet_size=2"))
BAD_FITS: dict[str, tuple[dict[str, Any], str]] = {
    "batch larger than the clips": (
        {"batch_size": 25},
        r"batch_size 25 is more than the 24 clips of split train; give --batch-size 24 or less",
    ),
    "too few frames": (
        {"model": ModelSpec(model="conv3d", backbone="s3d", weights="none"), "size": "32"},
        r"takes at least 8 frames a clip, these clips have 4; preprocess with --num-frames 8",
    ),
    "too small frames": (
        {"model": ModelSpec(model="frame_vote", weights="none"), "size": "64"},
        r"frames of 32x32 are too small for the model's 64x64; preprocess again with --size 64x64",
    ),
    "a size that the model does not take": (
        {"size": "24"},
        r"takes frames of 32x32 pixels only, got 24x24; choose that size",
    ),
    "odd batches for pairs": (
        {"batch_size": 9, "augment": AugmentSpec(mixup=0.5)},
        r"batch_size must be even with mixup or cutmix",
    ),
    "odd slices for pairs": (
        {"micro_batch_size": 3, "augment": AugmentSpec(cutmix=0.5)},
        r"micro_batch_size must be even with mixup or cutmix",
    ),
    "a transformer with a wrong setting": (
        {"model": dataclasses.replace(TINY, model_config=("hiden_size=3",))},
        r"model_config hiden_size is not a setting of videomae; check its spelling",
    ),
}


@pytest.mark.parametrize("name", BAD_CLIPS)
def test_clips_that_cannot_be_trained_on_are_refused_before_any_work(tmp_path: Path, name: str):
    kind, message = BAD_CLIPS[name]
    clips = write_clips(tmp_path / "clips", **kind)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        train(tiny_config(clips, tmp_path / "out", batch_size=2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", BAD_FITS)
def test_settings_that_do_not_fit_the_clips_are_refused_and_an_earlier_run_is_left_as_it_was(tmp_path: Path, name: str):
    changes, message = BAD_FITS[name]
    clips = write_clips(tmp_path / "clips", {"train": 24, "val": 6})
    earlier = tmp_path / "out" / "run.json"
    earlier.parent.mkdir()
    earlier.write_text(json.dumps({"command": "train", "settings": {}, "versions": {}}))
    with pytest.raises(ValueError, match=message):
        train(tiny_config(clips, tmp_path / "out", restart=True, **changes))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


def test_a_folder_without_clips_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no clips: .*jobs/preprocess.py"):
        train(tiny_config(tmp_path / "nothing", tmp_path / "out"))
