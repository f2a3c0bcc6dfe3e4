"""A full disk: nothing is recorded that is not there, no video is blamed, and with room the same command goes on."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray.exceptions
import s3fs
from running import S3Server

from vidpipe.clips import read_clips
from vidpipe.config import PreprocessConfig
from vidpipe.ledger import open_ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.manifest.load import load_manifest
from vidpipe.spec import ClipSpec
from vidpipe.stages.preprocess import preprocess

SPEC = ClipSpec(size="64", num_frames=16)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.usefixtures("ray_local")
def test_an_output_without_room_ends_the_run_and_with_room_the_same_command_goes_on(
    twenty_videos: Path, small_disk: Path
):
    config = PreprocessConfig(source=str(twenty_videos), output=str(small_disk / "out"), clip=SPEC, layout="folders")
    with pytest.raises((OSError, ray.exceptions.RayTaskError), match="No space left on device"):
        preprocess(config)
    assert not (small_disk / "out" / "run.json").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    preprocess(config)
    status = open_ledger(config.output).read(["video_id", "status"])
    assert status["status"].to_pylist() == ["ok"] * 20
    assert sum(len(clips.table) for clips in read_clips(config.output)) == 20


def test_a_spool_folder_without_room_is_no_fault_of_the_video(
    s3: S3Server, twenty_videos: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bucket = s3.make_bucket()
    video = next(twenty_videos.rglob("*.mp4")).read_bytes()
    s3fs.S3FileSystem().pipe_file(f"{bucket}/videos/large.mp4", video + bytes(2 << 20))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    rows = load_manifest(f"{bucket}/videos", "flat").to_pylist()
    limits = {"part_bytes": 1 << 20, "time_limit_s": 60.0, "memory_limit_bytes": 1 << 30}
    settings = PartSettings(output=str(tmp_path / "out"), spec=SPEC, **limits)
    with pytest.raises(OSError, match="No space left") as caught:
        make_parts(rows, settings)
    assert caught.value.errno == errno.ENOSPC
