"""Large objects through a whole task: read by ranges, accounted for, and never a mixture of two."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from film import film
from fsspec.implementations.memory import MemoryFileSystem
from odd_videos import X264_PLAIN
from test_make_parts import clips_of, manifest_row, settings_of

import vidpipe.delivery
import vidpipe.ranges
import vidpipe.transfer
from vidpipe.make_parts import make_parts
from vidpipe.ranges import RangeCopy, RangeError
from vidpipe.spec import ClipSpec
from vidpipe.transfer import check_version, fetch_video

SPEC = ClipSpec(num_frames=4, size="32")
FINE = X264_PLAIN | {"crf": "4"}
large_film = partial(film, codec="libx264", options=FINE, num=400, size=(240, 320))
FILMS = {
    "plain.mp4": large_film,
    "fragmented.mp4": partial(large_film, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "cues.mkv": large_film,
    "stream.ts": large_film,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("large")
    for name, write in FILMS.items():
        write(folder / name)
    return {name: folder / name for name in FILMS}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder of fsspec's memory file system; objects from 1 MB on count as large."""
    monkeypatch.setattr(vidpipe.transfer, "FROM_BYTES", 1 << 20)
    monkeypatch.setattr(vidpipe.delivery, "FROM_BYTES", 1 << 20)
    store = fsspec.filesystem("memory")
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)
    return "memory://bucket"


def upload(path: Path, url: str) -> dict[str, Any]:
    fsspec.filesystem("memory").pipe_file(url, path.read_bytes())
    return manifest_row(url)


def test_a_large_object_gives_the_clips_of_the_file_from_a_part_of_its_bytes(films, bucket, tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    rows = {name: upload(path, f"{bucket}/{name}") for name, path in films.items()}
    assert min(row["size_bytes"] for row in rows.values()) > 2 << 20
    receipts = dict(zip(rows, make_parts(list(rows.values()), settings_of(tmp_path / "remote", SPEC)), strict=True))
    local = make_parts([manifest_row(path) for path in films.values()], settings_of(tmp_path / "local", SPEC))
    for receipt, here in zip(receipts.values(), local, strict=True):
        assert receipt["status"] == "ok", receipt
        same = ("duration_s", "width", "height", "codec", "num_clips")
        assert [receipt[name] for name in same] == [here[name] for name in same]
    remote_clips, local_clips = clips_of(tmp_path / "remote"), clips_of(tmp_path / "local")
    assert len(remote_clips) == len(local_clips) == len(films)
    for name, path in films.items():
        np.testing.assert_array_equal(remote_clips[rows[name]["url"], 0], local_clips[str(path), 0])
    for name in ("plain.mp4", "fragmented.mp4", "cues.mkv"):
        assert receipts[name]["bytes_read"] < 0.7 * rows[name]["size_bytes"]
        assert receipts[name]["num_requests"] > 1
    assert receipts["stream.ts"]["bytes_read"] == rows["stream.ts"]["size_bytes"]
    assert not list(spool.iterdir())


def test_an_object_that_was_replaced_since_it_was_listed_is_not_delivered(films, bucket):
    row = upload(films["plain.mp4"], f"{bucket}/a.mp4")
    (receipt,) = make_parts([{**row, "version": "1-1766000000.5"}], settings_of(f"{bucket}/out", SPEC))
    assert (receipt["status"], receipt["error_code"]) == ("failed", "not_found")
    assert "replaced since it was listed" in receipt["error"]


def test_a_version_of_the_users_own_is_compared_with_nothing(films, bucket):
    row = upload(films["plain.mp4"], f"{bucket}/a.mp4")
    (receipt,) = make_parts([{**row, "version": "2026-11"}], settings_of(f"{bucket}/out", SPEC))
    assert receipt["status"] == "ok"


@pytest.mark.parametrize("by_range", [False, True])
def test_the_request_that_asks_for_the_version_is_counted_however_the_rest_was_read(
    films, bucket, tmp_path, monkeypatch, by_range
):
    requests = []
    for name in ("cat_file", "info"):
        ask = getattr(MemoryFileSystem, name)
        monkeypatch.setattr(
            MemoryFileSystem, name, lambda *args, ask=ask, **options: [requests.append(1), ask(*args, **options)][1]
        )
    row = upload(films["stream.ts"], f"{bucket}/a.ts")
    requests.clear()
    file = fetch_video(row["url"], tmp_path, size_bytes=row["size_bytes"], version=row["version"], by_range=by_range)
    check_version(row["url"], row["version"])
    assert file.num_requests == len(requests)


def test_a_large_object_that_was_cut_short_is_truncated(films, bucket, tmp_path):
    for name in ("plain.mp4", "fragmented.mp4", "cues.mkv"):
        cut = tmp_path / name
        cut.write_bytes(films[name].read_bytes()[: films[name].stat().st_size * 3 // 5])
        (receipt,) = make_parts([upload(cut, f"{bucket}/{name}")], settings_of(f"{bucket}/out", SPEC))
        assert receipt["error_code"] == "truncated", name


def test_a_fault_of_the_storage_is_not_the_videos(films, bucket, monkeypatch):
    row = upload(films["plain.mp4"], f"{bucket}/a.mp4")
    fetch = RangeCopy.fetch

    def fails_later(self: RangeCopy, ranges: list[tuple[int, int]]) -> None:
        if ranges[0][0] > 0:
            raise OSError("connection reset")
        fetch(self, ranges)

    monkeypatch.setattr(RangeCopy, "fetch", fails_later)
    with pytest.raises(OSError, match="connection reset"):
        make_parts([row], settings_of(f"{bucket}/out", SPEC))
    monkeypatch.undo()
    (receipt,) = make_parts([row], settings_of(f"{bucket}/out", SPEC))  # the child is as good as new
    assert receipt["status"] == "ok"


def test_a_child_gets_no_bytes_outside_of_its_object_and_not_more_than_twice(bucket, tmp_path):
    fsspec.filesystem("memory").pipe_file(f"{bucket}/a", bytes(1000))
    copy = RangeCopy(f"{bucket}/a", 1000, tmp_path / "copy")
    for wanted in [(-1, 5), (900, 1001), (5, 5)]:
        with pytest.raises(RangeError, match="ranges outside of 0 to 1000"):
            copy.fetch([wanted])
    copy.fetch([(0, 900)])
    with pytest.raises(RangeError, match="more than twice"):
        copy.fetch([(0, 101)])


def test_an_object_that_shrank_is_a_fault_of_the_storage(bucket, tmp_path):
    fsspec.filesystem("memory").pipe_file(f"{bucket}/a", bytes(1000))
    with pytest.raises(OSError, match="1000 bytes came"):
        RangeCopy(f"{bucket}/a", 2000, tmp_path / "copy")
