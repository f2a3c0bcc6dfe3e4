"""Videos become blocks of clips; blocks become logits, in whatever company a clip travels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_make_parts import manifest_row

from vidpipe.checkpoints import CheckpointFacts, load_checkpoint, save_checkpoint
from vidpipe.clip_blocks import (
    CLOSING_INDEX,
    BlockSettings,
    decoded_blocks,
    frames_in,
    stored_blocks,
    stored_receipt,
)
from vidpipe.clip_model import BlockModel, ClipModel
from vidpipe.clips import read_clips
from vidpipe.guard import Guard, Restart
from vidpipe.ledger import Ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.predictions.assembly import Assembly
from vidpipe.predictions.tally import PredictTally
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec
from vidpipe.video_facts import VIDEO_FACT_NAMES

LIMITS: dict[str, Any] = {"time_limit_s": 60.0, "memory_limit_bytes": 1 << 30}
SPEC = ClipSpec(sampling="fps", rate_fps=5.0, size="32")
LABELS = ("down", "left", "up")


@pytest.fixture(scope="module")
def videos(generated: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Three good videos and between them one that is none."""
    bad = tmp_path_factory.mktemp("bad") / "bad.mp4"
    bad.write_text("not a video")
    paths = [*list(generated.values())[:2], bad, list(generated.values())[2]]
    return pa.Table.from_pylist([manifest_row(str(path)) for path in paths])


def settings(spec: ClipSpec = SPEC, clips_a_block: int = 4) -> BlockSettings:
    return BlockSettings(spec=spec, clips_a_block=clips_a_block, **LIMITS)


def stored(videos: pa.Table, output: Path, spec: ClipSpec = SPEC) -> pa.Table:
    """The status rows of an output of preprocess with the clips of these videos in one part."""
    receipts = make_parts(videos.to_pylist(), PartSettings(output=str(output), spec=spec, part_bytes=1 << 30, **LIMITS))
    ledger = Ledger(str(output), spec)
    ledger.commit(receipts)
    return ledger.read()


def clips_in(blocks: list[pa.Table], spec: ClipSpec = SPEC) -> dict[tuple[str, int], np.ndarray]:
    found = {}
    for block in blocks:
        rows = [row for row in block.drop_columns("frames").to_pylist() if row["closing"] is None]
        for row, frames in zip(rows, frames_in(block, spec), strict=True):
            found[row["video_id"], row["clip_index"]] = frames
    return found


def test_blocks_hold_so_many_clips_of_several_videos_and_every_video_is_closed(videos: pa.Table):
    blocks = list(decoded_blocks(videos, settings()))
    num_clips = [sum(index != CLOSING_INDEX for index in block["clip_index"].to_pylist()) for block in blocks]
    assert num_clips[:-1] == [4] * (len(blocks) - 1)
    assert any(len(set(block["video_id"].to_pylist())) > 1 for block in blocks)
    closings = {
        row["video_id"]: json.loads(row["closing"]) for block in blocks for row in block.to_pylist() if row["closing"]
    }
    assert [closings[name]["status"] for name in videos["video_id"].to_pylist()] == ["ok", "ok", "failed", "ok"]
    assert closings[videos["video_id"][2].as_py()]["error_code"] == "not_a_video"
    assert sum(closing["num_clips"] for closing in closings.values()) == sum(num_clips)


def test_a_block_that_does_not_fill_leaves_when_it_is_due_also_when_every_video_fails(videos: pa.Table):
    bad = pa.concat_tables([videos.slice(2, 1)] * 3)
    assert [len(block) for block in decoded_blocks(bad, settings())] == [3]
    assert [len(block) for block in decoded_blocks(bad, dataclasses.replace(settings(), block_every_s=0.0))] == [1] * 3


def test_a_damaged_video_is_told_by_its_status_row_and_by_what_predict_gets(generated: dict[str, Path], tmp_path: Path):
    path = tmp_path / "damaged.mp4"
    data = generated["h264_mp4"].read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :])
    spec = ClipSpec(sampling="fps", rate_fps=5.0, size="32", on_damage="keep")
    videos = pa.Table.from_pylist([manifest_row(str(path))])
    (status,) = stored(videos, tmp_path / "out", spec).to_pylist()
    (closing,) = (
        json.loads(text)
        for block in decoded_blocks(videos, settings(spec))
        for text in block["closing"].drop_null().to_pylist()
    )
    assert status["num_damaged"] > 0
    for facts in (closing, stored_receipt(status)):
        assert {name: facts[name] for name in VIDEO_FACT_NAMES} == {name: status[name] for name in VIDEO_FACT_NAMES}
        tally = PredictTally()
        tally.add(facts)
        assert (tally.num_ok, tally.num_with_damage) == (1, 1)


def test_a_status_row_says_how_far_a_frame_was_moved_at_most(videos: pa.Table, tmp_path: Path):
    spec = ClipSpec(sampling="fps", rate_fps=3.0, size="32", tolerance_s=0.5)
    status = stored(videos.slice(0, 1), tmp_path, spec).to_pylist()[0]
    moved = [clip for clips in read_clips(str(tmp_path)) for clip in clips.table["max_shift_s"].to_pylist()]
    assert status["max_shift_s"] == max(moved) > 0


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_clips_made_before_give_the_same_blocks(videos: pa.Table, tmp_path: Path, encoding: str):
    spec = ClipSpec(sampling="fps", rate_fps=5.0, size="32", encoding=encoding)
    status = stored(videos, tmp_path, spec)
    ok = status.filter(pa.compute.equal(status["status"], "ok"))
    some = ok.slice(0, 2)
    found = clips_in(list(stored_blocks(some, settings(spec), str(tmp_path))), spec)
    decoded = clips_in(list(decoded_blocks(videos.slice(0, 2), settings(spec))), spec)
    assert found.keys() == decoded.keys()
    assert all(np.array_equal(found[place], decoded[place]) for place in found)


def test_a_part_without_the_clips_of_its_status_row_is_an_error(videos: pa.Table, tmp_path: Path):
    status = stored(videos, tmp_path)
    ok = status.filter(pa.compute.equal(status["status"], "ok"))
    more = ok.set_column(ok.schema.get_field_index("num_clips"), "num_clips", pa.array([99] * len(ok)))
    with pytest.raises(RuntimeError, match=r"lacks clips of 3 videos"):
        list(stored_blocks(more, settings(), str(tmp_path)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    spec = ModelSpec(model="frame_vote", backbone="resnet18", weights="none")
    facts = CheckpointFacts(
        model=spec, labels=LABELS, clip=SPEC, views=ViewSpec(crops=3, resize_short=32), size=(24, 24)
    )
    folder = str(tmp_path_factory.mktemp("model"))
    save_checkpoint(folder, build_model(spec, LABELS), facts)
    return folder


def labelled(blocks: list[pa.Table], model: BlockModel) -> dict[str, np.ndarray]:
    """The logits of each video, (clips, crops, labels)."""
    assembly = Assembly(3, len(LABELS))
    return {video.video_id: video.logits for block in blocks for video in assembly.add(model(block))}


def block_model(checkpoint: str, **how: Any) -> BlockModel:
    identity = load_checkpoint(checkpoint).checkpoint_id
    return BlockModel(checkpoint, identity, SPEC, device="cpu", num_threads=1, **how)


def test_logits_do_not_depend_on_the_blocks(videos: pa.Table, checkpoint: str):
    model = block_model(checkpoint)
    by_four, by_seven = (labelled(list(decoded_blocks(videos, settings(clips_a_block=n))), model) for n in (4, 7))
    clips = clips_in(list(decoded_blocks(videos, settings())))
    alone = ClipModel(load_checkpoint(checkpoint))
    assert by_four.keys() == by_seven.keys() == set(videos["video_id"].to_pylist())
    for name, logits in by_four.items():
        np.testing.assert_allclose(by_seven[name], logits, atol=1e-5)
        mine = [alone(clips[name, index][None]).logits[0] for index in range(len(logits))]
        np.testing.assert_allclose(np.reshape(mine, logits.shape), logits, atol=1e-5)


def test_clips_before_a_restart_do_not_count(videos: pa.Table, checkpoint: str, monkeypatch: pytest.MonkeyPatch):
    model = block_model(checkpoint)
    calm = labelled(list(decoded_blocks(videos, settings())), model)
    decode = Guard.decode

    def interrupted(guard: Guard, *asked: Any):
        events = list(decode(guard, *asked))
        yield from events[:2]
        yield Restart()
        yield from events

    monkeypatch.setattr(Guard, "decode", interrupted)
    stormy = labelled(list(decoded_blocks(videos, settings())), model)
    assert stormy.keys() == calm.keys()
    assert all(np.array_equal(stormy[name].shape, calm[name].shape) for name in calm)
    for name in calm:
        np.testing.assert_allclose(stormy[name], calm[name], atol=1e-5)


def test_features_are_the_mean_of_the_backbones_over_frames_and_crops(videos: pa.Table, checkpoint: str):
    model = ClipModel(load_checkpoint(checkpoint), with_features=True)
    clips = np.stack(list(clips_in(list(decoded_blocks(videos, settings()))).values())[:3])
    answers = model(clips)
    assert answers.features is not None
    assert answers.features.shape == (3, 512)
    np.testing.assert_allclose(answers.logits, ClipModel(load_checkpoint(checkpoint))(clips).logits, atol=1e-6)


def test_a_checkpoint_that_was_replaced_meanwhile_is_not_used(checkpoint: str):
    with pytest.raises(RuntimeError, match="it was replaced; run the same command again"):
        BlockModel(checkpoint, "0" * 16, SPEC, device="cpu", num_threads=1)
