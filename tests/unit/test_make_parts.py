import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_videos import BAD_VIDEOS
from small_parts import RAW, frames_of, receipt, write_part
from small_videos import write_generated

import vidpipe.delivery
from vidpipe.clips import ClipTable, read_clips
from vidpipe.decode import open_video
from vidpipe.delivery import spool_folder
from vidpipe.ledger import Ledger
from vidpipe.make_parts import PartSettings, make_parts, receipts_of_parts, rewrite_part
from vidpipe.manifest.schema import MANIFEST_SCHEMA, video_id
from vidpipe.parts import part_receipts, spec_of
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec
from vidpipe.storage import file_info
from vidpipe.synthetic import ENCODINGS

SPEC = ClipSpec(sampling="dense", num_frames=4, num_clips=3, size="24x32")
BAD = ["text.mp4", "empty.mp4", "faststart_50.mp4", "zeroed_middle.mp4", "audio_aac.mp4", "hls_playlist.mp4"]


def settings_of(output: Path, spec: ClipSpec = SPEC, *, part_bytes: int = 1 << 30) -> PartSettings:
    return PartSettings(
        output=str(output), spec=spec, part_bytes=part_bytes, time_limit_s=60, memory_limit_bytes=1 << 30
    )


def manifest_row(path: Path | str, **changes: Any) -> dict[str, Any]:
    info = file_info(str(path))
    labels = {"label": "right", "group": None, "split": "train"}
    row = {"video_id": video_id(info.url), "url": info.url, "version": info.version, "size_bytes": info.size_bytes}
    return {**row, **labels, **changes}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> list[dict[str, Any]]:
    """Manifest rows of a video of each encoding."""
    folder = tmp_path_factory.mktemp("good")
    paths = [write_generated(folder / f"{name}{ENCODINGS[name].suffix}", name, num_frames=30) for name in ENCODINGS]
    return [manifest_row(path) for path in paths]


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("bad")
    for name in BAD:
        BAD_VIDEOS[name][0](folder / name, np.random.default_rng(0))
    return [manifest_row(folder / name) for name in BAD]


def clips_of(output: Path) -> dict[tuple[str, int], np.ndarray]:
    """Frames of every clip in `clips/`, by URL and clip index; a clip that is there twice fails the test."""
    found: dict[tuple[str, int], np.ndarray] = {}
    for path in (output / "clips").iterdir():
        table = pq.read_table(path)
        keys = list(zip(table["url"].to_pylist(), table["clip_index"].to_pylist(), strict=True))
        assert not found.keys() & set(keys)
        assert len(keys) == len(set(keys))
        found.update(zip(keys, ClipTable(table, spec_of(table.schema)).numpy(), strict=True))
    return found


def test_good_and_bad_videos_give_one_receipt_each_and_clips_of_the_good_ones(good, bad, tmp_path):
    videos = [video for pair in zip(good, bad, strict=False) for video in pair] + good[len(bad) :]
    receipts = make_parts(videos, settings_of(tmp_path))
    assert [row["video_id"] for row in receipts] == [video["video_id"] for video in videos]
    statuses = {row["url"]: row for row in receipts}
    for video in good:
        row = statuses[video["url"]]
        assert (row["status"], row["num_clips"], row["label"], row["split"]) == ("ok", 3, "right", "train")
        assert (row["height"], row["width"], row["bytes_read"]) == (96, 128, video["size_bytes"])
        assert row["duration_s"] == pytest.approx(1.2, abs=2e-3)
        assert row["decode_s"] > 0
        assert (tmp_path / "clips" / row["part"]).is_file()
    for video in bad:
        row = statuses[video["url"]]
        answers = BAD_VIDEOS[Path(video["url"]).name][1]
        assert row["status"] == "failed"
        assert row["error_code"] in answers
        assert row["error"]
        assert row["num_clips"] == 0
        assert "part" not in row
    assert sorted(clips_of(tmp_path)) == sorted((video["url"], index) for video in good for index in range(3))


def test_the_clips_hold_the_planned_frames(good, tmp_path):
    make_parts(good[:3], settings_of(tmp_path))
    clips = clips_of(tmp_path)
    for video in good[:3]:
        with open_video(video["url"], SPEC) as opened:
            frames = np.stack(list(opened.frames(np.arange(30))))
            plans = plan_clips(opened.times_s, SPEC, video["video_id"])
        for plan in plans:
            np.testing.assert_array_equal(clips[video["url"], plan.clip_index], frames[plan.frame_indices])


def test_receipts_can_be_committed_and_the_clips_read(good, bad, tmp_path):
    receipts = make_parts([*good, *bad], settings_of(tmp_path))
    ledger = Ledger(str(tmp_path), SPEC)
    ledger.commit(receipts)
    assert ledger.sweep() == 0
    tables = list(read_clips(str(tmp_path)))
    assert sum(len(clips.table) for clips in tables) == 3 * len(good)
    assert {url for clips in tables for url in clips.table["url"].to_pylist()} == {video["url"] for video in good}
    assert len(ledger.read()) == len(good) + len(bad)


def test_the_same_videos_give_the_same_parts_twice(good, tmp_path):
    spec = ClipSpec(sampling="dense", num_frames=4, num_clips=2, seed=1, size="24x32")
    first, second = (make_parts(good, settings_of(tmp_path / name, spec)) for name in ("a", "b"))
    assert os.listdir(tmp_path / "a/clips") == os.listdir(tmp_path / "b/clips")
    untimed = [[{**row, "decode_s": None} for row in receipts] for receipts in (first, second)]
    assert untimed[0] == untimed[1]
    frames = clips_of(tmp_path / "a"), clips_of(tmp_path / "b")
    assert frames[0].keys() == frames[1].keys()
    for key in frames[0]:
        np.testing.assert_array_equal(frames[0][key], frames[1][key])


def test_running_again_over_a_finished_output_changes_nothing(good, tmp_path):
    for _ in range(2):
        make_parts(good[:4], settings_of(tmp_path))
    assert len(os.listdir(tmp_path / "clips")) == 1
    assert len(clips_of(tmp_path)) == 12


def test_a_part_ends_when_it_has_its_bytes(good, bad, tmp_path):
    videos = [*bad[:2], *good, *bad[2:]]
    receipts = make_parts(videos, settings_of(tmp_path, part_bytes=6 * SPEC.num_bytes_raw))
    parts = [row["part"] for row in receipts if row["status"] == "ok"]
    assert len(set(parts)) == len(good) // 2  # two videos of three clips each fill one
    assert sorted(set(parts)) == sorted(os.listdir(tmp_path / "clips"))
    assert len(clips_of(tmp_path)) == 3 * len(good)
    for name in set(parts):
        named = [row for row in receipts if row.get("part") == name]
        assert part_receipts(str(tmp_path), name, SPEC) == named


def test_receipts_leave_with_their_part_as_soon_as_it_is_due_and_those_of_bad_videos_with_them(good, bad, tmp_path):
    videos = [*bad[:2], *good, *bad[2:]]
    settings = dataclasses.replace(settings_of(tmp_path), receipts_every_s=0.0)
    batches = receipts_of_parts(videos, settings)
    for video in videos:
        [receipt] = next(batches)
        assert receipt["video_id"] == video["video_id"]
        if receipt["status"] == "ok":
            assert part_receipts(str(tmp_path), receipt["part"], SPEC) == [receipt]
    assert next(batches, None) is None
    assert len(clips_of(tmp_path)) == 3 * len(good)

    full = settings_of(tmp_path / "full", part_bytes=6 * SPEC.num_bytes_raw)
    assert [len(receipts) for receipts in receipts_of_parts(good, full)] == [2] * (len(good) // 2)
    assert len(list(receipts_of_parts(videos, settings_of(tmp_path / "quick")))) == 1


def test_videos_that_all_fail_leave_no_part(bad, tmp_path):
    receipts = make_parts(bad, settings_of(tmp_path))
    assert {row["status"] for row in receipts} == {"failed"}
    assert not (tmp_path / "clips").exists()


def test_no_videos_are_no_receipts(tmp_path):
    assert make_parts([], settings_of(tmp_path)) == []
    assert os.listdir(tmp_path) == []


def test_a_long_video_that_breaks_off_late_leaves_no_clip_of_it(good, tmp_path, monkeypatch):
    """Its first clips are on disk already when the damage shows."""
    monkeypatch.setattr("vidpipe.parts.ROW_GROUP_BYTES", 1)
    spec = ClipSpec(sampling="windows", window_s=0.2, num_frames=2, size="24x32")
    path = tmp_path / "zeroed_middle.mp4"
    BAD_VIDEOS[path.name][0](path, np.random.default_rng(0))
    receipts = make_parts([good[0], manifest_row(path), good[1]], settings_of(tmp_path / "out", spec))
    assert [row["status"] for row in receipts] == ["ok", "failed", "ok"]
    assert receipts[1]["error_code"] == "corrupt"
    assert {url for url, _ in clips_of(tmp_path / "out")} == {good[0]["url"], good[1]["url"]}
    assert len(clips_of(tmp_path / "out")) == receipts[0]["num_clips"] + receipts[2]["num_clips"] == 12


def test_a_missing_file_is_not_found(good, tmp_path):
    gone = {**manifest_row(tmp_path / "gone.mp4"), "size_bytes": 123}
    receipts = make_parts([gone, good[0]], settings_of(tmp_path / "out"))
    assert [row.get("error_code") for row in receipts] == ["not_found", None]
    assert receipts[0]["num_clips"] == 0


def test_a_folder_with_the_name_of_a_video_is_not_found(good, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    row = {**good[0], "url": str(tmp_path / "folder.mp4")}
    (receipt_row,) = make_parts([row], settings_of(tmp_path / "out"))
    assert receipt_row["error_code"] == "not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_forbidden(good, tmp_path):
    path = write_generated(tmp_path / "secret.mp4", "h264_mp4", num_frames=5)
    path.chmod(0)
    receipts = make_parts([manifest_row(path), good[0]], settings_of(tmp_path / "out"))
    assert [row.get("error_code") for row in receipts] == ["forbidden", None]


def test_videos_in_an_object_store_come_by_way_of_the_spool_and_leave_nothing(good, bad, tmp_path, monkeypatch):
    """fsspec's memory file system stands for any store that is not a local disk."""
    import fsspec

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = fsspec.filesystem("memory")
    rows = []
    for video in [*good[:3], *bad[:2]]:
        url = f"memory://bucket/{Path(video['url']).name}"
        store.pipe_file(url, Path(video["url"]).read_bytes())
        rows.append(manifest_row(url))
    rows.append({**rows[0], "url": "memory://bucket/gone.mp4"})
    receipts = make_parts(rows, settings_of("memory://bucket/out"))
    assert [row["status"] for row in receipts] == ["ok"] * 3 + ["failed"] * 3
    assert receipts[-1]["error_code"] == "not_found"
    assert receipts[0]["bytes_read"] == good[0]["size_bytes"]
    ledger = Ledger("memory://bucket/out", SPEC)
    ledger.commit(receipts)
    assert sum(len(clips.table) for clips in read_clips("memory://bucket/out")) == 9
    assert not list(tmp_path.iterdir())


def test_a_manifest_row_as_arrow_gives_it_is_enough(good, tmp_path):
    import pyarrow as pa

    table = pa.Table.from_pylist(good[:1], MANIFEST_SCHEMA)
    (row,) = make_parts(table.to_pylist(), settings_of(tmp_path))
    assert row["status"] == "ok"


def test_few_videos_are_fetched_ahead(good, tmp_path, monkeypatch):
    """A thousand videos of a bucket never lie on the local disk together."""
    import fsspec

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fsspec.filesystem("memory").pipe_file("memory://bucket/a.mp4", Path(good[0]["url"]).read_bytes())
    num_files = []
    real = vidpipe.delivery.Guard.decode

    def counting(guard, path, *request):
        num_files.append(len(os.listdir(Path(path).parent)))
        return real(guard, path, *request)

    monkeypatch.setattr(vidpipe.delivery.Guard, "decode", counting)
    make_parts([manifest_row("memory://bucket/a.mp4")] * 30, settings_of(tmp_path / "out"))
    assert len(num_files) == 30
    assert max(num_files) <= vidpipe.delivery.FETCH_AHEAD_FILES + 3  # the one being decoded, its follower, the part


@pytest.fixture
def output(tmp_path) -> Path:
    """An output folder with two parts, of 3 and of 1 video."""
    (tmp_path / "clips").mkdir()
    write_part(tmp_path / "clips/a.parquet", RAW, {"one": 2, "two": 1, "three": 2})
    write_part(tmp_path / "clips/b.parquet", RAW, {"four": 2})
    return tmp_path


def test_a_rewritten_part_keeps_the_asked_videos_under_their_new_labels(output):
    wanted = [receipt("one", 2, label="right", split="val", group="g"), receipt("three", 2)]
    receipts = rewrite_part("a.parquet", wanted, settings_of(output, RAW))
    (name,) = {row["part"] for row in receipts}
    assert name not in ("a.parquet", "b.parquet")
    assert receipts == [{**row, "part": name} for row in wanted]
    assert part_receipts(str(output), name, RAW) == receipts
    table = pq.read_table(output / "clips" / name)
    assert table["video_id"].to_pylist() == ["one", "one", "three", "three"]
    assert table["clip_index"].to_pylist() == [0, 1, 0, 1]
    assert table["label"].to_pylist() == ["right", "right", "left", "left"]
    assert table["split"].to_pylist() == ["val", "val", "train", "train"]
    assert table["group"].to_pylist() == ["g", "g", None, None]
    frames = ClipTable(table, spec_of(table.schema)).numpy()
    np.testing.assert_array_equal(frames, [frames_of(RAW, number) for number in (0, 1, 3, 4)])
    assert (
        pq.read_schema(output / "clips" / name).metadata[b"vidpipe"]
        == (pq.read_schema(output / "clips/a.parquet").metadata[b"vidpipe"])
    )
    assert (output / "clips/a.parquet").exists(), "the old part stays until no status row names it"


def test_rewriting_a_part_twice_gives_the_same_file(output):
    wanted = [receipt("two", 1, label="right")]
    (first,) = rewrite_part("a.parquet", wanted, settings_of(output, RAW))
    content = (output / "clips" / first["part"]).read_bytes()
    (again,) = rewrite_part("a.parquet", wanted, settings_of(output, RAW))
    assert again == first
    assert (output / "clips" / first["part"]).read_bytes() == content


def test_spool_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen(["true"]) as ended:
        pass
    with spool_folder() as ours:
        prefix, _, ending = ours.name.rpartition(f"-{os.getpid()}-")
    dead, living, of_another_machine, of_somebody = (
        tmp_path / name
        for name in (
            f"{prefix}-{ended.pid}-{ending}",
            f"{prefix}-{os.getppid()}-{ending}",
            f"vidpipe-spool-0123456789abcdef-{ended.pid}-{ending}",
            "vidpipe-spool-notes",
        )
    )
    for folder in (dead, living, of_another_machine, of_somebody):
        folder.mkdir()
        (folder / "0.part").touch()
    with spool_folder() as ours:
        assert not dead.exists()
        assert all(folder.exists() for folder in (living, of_another_machine, of_somebody))
        assert ours.parent == tmp_path
        (ours / "file").touch()
    assert not ours.exists()
