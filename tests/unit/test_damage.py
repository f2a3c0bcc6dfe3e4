"""Damage told apart: what was needed fails the video, or is kept on demand; what was not is counted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from odd_videos import ODD_VIDEOS
from test_exactness import Fingerprint, full_decode
from test_make_parts import manifest_row, settings_of

import vidpipe.decode.packets
import vidpipe.decode.pyav
from vidpipe.clips import read_clips
from vidpipe.contact_sheet import caption
from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pyav import PyavVideo
from vidpipe.errors import DecodeError
from vidpipe.ledger import Ledger
from vidpipe.make_parts import make_parts
from vidpipe.run_file import Tally
from vidpipe.spec import ClipSpec

EVERY = {"sampling": "fps", "rate_fps": 25.0, "size": "24x32", "resize": "squash"}
BROKEN = 36  # the packet that is zeroed


@pytest.fixture
def exact(monkeypatch) -> None:
    """Frames are hashes of what the decoder hands to the resize."""
    monkeypatch.setattr(vidpipe.decode.pyav, "Resizer", Fingerprint)


def packets(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def zeroed(folder: Path, name: str, number: int = BROKEN) -> tuple[Path, Path]:
    """A video, and a copy in which the bytes of one packet are zeros."""
    whole, broken = folder / name, folder / f"zeroed_{name}"
    ODD_VIDEOS[name](whole)
    packet = packets(whole)[number]
    data = bytearray(whole.read_bytes())
    start = data.index(bytes(packet), packet.pos)
    data[start : start + packet.size] = bytes(packet.size)
    broken.write_bytes(data)
    return whole, broken


def without_packet(folder: Path, name: str, number: int) -> tuple[Path, Path]:
    """An AVI, and a copy in which a packet is called junk, there and in the index."""
    whole, path = folder / name, folder / f"lost_{name}"
    ODD_VIDEOS[name](whole)
    data = bytearray(whole.read_bytes())
    entry = data.rindex(b"idx1") + 8 + 16 * number
    for start in (packets(whole)[number].pos - 8, entry):
        assert data[start : start + 4] == b"00dc"
        data[start : start + 4] = b"JUNK"
    path.write_bytes(data)
    return whole, path


def cut(folder: Path, name: str) -> Path:
    whole, path = folder / name, folder / f"cut_{name}"
    ODD_VIDEOS[name](whole)
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def status_of(path: Path, output: Path, **settings: object) -> dict[str, object]:
    """The status row that one video gets."""
    spec = ClipSpec(**settings)  # type: ignore[arg-type]
    (row,) = make_parts([manifest_row(path)], settings_of(output, spec))
    Ledger(str(output), spec).commit([row])
    return Ledger(str(output), spec).read().to_pylist()[0]


def frames_of(output: Path) -> dict[float, np.ndarray]:
    """One-frame clips by their times."""
    found = {}
    for clips in read_clips(str(output)):
        for (time_s,), frames in zip(clips.table["frame_pts_s"].to_pylist(), clips.numpy(), strict=True):
            found[time_s] = frames
    return found


NEEDED = ["h264_pyramid.mp4", "hevc_open_gop.mp4", "mjpeg.avi", "mpeg4_b.avi", "h264_open_gop.mkv"]


@pytest.mark.parametrize("name", NEEDED)
def test_damage_in_what_is_needed_fails_the_video_or_is_kept_and_counted(name, tmp_path):
    whole, broken = zeroed(tmp_path, name)
    failed = status_of(broken, tmp_path / "fail", **EVERY)
    assert (failed["status"], failed["error_code"], failed["num_damaged"]) == ("failed", "corrupt", None)
    kept = status_of(broken, tmp_path / "keep", on_damage="keep", **EVERY)
    assert kept["status"] == "ok"
    assert 0 < kept["num_damaged"] <= len(packets(whole)) - BROKEN
    intact = status_of(whole, tmp_path / "whole", **EVERY)
    assert (intact["status"], intact["num_damaged"]) == ("ok", 0)
    kept_frames, frames = frames_of(tmp_path / "keep"), frames_of(tmp_path / "whole")
    assert kept_frames.keys() <= frames.keys()
    before = [time_s for time_s in kept_frames if time_s < 0.9]  # the damage begins at 1.2 s or later
    assert len(before) > 20
    for time_s in before:
        np.testing.assert_array_equal(kept_frames[time_s], frames[time_s])


def test_a_picture_that_does_not_come_is_not_invented(tmp_path):
    """The one on screen before it stays there, and says its own time."""
    whole, broken = zeroed(tmp_path, "h264_pyramid.mp4", 40)
    lost_s = float(packets(whole)[40].pts * packets(whole)[40].time_base)
    settings = {**EVERY, "num_frames": 63}
    status_of(broken, tmp_path / "keep", on_damage="keep", **settings)
    (clips,) = read_clips(str(tmp_path / "keep"))
    times_s = clips.table["frame_pts_s"][0].as_py()
    number = next(number for number, time_s in enumerate(times_s) if abs(time_s - number / 25) > 1e-3)
    assert times_s[number] == pytest.approx((number - 1) / 25)
    assert number / 25 == pytest.approx(lost_s, abs=1e-3)
    np.testing.assert_array_equal(clips.numpy()[0, number], clips.numpy()[0, number - 1])
    assert [abs(time_s - index / 25) < 1e-3 for index, time_s in enumerate(times_s)].count(False) == 1


@pytest.mark.parametrize(("name", "number"), [("h264_pyramid.avi", BROKEN), ("mpeg4_packed_b.avi", BROKEN + 1)])
def test_damage_behind_what_is_needed_is_counted_where_it_is_seen(name, number, tmp_path, exact):
    whole, broken = zeroed(tmp_path, name, number)
    with closing(PyavVideo(str(broken), ClipSpec(), count=True)) as video:
        assert list(video.frames([0, 7, 20])) == [full_decode(whole)[index] for index in (0, 7, 20)]
        assert video.num_damaged > 0
        with pytest.raises(DecodeError, match="cannot be decoded"):
            list(video.frames([0, 62]))


def test_where_the_empty_packet_behind_packed_pictures_is_lost_the_pictures_are_counted(tmp_path, exact):
    _, lost = without_packet(tmp_path, "mpeg4_packed_b.avi", 34)
    keep = ClipSpec(on_damage="keep")
    with pytest.raises(IndexMismatch, match="contradict"):
        PyavVideo(str(lost), keep)
    with closing(PyavVideo(str(lost), keep, count=True)) as video:
        assert list(video.frames(range(len(video.times_s)))) == full_decode(lost)


def test_an_empty_picture_that_is_zeros_changes_nothing(tmp_path, exact):
    whole, broken = zeroed(tmp_path, "mpeg4_packed_b.avi", 34)
    with closing(PyavVideo(str(broken), ClipSpec(), count=True)) as video:
        assert list(video.frames(range(64))) == full_decode(whole)
        assert video.num_damaged == 0


def test_damage_that_nobody_had_to_look_at_is_not_known(tmp_path, exact):
    whole, broken = zeroed(tmp_path, "h264_pyramid.mp4")
    with closing(PyavVideo(str(broken), ClipSpec())) as video:
        assert list(video.frames([0, 7, 20, 60])) == [full_decode(whole)[index] for index in (0, 7, 20, 60)]
        assert video.num_damaged == 0


def test_the_packet_that_a_file_without_a_declared_end_breaks_off_in_is_counted(tmp_path):
    row = status_of(cut(tmp_path, "h264_pyramid.flv"), tmp_path / "out", num_frames=3, size="16")
    assert (row["status"], row["num_damaged"]) == ("ok", 1)


@pytest.mark.parametrize(
    "name", ["h264_faststart.mov", "h264_pyramid.mkv", "mpeg4_b.avi", "mjpeg.avi", "vp9_alt_ref.webm"]
)
@pytest.mark.parametrize("held", [True, False])
def test_a_file_cut_short_fails_or_what_is_there_of_it_is_kept(name, held, tmp_path, monkeypatch):
    if not held:
        monkeypatch.setattr(vidpipe.decode.packets, "HOLD_BYTES", 0)
        monkeypatch.setattr(vidpipe.decode.pyav, "HOLD_BYTES", 0)
    path = cut(tmp_path, name)
    with pytest.raises(DecodeError) as refused:
        PyavVideo(str(path), ClipSpec())
    assert refused.value.code == "truncated"
    times_s, frames, num_damaged = kept(path)
    assert 30 < len(frames) < 60
    assert num_damaged > 0
    with closing(PyavVideo(str(tmp_path / name), ClipSpec(size="16"))) as video:
        assert set(times_s) <= set(video.times_s.tolist())
        expected = dict(zip(video.times_s.tolist(), video.frames(range(len(video.times_s))), strict=True))
    for time_s, frame in list(zip(times_s, frames, strict=True))[:-3]:  # the last ones may want what is missing
        np.testing.assert_array_equal(frame, expected[time_s])


def kept(path: Path) -> tuple[list[float], list[np.ndarray], int]:
    """Times and frames of a damaged video, as the child process gets them, and the count of damage."""
    spec = ClipSpec(size="16", on_damage="keep")
    for count in (False, True):
        with closing(PyavVideo(str(path), spec, count=count)) as video:
            try:
                frames = list(video.frames(range(len(video.times_s))))
            except IndexMismatch:
                continue
            return video.times_s.tolist(), frames, video.num_damaged
    raise AssertionError("the pictures were counted and did not come")


@pytest.mark.parametrize("name", ["h264_faststart.mov", "mpeg4_b.avi"])
def test_a_large_file_cut_short_is_read_whole_to_be_kept(name, tmp_path):
    path = cut(tmp_path, name)
    size = path.stat().st_size
    with closing(RangeFile(str(path), size, [(0, size)], lambda ranges: None)) as file, pytest.raises(IndexMismatch):
        PyavVideo(file, ClipSpec(num_frames=3, on_damage="keep"))


def test_a_file_of_which_nothing_is_there_cannot_be_kept(tmp_path):
    whole = tmp_path / "h264_faststart.mov"
    ODD_VIDEOS[whole.name](whole)
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(DecodeError) as refused:
        PyavVideo(str(whole), ClipSpec(on_damage="keep"))
    assert refused.value.code == "truncated"


def test_a_run_counts_the_videos_that_are_ok_with_damage_and_the_contact_sheet_names_them(tmp_path):
    spec = ClipSpec(num_frames=3, size="16")
    videos = [cut(tmp_path, "h264_pyramid.flv"), tmp_path / "h264_pyramid.flv"]
    rows = make_parts([manifest_row(path) for path in videos], settings_of(tmp_path / "out", spec))
    ledger = Ledger(str(tmp_path / "out"), spec)
    ledger.commit(rows)
    tally = Tally()
    for receipt in ledger.read().to_pylist():
        tally.add(receipt)
    assert (tally.num_ok, tally.num_with_damage) == (2, 1)
    assert caption(rows[0]).endswith("damaged packets: 1")
    assert "damage" not in caption(rows[1])
