"""The preprocess stage on a real local Ray and local files: the accounts, the increment, and every kind of clip."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from bad_videos import BAD_VIDEOS
from PIL import Image

from vidpipe.clips import read_clips
from vidpipe.config import PreprocessConfig
from vidpipe.decode import open_video
from vidpipe.delivery import Delivery, deliveries
from vidpipe.errors import FailureRateError
from vidpipe.make_parts import PartSettings
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec
from vidpipe.stages.preprocess import make_parts_task, preprocess
from vidpipe.synthetic import generate_folder

pytestmark = pytest.mark.usefixtures("ray_local")

SPEC = ClipSpec(size="32", num_frames=4)

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers know vidpipe, not its tests


@pytest.fixture
def videos(twenty_videos: Path, tmp_path: Path) -> Path:
    """A folder of 20 good videos that a test may change."""
    return Path(shutil.copytree(twenty_videos, tmp_path / "videos"))


def run_stage(source: Path, output: Path, spec: ClipSpec = SPEC, **settings: Any) -> dict[str, Any]:
    """Run the stage; what run.json says."""
    preprocess(PreprocessConfig(source=str(source), output=str(output), clip=spec, **settings))
    return json.loads((output / "run.json").read_text())


def counts(**numbers: int) -> dict[str, int]:
    """The counts of a run.json; what is not named is 0."""
    return {"videos": 0, "ok": 0, "failed": 0, "unchanged": 0, "remaining": 0} | numbers


def status_of(output: Path) -> dict[str, dict[str, Any]]:
    """The status row of each video, as a plain Parquet reader finds them; a video must not have two."""
    rows = pandas.read_parquet(output / "status").replace({np.nan: None}).to_dict("records")
    by_url = {row["url"]: row for row in rows}
    assert len(by_url) == len(rows), "a video has more than one status row"
    return by_url


def clips_of(output: Path, columns: tuple[str, ...] = ("url", "clip_index", "label", "version")) -> list[tuple]:
    """Rows of every file in clips/, sorted: what a reader sees that knows nothing of the ledger."""
    return sorted(polars.read_parquet(f"{output}/clips/*.parquet", columns=list(columns)).select(columns).rows())


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def urls_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def test_every_video_good_or_bad_is_accounted_for(videos: Path, tmp_path: Path):
    answers: dict[str, set[str]] = {url: {"ok"} for url in urls_in(videos)}
    for name, (write, right) in BAD_VIDEOS.items():
        path = videos / "bad" / name
        path.parent.mkdir(exist_ok=True)
        write(path, np.random.default_rng(0))
        answers[str(path)] = {right} if isinstance(right, str) else right
    out = tmp_path / "out"
    run = run_stage(videos, out, max_failure_rate=1.0, video_memory_mb=512)

    status = status_of(out)
    given = {url: row["error_code"] or "ok" for url, row in status.items()}
    assert {url: code for url, code in given.items() if code not in answers[url]} == {}
    assert status.keys() == answers.keys()
    num_ok = sum(row["status"] == "ok" for row in status.values())
    assert run["counts"] == counts(videos=len(answers), ok=num_ok, failed=len(answers) - num_ok)
    assert run["failed_by_code"] == Counter(code for code in given.values() if code != "ok")
    assert all(row["error"] and row["num_clips"] == 0 for row in status.values() if row["status"] == "failed")
    assert {url for url, *_ in clips_of(out)} == {url for url, code in given.items() if code == "ok"}


def test_clips_hold_exactly_the_frames_that_a_plain_decode_gives(videos: Path, tmp_path: Path):
    run_stage(videos, tmp_path / "out")
    seen = set()
    for part in read_clips(str(tmp_path / "out")):
        for row, frames in zip(part.table.drop_columns("frames").to_pylist(), part.numpy(), strict=True):
            with open_video(row["url"], SPEC) as video:
                [plan] = plan_clips(video.times_s, SPEC, row["video_id"])
                np.testing.assert_array_equal(frames, np.stack(list(video.frames(plan.frame_indices))))
                assert row["frame_pts_s"] == video.times_s[plan.frame_indices].tolist()
            seen.add(row["url"])
    assert seen == urls_in(videos)


def test_a_rerun_changes_no_clip_and_does_not_even_import_ray(videos: Path, tmp_path: Path):
    out = tmp_path / "out"
    run_stage(videos, out)
    before = files_in(out / "clips") | files_in(out / "status")
    rerun = f"""
import sys
from vidpipe.config import PreprocessConfig
from vidpipe.spec import ClipSpec
from vidpipe.stages.preprocess import make_parts_task, preprocess
preprocess(PreprocessConfig(source={str(videos)!r}, output={str(out)!r}, clip=ClipSpec(size="32", num_frames=4)))
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", rerun], check=True, timeout=30)
    assert files_in(out / "clips") | files_in(out / "status") == before
    assert json.loads((out / "run.json").read_text())["counts"] == counts(videos=20, unchanged=20)


def test_an_increment_decodes_exactly_what_is_new_or_changed(videos: Path, tmp_path: Path):
    out = tmp_path / "out"
    run_stage(videos, out)
    before = {row[0]: row for row in clips_of(out)}
    changed = sorted(urls_in(videos))[:2]
    generate_folder(str(tmp_path / "other"), num_videos=7, seed=1, num_frames=24, height=64, width=96)
    replacements = sorted((tmp_path / "other").rglob("*.*"))
    for url in changed:
        shutil.copyfile(replacements.pop(), url)
    for path in replacements:
        shutil.copyfile(path, videos / f"new_{path.name}")

    run = run_stage(videos, out)
    assert run["counts"] == counts(videos=25, ok=7, unchanged=18)
    assert status_of(out).keys() == urls_in(videos)
    after = {row[0]: row for row in clips_of(out)}
    assert len(clips_of(out)) == 25
    assert {url for url in after if after[url] != before.get(url)} == urls_in(videos) - (before.keys() - {*changed})
    assert run_stage(videos, out)["counts"] == counts(videos=25, unchanged=25)


def test_a_corrected_label_reaches_the_clips_without_decoding(videos: Path, tmp_path: Path):
    out, table = tmp_path / "out", tmp_path / "videos.csv"
    urls = sorted(urls_in(videos))
    write_labels(table, dict.fromkeys(urls, "wrong"))
    run_stage(table, out)
    frames = clips_of(out, ("url", "frames"))
    labels = dict.fromkeys(urls, "wrong") | {urls[3]: "right", urls[7]: "right"}
    write_labels(table, labels)

    assert run_stage(table, out)["counts"] == counts(videos=20, unchanged=20)
    assert {url: label for url, _, label, _ in clips_of(out)} == labels
    assert {url: row["label"] for url, row in status_of(out).items()} == labels
    assert clips_of(out, ("url", "frames")) == frames


def write_labels(table: Path, labels: dict[str, str]) -> None:
    table.write_text("url,label\n" + "".join(f"{url},{label}\n" for url, label in labels.items()))


def test_limit_stops_early_and_the_next_run_does_the_rest(videos: Path, tmp_path: Path):
    assert run_stage(videos, tmp_path / "out", limit=8)["counts"] == counts(videos=20, ok=8, remaining=12)
    assert len(status_of(tmp_path / "out")) == 8
    assert run_stage(videos, tmp_path / "out")["counts"] == counts(videos=20, ok=12, unchanged=8)
    assert len(clips_of(tmp_path / "out")) == 20


def test_failed_videos_are_decoded_again_only_when_asked(videos: Path, tmp_path: Path):
    out = tmp_path / "out"
    broken = videos / "broken.mp4"
    broken.write_text("not a video")
    table = tmp_path / "videos.csv"
    # A fixed version stands for a fault that was not the file's: the bytes are mended, the version stays.
    rows = [f"{url},1,1\n" for url in sorted(urls_in(videos))]
    table.write_text("url,version,size_bytes\n" + "".join(rows))
    assert run_stage(table, out)["failed_by_code"] == {"not_a_video": 1}
    shutil.copyfile(min(urls_in(videos / "left")), broken)

    assert run_stage(table, out)["counts"] == counts(videos=21, unchanged=21)
    assert status_of(out)[str(broken)]["status"] == "failed"
    assert run_stage(table, out, retry_failed=True)["counts"] == counts(videos=21, ok=1, unchanged=20)
    assert status_of(out)[str(broken)]["status"] == "ok"
    assert len(clips_of(out)) == 21


def test_too_many_failures_are_an_error_after_everything_is_written(videos: Path, tmp_path: Path):
    (videos / "broken.mp4").write_text("not a video")
    with pytest.raises(FailureRateError, match=r"1 of 21 videos failed, --max-failure-rate is 0.01"):
        run_stage(videos, tmp_path / "out", max_failure_rate=0.01)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["counts"] == counts(videos=21, ok=20, failed=1)
    assert len(status_of(tmp_path / "out")) == 21
    assert len(clips_of(tmp_path / "out")) == 20


def test_a_dry_run_tells_the_plan_and_writes_nothing(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    config = PreprocessConfig(source=str(videos), output=str(out), clip=SPEC, dry_run=True)
    preprocess(config)
    assert "20: 20 to decode (20 new, 0 changed, 0 retried), 0 unchanged" in capsys.readouterr().out
    assert not out.exists() or urls_in(out) == set()
    run_stage(videos, out)
    before = files_in(out)
    (videos / "new.mp4").write_bytes(min((videos / "left").iterdir()).read_bytes())
    preprocess(config)
    assert "21: 1 to decode (1 new, 0 changed, 0 retried), 20 unchanged" in capsys.readouterr().out
    assert files_in(out) == before


def test_other_settings_on_the_same_output_are_refused_and_named(videos: Path, tmp_path: Path):
    run_stage(videos, tmp_path / "out", limit=2)
    before = files_in(tmp_path / "out")
    with pytest.raises(ValueError, match=r"size: 32, not 48.*another --output"):
        run_stage(videos, tmp_path / "out", ClipSpec(size="48", num_frames=4))
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("spec", "clips_a_video"),
    [
        (ClipSpec(size="24x40", color="gray", resize="letterbox"), 1),
        (ClipSpec(size="32", sampling="dense", num_frames=4, frame_stride=2, num_clips=3), 3),
        (ClipSpec(size="32", sampling="fps", rate_fps=5.0), 5),
        (ClipSpec(size="32", sampling="windows", num_frames=3, window_s=0.4), 3),
        (ClipSpec(size="32", num_frames=4, encoding="jpeg", jpeg_quality=90), 1),
        (ClipSpec(size="32", num_frames=4, encoding="jpeg", color="gray"), 1),
    ],
    ids=["gray", "dense", "fps", "windows", "jpeg", "gray jpeg"],
)
def test_clips_have_the_shape_that_was_asked_for(
    spec: ClipSpec, clips_a_video: int, twenty_videos: Path, tmp_path: Path
):
    out = tmp_path / "out"
    videos = Path(shutil.copytree(twenty_videos / "left", tmp_path / "videos"))
    run = run_stage(videos, out, spec)
    num_videos = len(urls_in(videos))
    assert run["counts"] == counts(videos=num_videos, ok=num_videos)
    assert run["num_clips"] == num_videos * clips_a_video
    shapes = [part.numpy().shape for part in read_clips(str(out))]
    assert sum(number for number, *_ in shapes) == num_videos * clips_a_video
    assert {tuple(shape) for _, *shape in shapes} == {spec.shape}


def test_jpeg_clips_look_like_the_raw_ones(twenty_videos: Path, tmp_path: Path):
    raw, jpeg = ({}, {})
    for spec, frames_of in ((SPEC, raw), (ClipSpec(size="32", num_frames=4, encoding="jpeg"), jpeg)):
        out = tmp_path / spec.encoding
        run_stage(twenty_videos / "left", out, spec)
        for part in read_clips(str(out)):
            frames_of |= dict(zip(part.table["url"].to_pylist(), part.numpy().astype(float), strict=True))
    assert raw.keys() == jpeg.keys()
    for url in raw:
        assert 0 < np.abs(raw[url] - jpeg[url]).mean() < 3


def test_the_contact_sheet_is_an_image_with_a_row_for_each_video(videos: Path, tmp_path: Path):
    run_stage(videos / "left", tmp_path / "out", contact_sheet=True)
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 8 * 112
        assert sheet.height > len(urls_in(videos / "left")) * 112
        assert np.asarray(sheet).std() > 20


def test_a_part_without_status_rows_is_removed(videos: Path, tmp_path: Path):
    out = tmp_path / "out"
    run_stage(videos, out)
    before = clips_of(out)
    part = next((out / "clips").iterdir())
    # What killed runs leave: a part of videos that were done once more since, and a file never finished.
    shutil.copyfile(part, part.with_name(f"{'ab' * 12}.parquet"))
    part.with_name(f".{'cd' * 12}.parquet.123").write_bytes(b"PAR1")
    assert run_stage(videos, out)["counts"] == counts(videos=20, unchanged=20)
    assert clips_of(out) == before
    assert all(not path.name.startswith((".", "abab")) for path in (out / "clips").iterdir())


def test_whole_parts_that_were_never_recorded_count_without_decoding(videos: Path, tmp_path: Path):
    out = tmp_path / "out"
    run_stage(videos, out)
    clips, status = files_in(out / "clips"), status_of(out)
    for path in (out / "status").iterdir():
        path.unlink()
    run = run_stage(videos, out)
    assert run["counts"] == counts(videos=20, unchanged=20)
    assert run["decode_cpu_s"] == 0
    assert files_in(out / "clips") == clips
    assert status_of(out) == status


def test_a_task_that_is_long_at_work_hands_out_receipts_before_ray_gives_it_up(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Six videos of two seconds each in one task, where Ray ends a dataset without output after ten."""
    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 10.0)
    monkeypatch.setattr("vidpipe.parcels.OTHER_WORK_S", 0.0)
    out = tmp_path / "out"
    config = PreprocessConfig(source=str(videos), output=str(out), clip=SPEC, limit=6, num_workers=1, video_timeout_s=5)
    preprocess(config, slow_task)
    assert json.loads((out / "run.json").read_text())["counts"] == counts(videos=20, ok=6, remaining=14)
    assert len({row["part"] for row in status_of(out).values()}) > 1


def slow_task(videos: pa.Table, settings: PartSettings) -> Iterator[pa.Table]:
    """Take two seconds for each video; receipts leave after one."""

    def slow_deliveries(*arguments: Any) -> Iterator[Delivery]:
        for delivery in deliveries(*arguments):
            time.sleep(2)
            yield delivery

    with patch("vidpipe.make_parts.deliveries", slow_deliveries):
        yield from make_parts_task(videos, dataclasses.replace(settings, receipts_every_s=1.0))


def test_receipts_that_a_lost_worker_takes_along_or_that_come_again_by_other_parts_change_nothing(
    videos: Path, tmp_path: Path
):
    """What comes of a task that Ray runs again: its receipts count on from where the first run was, not from which."""
    out = tmp_path / "out"
    (videos / "bad.mp4").write_text("not a video")
    config = PreprocessConfig(source=str(videos), output=str(out), clip=SPEC, num_workers=1)
    preprocess(config, task_run_again)
    run = json.loads((out / "run.json").read_text())
    assert run["counts"] == counts(videos=21, ok=20, failed=1)
    assert run["num_clips"] == sum(row["num_clips"] for row in status_of(out).values()) == len(clips_of(out))
    calm = run_stage(videos, tmp_path / "calm")
    assert (calm["counts"], calm["num_clips"]) == (run["counts"], run["num_clips"])
    assert clips_of(out) == clips_of(tmp_path / "calm")
    assert {row["part"] for row in status_of(out).values() if row["part"]} == set(os.listdir(out / "clips"))


def task_run_again(videos: pa.Table, settings: PartSettings) -> Iterator[pa.Table]:
    """Receipts of three videos, then those of a second run: from the second video on, and the last four are lost."""
    if len(videos) < 15:  # a later round
        yield from make_parts_task(videos, settings)
        return
    at_once = dataclasses.replace(settings, receipts_every_s=0.0)
    yield from make_parts_task(videos.slice(0, 3), settings)
    yield from make_parts_task(videos.slice(1, 5), settings)
    yield from make_parts_task(videos.slice(6, len(videos) - 10), at_once)
    list(make_parts_task(videos.slice(len(videos) - 4), settings))


def test_a_deleted_video_keeps_its_clips_and_is_counted_as_gone(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    run_stage(videos, out)
    before = clips_of(out)
    for url in sorted(urls_in(videos))[:3]:
        Path(url).unlink()
    capsys.readouterr()
    assert run_stage(videos, out)["counts"] == counts(videos=17, unchanged=17)
    assert "3 of earlier runs are no longer listed" in capsys.readouterr().out
    assert clips_of(out) == before
    assert len(status_of(out)) == 20


def test_a_video_that_vanishes_after_the_listing_fails_as_not_found(videos: Path, tmp_path: Path):
    table = tmp_path / "videos.csv"
    gone = str(videos / "gone.mp4")
    table.write_text("url\n" + "".join(f"{url}\n" for url in [*sorted(urls_in(videos)), gone]))
    assert run_stage(table, tmp_path / "out")["failed_by_code"] == {"not_found": 1}
    assert status_of(tmp_path / "out")[gone]["error_code"] == "not_found"


def test_the_parts_carry_their_settings_and_their_decoder(videos: Path, tmp_path: Path):
    run_stage(videos, tmp_path / "out", limit=1)
    [part] = (tmp_path / "out" / "clips").iterdir()
    facts = json.loads(pq.read_schema(part).metadata[b"vidpipe"])
    assert facts["shape"] == list(SPEC.shape)
    assert ClipSpec(**facts["clip_spec"]) == SPEC
    assert facts["decoder"]
    assert pq.read_schema(part).field("frames").type == pa.binary(4 * 32 * 32 * 3)
