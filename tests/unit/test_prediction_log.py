"""What is left to label of a manifest, and the files of an output from one night to the next."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidpipe.checkpoints import CheckpointFacts
from vidpipe.config import PredictConfig
from vidpipe.journal import Journal
from vidpipe.manifest.schema import MANIFEST_SCHEMA
from vidpipe.model_spec import ModelSpec
from vidpipe.predictions import read_facts, read_predictions
from vidpipe.predictions.answers import answers_of
from vidpipe.predictions.assembly import ViewedVideo
from vidpipe.predictions.log import PredictionLog, WorkLeft
from vidpipe.predictions.question import Question, make_question
from vidpipe.predictions.side_table import SideTable
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec
from vidpipe.video_facts import VIDEO_FACTS

LABELS = ("down", "left", "up")


def question(checkpoint_id: str = "a" * 16, labels: tuple[str, ...] = LABELS, **flags: Any) -> Question:
    config = PredictConfig(source="videos", checkpoint="model", output="out", **flags)
    facts = CheckpointFacts(
        model=ModelSpec(), labels=labels, clip=ClipSpec(size="32"), views=ViewSpec(), size=(32, 32), temperature=2.0
    )
    return make_question(config, facts, checkpoint_id, "/model/best")


def manifest(*names: str, version: str = "1") -> pa.Table:
    rows = [{"video_id": name, "url": f"/videos/{name}.mp4", "version": version, "size_bytes": 1} for name in names]
    return pa.Table.from_pylist(rows, MANIFEST_SCHEMA)


def video(name: str, best: int = 0, num_clips: int = 1, num_labels: int = 3) -> ViewedVideo:
    logits = np.full((num_clips, 1, num_labels), -1.0, np.float32)
    logits[..., best] = 1.0
    starts_s = np.arange(num_clips) * 5.0
    receipt = {"status": "ok", "num_clips": num_clips, "duration_s": 5.0 * num_clips}
    return ViewedVideo(name, receipt, logits, starts_s, starts_s + 5, np.full((num_clips, 4), best, np.float32))


def failed(name: str) -> ViewedVideo:
    receipt = {"status": "failed", "error_code": "corrupt", "error": "broken", "num_clips": 0}
    return ViewedVideo(name, receipt, np.empty((0, 1, 3), np.float32), np.empty(0), np.empty(0), None)


def commit(log: PredictionLog, *videos: ViewedVideo, version: str = "1") -> None:
    listed = manifest(*(one.video_id for one in videos), version=version)
    log.commit(answers_of(videos, listed, log.question))


def work_left(log: PredictionLog, listed: pa.Table, **flags: Any) -> WorkLeft:
    return log.work_left(
        listed, **{"prefix": None, "suffixes": (".mp4",), "retry_failed": False, "relabel": False, **flags}
    )


def names(left: WorkLeft) -> list[str]:
    return left.todo["video_id"].to_pylist()


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def test_only_what_is_new_or_changed_is_left_and_on_demand_what_failed(out: str):
    log = PredictionLog(out, question())
    commit(log, video("a"), video("b"), failed("bad"))
    now = pa.concat_tables([manifest("a", "bad", "new"), manifest("b", version="2")])
    left = work_left(log, now)
    assert names(left) == ["new", "b"]
    assert (left.num_new, left.num_changed, left.num_unchanged, left.num_unchanged_failed) == (1, 1, 2, 1)
    assert names(work_left(log, now, retry_failed=True)) == ["bad", "new", "b"]
    again = work_left(log, now, relabel=True)
    assert len(again.todo) == 4
    assert again.num_new + again.num_changed + again.num_asked_otherwise + again.num_retried == 4


def test_another_checkpoint_or_another_question_labels_all_anew(out: str):
    commit(PredictionLog(out, question()), video("a"), failed("bad"))
    for other in (question("b" * 16), question(threshold=0.5), question(segments=True), question(top=3)):
        left = work_left(PredictionLog(out, other), manifest("a", "bad"))
        assert (len(left.todo), left.num_asked_otherwise) == (2, 2)
    assert len(work_left(PredictionLog(out, question()), manifest("a", "bad")).todo) == 0


def test_videos_that_are_gone_from_a_listed_prefix_are_marked_and_come_back(out: str):
    log = PredictionLog(out, question())
    commit(log, video("a"), video("b"), video("c"))
    assert len(work_left(log, manifest("a")).gone) == 0  # a manifest that lists less says nothing of the others
    assert len(work_left(log, manifest("a"), prefix="/video").gone) == 0
    assert len(work_left(log, manifest("a"), prefix="/videos", suffixes=(".avi",)).gone) == 0  # a listing leaves it out
    left = work_left(log, manifest("a"), prefix="/videos/")
    assert sorted(left.gone.to_pylist()) == ["b", "c"]
    log.mark(left.gone, is_deleted=True)
    rows = {row["video_id"]: row for row in log.read().to_pylist()}
    assert [rows[name]["is_deleted"] for name in "abc"] == [False, True, True]
    assert rows["b"]["label"] == "down"
    assert log.num_deleted() == 2

    left = work_left(log, pa.concat_tables([manifest("a", "b"), manifest("c", version="2")]), prefix="/videos")
    assert (names(left), left.returned.to_pylist(), len(left.gone)) == (["c"], ["b"], 0)
    log.mark(left.returned, is_deleted=False)
    commit(log, video("c"), version="2")
    assert log.num_deleted() == 0


def test_scores_keep_the_labels_of_their_checkpoint(out: str):
    commit(PredictionLog(out, question(all_scores=True)), video("a"), video("gone", best=2))
    log = PredictionLog(out, question("b" * 16, ("zoom", *LABELS), all_scores=True))
    commit(log, video("a", num_labels=4))
    log.mark(pa.array(["gone"]), is_deleted=True)
    log.tidy()
    facts = read_facts(out)
    rows = {row["video_id"]: row for row in read_predictions(out).to_pylist()}
    for name, label in (("a", "zoom"), ("gone", "up")):
        row = rows[name]
        assert facts.labels_of(row["checkpoint_id"])[int(np.argmax(row["scores"]))] == row["label"] == label


def test_segments_and_features_are_there_once_for_any_reader(out: str):
    log = PredictionLog(out, question(segments=True, features=True))
    commit(log, video("a", 0, 3), video("b", 1, 2), failed("bad"))
    commit(log, video("c", 2, 1))
    log.tidy()
    files = {name: [path.name for path in Path(out, name).iterdir()] for name in ("segments", "features")}
    assert {name: len(found) for name, found in files.items()} == {"segments": 1, "features": 1}
    commit(log, video("b", 2, 4), version="2")
    log.tidy()
    found = duckdb.sql(
        f"select video_id, label, start_s, end_s from '{out}/segments/*.parquet' order by all"
    ).fetchall()
    assert found == [("a", "down", 0.0, 15.0), ("b", "up", 0.0, 20.0), ("c", "up", 0.0, 5.0)]
    features = pq.read_table(f"{out}/features").group_by("video_id").aggregate([("clip_index", "count")])
    assert dict(zip(*features.to_pydict().values(), strict=True)) == {"a": 3, "b": 4, "c": 1}
    named = read_predictions(out).group_by("segments_part").aggregate([("video_id", "count")]).to_pydict()
    assert dict(zip(*named.values(), strict=True))[None] == 1  # the one that failed


def test_a_killed_run_leaves_nothing_that_counts(out: str):
    log = PredictionLog(out, question(segments=True))
    commit(log, video("a", 0, 3))
    (name,) = log.read()["segments_part"].to_pylist()
    unnamed = SideTable(out, "segments", Journal(f"{out}/none", pa.schema({})), is_asked_for=True)
    unnamed.write(pa.table({"video_id": ["killed"]}))
    Path(out, "segments", f".{24 * '0'}.parquet.1").write_bytes(b"PAR1")
    log.sweep()
    assert [path.name for path in Path(out, "segments").iterdir()] == [name]


def test_where_no_video_is_gone_nothing_is_read_to_mark_it(out: str, monkeypatch: pytest.MonkeyPatch):
    log = PredictionLog(out, question())
    commit(log, video("a"))
    monkeypatch.setattr("vidpipe.journal.read_buffer", lambda url: 1 / 0)
    log.mark(pa.array([], pa.string()), is_deleted=True)
    with pytest.raises(ZeroDivisionError):
        log.mark(pa.array(["a"]), is_deleted=True)


def test_answers_are_of_the_listed_video_whatever_else_is_listed_and_in_which_order():
    listed = pa.concat_tables([manifest("d", "b"), manifest("a", version="2"), manifest("c")])
    rows = answers_of([video("c"), video("a"), video("b")], listed, question()).rows
    assert [(row["video_id"], row["url"], row["version"]) for row in rows] == [
        ("c", "/videos/c.mp4", "1"),
        ("a", "/videos/a.mp4", "2"),
        ("b", "/videos/b.mp4", "1"),
    ]


def test_a_crash_while_tidying_leaves_the_same_table(out: str, monkeypatch: pytest.MonkeyPatch):
    log = PredictionLog(out, question(segments=True))
    commit(log, video("a", 0, 3), video("b", 1, 2))
    commit(log, video("b", 2, 4), version="2")
    before = sorted(log.read(["video_id", "version", "label"]).to_pylist(), key=str)
    monkeypatch.setattr("vidpipe.journal.Journal.compact", lambda journal: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        log.tidy()
    monkeypatch.undo()
    assert sorted(log.read(["video_id", "version", "label"]).to_pylist(), key=str) == before
    log.sweep()
    log.tidy()
    assert sorted(log.read(["video_id", "version", "label"]).to_pylist(), key=str) == before
    assert sorted(pq.read_table(f"{out}/segments")["video_id"].to_pylist()) == ["a", "b"]


@pytest.mark.parametrize(("join", "label"), [("mean", "down"), ("vote", "left"), ("max", "down")])
def test_the_label_of_a_long_video_is_joined_as_asked(out: str, join: str, label: str):
    logits = np.array([[[9, 0, 0]], [[0, 1, 0]], [[0, 1, 0]]], np.float32)
    starts_s = np.arange(3) * 5.0
    receipt = {"status": "ok", "num_clips": 3, "duration_s": 15.0}
    long = ViewedVideo("a", receipt, logits, starts_s, starts_s + 5, None)
    log = PredictionLog(out, question(segments=True, join=join))
    commit(log, long)
    (row,) = log.read().to_pylist()
    assert row["label"] == label
    assert row["top_scores"] == sorted(row["top_scores"], reverse=True)
    assert sum(row["top_scores"]) == pytest.approx(1)


@pytest.mark.parametrize(("join", "label"), [("mean", "left"), ("vote", "down")])
def test_windows_count_for_the_label_by_the_seconds_that_they_cover(out: str, join: str, label: str):
    logits, starts_s = np.array([[[1, 0, 0]], [[0, 3, 0]], [[0, 0, 1]]], np.float32), np.array([0.0, 3.0, 4.0])
    seconds = [3 + 1 / 2 + 6 / 3, 1 / 2 + 6 / 3 + 3 / 2, 6 / 3 + 3 / 2 + 1]  # of 14
    receipt = {"status": "ok", "num_clips": 3, "duration_s": 14.0}
    log = PredictionLog(out, question(segments=True, join=join, window_s=10.0, hop_s=3.0))
    commit(log, ViewedVideo("a", receipt, logits, starts_s, starts_s + 10, None))
    (row,) = log.read().to_pylist()
    assert row["label"] == label  # by votes that count alike, the surer window would break a tie: left
    if join == "mean":
        shares = np.average(np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum(axis=1, keepdims=True), 0, seconds)
        expected = np.sqrt(shares) / np.sqrt(shares).sum()  # at temperature 2
        assert row["score"] == pytest.approx(expected[LABELS.index(label)])


def test_a_row_has_the_facts_of_its_video_and_those_of_earlier_rows_are_null(out: str):
    log = PredictionLog(out, question())
    facts = {"codec": "h264", "width": 64, "height": 48, "duration_s": 5.0, "num_clips": 1}
    facts |= {"num_damaged": 3, "max_shift_s": 0.25}
    assert facts.keys() == {name for name, _ in VIDEO_FACTS}
    one = video("a")
    commit(log, dataclasses.replace(one, receipt={"status": "ok", **facts}), failed("bad"))
    rows = {row["video_id"]: row for row in log.read().to_pylist()}
    assert {name: rows["a"][name] for name in facts} == facts
    assert {rows["bad"][name] for name in facts} == {None, 0}
    for path in Path(out, "predictions").iterdir():  # as it was before there were these columns
        pq.write_table(pq.read_table(path).drop_columns(["num_damaged", "max_shift_s"]), path)
    commit(log, dataclasses.replace(video("b"), receipt={"status": "ok", **facts}))
    log.tidy()
    assert [row["num_damaged"] for row in sorted(log.read().to_pylist(), key=lambda row: row["video_id"])] == [
        None,
        3,
        None,
    ]


def test_the_settings_of_a_run_are_in_its_files(out: str):
    commit(PredictionLog(out, question(threshold=0.25, exclude_labels=("up",))), video("a", 2))
    facts = read_facts(out)
    assert facts.settings["threshold"] == 0.25
    assert facts.settings["exclude_labels"] == ["up"]
    assert json.loads(facts.to_json())["checkpoint"] == {"id": "a" * 16, "url": "/model/best"}
    (row,) = read_predictions(out).to_pylist()
    assert "up" not in row["top_labels"]


def test_counts_that_do_not_add_up_are_an_error(out: str):
    log = PredictionLog(out, question(segments=True))
    commit(log, video("a"), video("b"))
    counts = {"videos": 2, "ok": 2, "failed": 0, "unchanged": 0, "remaining": 0}
    log.check_counts(manifest("a", "b"), counts)
    with pytest.raises(RuntimeError, match="2 videos with an answer"):
        log.check_counts(manifest("a", "b", "c"), {**counts, "videos": 3, "ok": 3})
    with pytest.raises(RuntimeError, match="do not add up"):
        log.check_counts(manifest("a", "b"), {**counts, "ok": 1})
    for path in Path(out, "segments").iterdir():
        path.unlink()
    with pytest.raises(RuntimeError, match="1 files missing"):
        log.check_counts(manifest("a", "b"), counts)
