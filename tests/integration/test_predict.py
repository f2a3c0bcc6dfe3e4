"""The predict stage on a real local Ray and local files: the accounts, the nights, and scores equal to a plain loop."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import colour_model
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
import ray
import torch
from small_checkpoint import CLIP, make_checkpoint

from vidpipe.checkpoints import load_checkpoint
from vidpipe.clips import read_clips
from vidpipe.config import PredictConfig, PreprocessConfig
from vidpipe.errors import FailureRateError
from vidpipe.guard import Guard
from vidpipe.label_video import label_video
from vidpipe.spec import ClipSpec
from vidpipe.stages.predict import Work, predict
from vidpipe.stages.preprocess import preprocess
from vidpipe.synthetic import generate_folder

pytestmark = pytest.mark.usefixtures("ray_local")

TORCH, COLOUR = Work(), Work(model=colour_model.ColourModel)


@pytest.fixture(scope="module", autouse=True)
def workers_know_the_colour_model():
    ray.cloudpickle.register_pickle_by_value(colour_model)  # the tests' own folders are not on their path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def videos(twenty_videos: Path, tmp_path: Path) -> Path:
    """A folder of 20 good videos that a test may change."""
    return Path(shutil.copytree(twenty_videos, tmp_path / "videos"))


def run_stage(source: Path, output: Path, checkpoint: str, work: Work = COLOUR, **settings: Any) -> dict[str, Any]:
    """Run the stage; what run.json says. Torch takes ten seconds to load in each worker: only where it is asked for."""
    predict(PredictConfig(source=str(source), output=str(output), checkpoint=checkpoint, **settings), work)
    return json.loads((output / "run.json").read_text())


def counts(**numbers: int) -> dict[str, int]:
    """The counts of a run.json; what is not named is 0."""
    return {"videos": 0, "ok": 0, "failed": 0, "unchanged": 0, "remaining": 0} | numbers


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    """The row of each video, as a plain Parquet reader finds them; a video must not have two."""
    rows = pq.read_table(output / "predictions").to_pylist()
    by_url = {row["url"]: row for row in rows}
    assert len(by_url) == len(rows), "a video has more than one row"
    return by_url


def scores_of(output: Path) -> dict[str, np.ndarray]:
    return {url: np.array(row["scores"]) for url, row in rows_of(output).items() if row["status"] == "ok"}


def urls_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


@torch.no_grad()
def plain_scores(checkpoint: str, clips: Path) -> dict[str, np.ndarray]:
    """URL → scores, one clip and one crop after the other, and nothing of vidpipe but the model and the clips."""
    loaded = load_checkpoint(checkpoint)
    mean, std = torch.tensor(loaded.model.input.mean), torch.tensor(loaded.model.input.std)
    logits: dict[str, list[torch.Tensor]] = {}
    for part in read_clips(str(clips)):
        for url, frames in zip(part.table["url"].to_pylist(), part.numpy(), strict=True):
            shown = (torch.from_numpy(frames.copy()).float() / 255 - mean) / std
            for left in (0, 4, 8):
                crop = shown[None, :, :, left : left + 32].permute(0, 1, 4, 2, 3)
                logits.setdefault(url, []).append(loaded.model(crop)[0].double())
    return {url: (torch.stack(each).softmax(1).mean(0).log() / 1.5).softmax(0).numpy() for url, each in logits.items()}


def test_scores_are_those_of_a_plain_loop_on_three_models_and_on_one_from_clips(
    videos: Path, tmp_path: Path, checkpoint: str
):
    preprocess(PreprocessConfig(source=str(videos), output=str(tmp_path / "clips"), clip=CLIP))
    expected = plain_scores(checkpoint, tmp_path / "clips")
    runs: dict[str, tuple[Path, dict[str, Any]]] = {
        "clips": (tmp_path / "clips", {"num_actors": 1, "batch_size": 7}),
        "three": (videos, {"num_actors": 3, "batch_size": 5}),
    }
    for name, (source, flags) in runs.items():
        run = run_stage(source, tmp_path / name, checkpoint, TORCH, all_scores=True, **flags)
        assert run["counts"] == counts(videos=20, ok=20)
        assert run["num_clips"] == 60
        found = scores_of(tmp_path / name)
        assert found.keys() == expected.keys() == urls_in(videos)
        for url in expected:
            np.testing.assert_allclose(found[url], expected[url], atol=1e-5)
    assert np.std([scores.max() for scores in expected.values()]) > 0.01
    url = min(expected)
    loaded = load_checkpoint(checkpoint)
    with Guard(CLIP, time_limit_s=60, memory_limit_bytes=1 << 30) as guard:
        answer = label_video(url, loaded, guard)
    row = rows_of(tmp_path / "three")[url]
    assert row["top_labels"] == list(answer.labels)
    assert row["top_scores"] == pytest.approx(list(answer.scores), abs=1e-5)


def test_three_nights_label_what_is_new_changed_or_asked_anew(videos: Path, tmp_path: Path, checkpoint: str):
    out = tmp_path / "out"
    (videos / "bad.mp4").write_text("not a video")
    first = run_stage(videos, out, checkpoint)
    assert first["counts"] == counts(videos=21, ok=20, failed=1)
    assert first["failed_by_code"] == {"not_a_video": 1}
    before = rows_of(out)
    assert before[str(videos / "bad.mp4")]["label"] is None

    urls = sorted(urls_in(videos / "left") | urls_in(videos / "up"))
    deleted, changed = urls[:2], urls[2:4]
    generate_folder(str(tmp_path / "other"), num_videos=5, seed=1, num_frames=24, height=64, width=96)
    others = sorted((tmp_path / "other").rglob("*.*"))
    for url in deleted:
        Path(url).unlink()
    for url in changed:
        shutil.copyfile(others.pop(), url)
    for path in others:
        shutil.copyfile(path, videos / f"new_{path.name}")
    second = run_stage(videos, out, checkpoint)
    assert second["counts"] == counts(videos=22, ok=5, unchanged=17)
    assert (second["deleted"], second["newly_deleted"]) == (2, 2)
    after = rows_of(out)
    assert {url for url, row in after.items() if row["is_deleted"]} == set(deleted)
    assert {url for url in after if after[url] != before.get(url)} - set(deleted) == urls_in(videos) - (
        before.keys() - {*changed}
    )

    shutil.copyfile(others[0], deleted[0])
    Path(deleted[0]).touch()
    assert run_stage(videos, out, checkpoint)["counts"] == counts(videos=23, ok=1, unchanged=22)
    assert run_stage(videos, out, checkpoint)["counts"] == counts(videos=23, unchanged=23)
    assert rows_of(out)[deleted[0]]["is_deleted"] is False

    other = make_checkpoint(tmp_path / "other_model", seed=1)
    assert run_stage(videos, out, other, limit=9)["counts"] == counts(videos=23, ok=8, failed=1, remaining=14)
    third = run_stage(videos, out, other)
    assert third["counts"] == counts(videos=23, ok=14, unchanged=9)
    now = rows_of(out)
    assert {row["checkpoint_id"] for url, row in now.items() if url != deleted[1]} == {third["checkpoint_id"]}
    assert now[deleted[1]]["checkpoint_id"] == first["checkpoint_id"]
    assert run_stage(videos, out, other, retry_failed=True, max_failure_rate=1.0)["counts"] == counts(
        videos=23, failed=1, unchanged=22
    )


def test_videos_that_lost_clips_with_a_worker_are_decoded_once_more(videos: Path, tmp_path: Path, checkpoint: str):
    run_stage(videos / "left", tmp_path / "calm", checkpoint, all_scores=True)
    losing = Work(decode=colour_model.decode_and_lose, model=colour_model.ColourModel)
    run = run_stage(videos / "left", tmp_path / "out", checkpoint, losing, all_scores=True, batch_size=2)
    assert (videos / "lost").exists()
    num_videos = len(urls_in(videos / "left"))
    assert run["counts"] == counts(videos=num_videos, ok=num_videos)
    calm, found = scores_of(tmp_path / "calm"), scores_of(tmp_path / "out")
    for url in calm:
        np.testing.assert_allclose(found[url], calm[url], atol=1e-5)


def test_segments_features_and_exports_are_of_the_whole_table(videos: Path, tmp_path: Path, checkpoint: str):
    out = tmp_path / "out"
    (videos / "bad.mp4").write_text("not a video")
    flags: dict[str, Any] = {"segments": True, "window_s": 0.4, "hop_s": 0.2, "features": True}
    run_stage(videos, out, checkpoint, **flags, jsonl=True, csv=True, limit=12)
    run_stage(videos, out, checkpoint, **flags, jsonl=True, csv=True, threshold=0.0)
    rows = rows_of(out)
    segments = pandas.read_parquet(out / "segments")
    features = pandas.read_parquet(out / "features")
    assert (
        set(segments["video_id"])
        == set(features["video_id"])
        == {row["video_id"] for row in rows.values() if row["status"] == "ok"}
    )
    for row in rows.values():
        mine = segments[segments["video_id"] == row["video_id"]].sort_values("start_s")
        assert len(features[features["video_id"] == row["video_id"]]) == row["num_clips"]
        if row["status"] == "ok":
            assert mine["start_s"].iloc[0] == 0
            assert mine["end_s"].iloc[-1] == pytest.approx(row["duration_s"])
            np.testing.assert_allclose(mine["start_s"].iloc[1:], mine["end_s"].iloc[:-1])
            assert (mine["label"].iloc[1:].to_numpy() != mine["label"].iloc[:-1].to_numpy()).all()
    assert len(features["features"].iloc[0]) == 3
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    with open(out / "predictions.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {line["url"]: line["label"] for line in lines} == {url: row["label"] for url, row in rows.items()}
    assert {line["url"]: line["label"] or None for line in table} == {url: row["label"] for url, row in rows.items()}
    assert json.loads(table[0]["top_labels"] or "[]") == (rows[table[0]["url"]]["top_labels"] or [])


def test_what_may_be_answered_and_from_which_score_on(videos: Path, tmp_path: Path, checkpoint: str):
    identity = load_checkpoint(checkpoint).checkpoint_id
    thresholds = tmp_path / "thresholds.json"
    thresholds.write_text(json.dumps({"precision": 0.9, "checkpoint_id": identity, "thresholds": {"left": None}}))
    run_stage(
        videos / "left", tmp_path / "out", checkpoint,
        thresholds=str(thresholds), threshold=0.4, exclude_labels=("up",), top=2, all_scores=True,
    )  # fmt: skip
    for row in rows_of(tmp_path / "out").values():
        best = row["top_labels"][0]
        assert row["label"] == (best if best != "left" and row["score"] >= 0.4 else "unknown")
        assert len(row["top_labels"]) == 2
        assert "up" not in row["top_labels"]
        assert sum(row["scores"]) == pytest.approx(1, abs=1e-5)


def test_a_dry_run_tells_the_plan_and_writes_nothing(
    videos: Path, tmp_path: Path, checkpoint: str, capsys: pytest.CaptureFixture[str]
):
    config = PredictConfig(
        source=str(videos), output=str(tmp_path / "out"), checkpoint=checkpoint, dry_run=True, price_per_hour=36.0
    )
    predict(config)
    printed = capsys.readouterr().out
    assert "20: 20 to label (20 new, 0 changed" in printed
    assert "8 of these videos labelled on this machine" in printed
    assert "cost       about 0.0" in printed
    assert not (tmp_path / "out").exists() or urls_in(tmp_path / "out") == set()
    run_stage(videos, tmp_path / "out", checkpoint)
    predict(config)
    assert "20: 0 to label" in capsys.readouterr().out
    shutil.rmtree(videos / "left")
    predict(dataclasses.replace(config, top=1))
    assert "the last run's" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"include_labels": ("dwon",)}, r"include_labels names 'dwon'.*down, left, right, up"),
        ({"checkpoint": "nowhere"}, r"holds no checkpoint\.json"),
        ({"source": "s3://no-such-bucket-at-all/videos"}, "is not there"),
        ({"num_actors": 9}, "num_actors 9 leaves no CPU to decode with"),
        ({"device": "cuda"}, "this Ray cluster has none"),
        ({"output": None}, "is not one video; say where its predictions go"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_out(
    flags: dict[str, Any], message: str, videos: Path, tmp_path: Path, checkpoint: str
):
    settings = {"source": str(videos), "output": str(tmp_path / "out"), "checkpoint": checkpoint} | flags
    with pytest.raises(ValueError, match=message):
        predict(PredictConfig(**settings))
    assert not (tmp_path / "out" / "predictions").exists()


def test_clips_of_other_settings_are_refused_and_named(videos: Path, tmp_path: Path, checkpoint: str):
    clip = ClipSpec(sampling="dense", num_frames=4, frame_stride=2, num_clips=3, size="48")
    preprocess(PreprocessConfig(source=str(videos / "left"), output=str(tmp_path / "clips"), clip=clip))
    with pytest.raises(ValueError, match=r"otherwise than the checkpoint wants \(size: 48, not 32x40\)"):
        run_stage(tmp_path / "clips", tmp_path / "out", checkpoint)


def test_too_many_failures_are_an_error_after_everything_is_written(videos: Path, tmp_path: Path, checkpoint: str):
    (videos / "left" / "broken.mp4").write_text("not a video")
    with pytest.raises(FailureRateError, match=r"1 of \d+ videos failed, --max-failure-rate is 0.01"):
        run_stage(videos / "left", tmp_path / "out", checkpoint, max_failure_rate=0.01)
    num_videos = len(urls_in(videos / "left"))
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["counts"] == counts(videos=num_videos, ok=num_videos - 1, failed=1)
    assert len(rows_of(tmp_path / "out")) == num_videos
