"""The child that decodes: one serves many videos, holds nothing of its parent's, and does not grow."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from guarded import (
    FAULTS_FOLDER,
    LARGE,
    MEMORY_LIMIT,
    child_pids,
    make_guard,
    outcome,
    rss_bytes,
    wait_until_gone,
)
from small_videos import write_generated

from vidpipe.errors import DecodeError
from vidpipe.guard import Clip, Guard, VideoFacts
from vidpipe.spec import ClipSpec

pytestmark = pytest.mark.usefixtures("no_child_is_left")
PARENT = """
import sys
from vidpipe.guard import Guard
from vidpipe.spec import ClipSpec
guard = Guard(ClipSpec(), time_limit_s=600, memory_limit_bytes=1 << 28)
for path in sys.argv[1:]:
    for event in guard.decode(path, path):
        print(type(event).__name__, flush=True)
"""


def test_time_that_the_caller_takes_is_not_the_videos(plain_video):
    with make_guard(LARGE, time_limit_s=1) as guard:
        for event in guard.decode(str(plain_video), "a video"):
            if isinstance(event, Clip) and event.clip_index == 0:
                time.sleep(1.2)


def test_one_child_serves_many_videos_and_ends_with_its_guard(plain_video):
    with make_guard() as guard:
        assert outcome(guard, plain_video) == "ok"
        pids = child_pids()
        assert outcome(guard, plain_video) == "ok"
        assert child_pids() == pids
        assert len(pids) == 1
    assert child_pids() == []


def test_the_child_holds_no_credentials_and_no_secrets(plain_video, monkeypatch):
    secrets = {"AWS_ACCESS_KEY_ID": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_SESSION_TOKEN": "s3cret"}
    for name, value in {**secrets, "RAY_AUTH_TOKEN": "s3cret", "HF_TOKEN": "s3cret"}.items():
        monkeypatch.setenv(name, value)
    with make_guard() as guard:
        assert outcome(guard, plain_video) == "ok"
        environment = Path(f"/proc/{child_pids()[0]}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"AWS_" not in environment
    assert b"s3cret" not in environment


def test_the_child_holds_no_open_files_of_its_parent(plain_video, tmp_path):
    with (tmp_path / "private").open("w") as file, make_guard() as guard:
        os.set_inheritable(file.fileno(), True)
        assert outcome(guard, plain_video) == "ok"
        opened = [os.readlink(link) for link in Path(f"/proc/{child_pids()[0]}/fd").iterdir()]
    assert str(tmp_path / "private") not in opened


@pytest.mark.parametrize("fault", ["hang", "hang_deaf", "none"])
def test_the_child_dies_with_its_parent_even_in_a_hang(fault, plain_video, tmp_path):
    last = tmp_path / f"a-{fault}.mp4"
    shutil.copy(plain_video, last)
    environment = {**os.environ, "PYTHONPATH": str(FAULTS_FOLDER)}
    command = [sys.executable, "-c", PARENT, plain_video, last]
    if fault == "none":  # between two videos
        command = [sys.executable, "-c", PARENT + "sys.stdin.read()", plain_video]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline(), parent.stdout.readline()] == ["Clip\n", "VideoFacts\n"]
        time.sleep(0.3)  # for the second video to begin
        (child,) = child_pids(parent.pid)
        parent.kill()
    assert wait_until_gone(child)


@pytest.fixture(scope="module")
def three_minutes(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "three_minutes.mp4"
    return write_generated(path, "h264_mp4", num_frames=180 * 5, height=48, width=64, fps=5)


def test_memory_does_not_grow_with_the_length_of_a_video(three_minutes):
    """179 clips of 2.4 MB: 430 MB in all, of which neither side ever holds more than a few clips."""
    spec = ClipSpec(sampling="windows", window_s=2.0, hop_s=1.0, size="224")
    num_clips, num_bytes = 0, 0
    with Guard(spec, time_limit_s=60, memory_limit_bytes=MEMORY_LIMIT) as guard:
        for event in guard.decode(str(three_minutes), "long"):
            if isinstance(event, VideoFacts):
                break
            num_clips += 1
            num_bytes += len(event.payload)
            if num_clips == 10:
                child, before = child_pids()[0], rss_bytes("self")
                child_before = rss_bytes(child)
            if num_clips > 10 and num_clips % 10 == 0:
                assert rss_bytes("self") < before + (30 << 20)
        assert rss_bytes(child, "VmHWM") < child_before + (30 << 20)
    assert num_clips == 179
    assert num_bytes == 179 * spec.num_bytes_raw > 400 << 20


def test_overlapping_clips_hold_the_same_frames_as_separate_ones(three_minutes):
    overlapping = ClipSpec(sampling="windows", window_s=2.0, hop_s=0.5, num_frames=4, size="16")
    separate = ClipSpec(sampling="windows", window_s=2.0, num_frames=4, size="16")
    frames = {}
    for spec in (overlapping, separate):
        with make_guard(spec) as guard:
            *clips, _ = guard.decode(str(three_minutes), "long")
        frames[spec] = {clip.start_s: np.frombuffer(clip.payload, np.uint8) for clip in clips}
    assert len(frames[overlapping]) == 357
    for start_s, expected in frames[separate].items():
        np.testing.assert_array_equal(frames[overlapping][start_s], expected)


def test_jpeg_clips_come_with_the_size_of_each_frame(plain_video):
    with make_guard(ClipSpec(size="32x48", num_frames=4, encoding="jpeg")) as guard:
        clip, _ = guard.decode(str(plain_video), "a video")
    assert clip.sizes is not None
    assert len(clip.sizes) == 4
    assert sum(clip.sizes) == len(clip.payload)
    assert clip.payload.startswith(b"\xff\xd8")


def test_a_video_announced_as_the_following_one_is_the_next_answer(plain_video, generated):
    others = [generated["vp9_webm"], generated["mjpeg_avi"]]
    with make_guard() as guard:
        alone = [list(guard.decode(str(path), path.name)) for path in [plain_video, *others]]
        chained = []
        for path, following in [(plain_video, others[0]), (others[0], others[1]), (others[1], None)]:
            announced = None if following is None else (str(following), following.name)
            chained.append(list(guard.decode(str(path), path.name, announced)))
    assert [[clip.payload for clip in events[:-1]] for events in chained] == [
        [clip.payload for clip in events[:-1]] for events in alone
    ]


def test_a_crash_takes_the_announced_video_with_it_and_it_is_asked_for_again(plain_video, tmp_path, faults):
    crashing = tmp_path / "a-segfault.mp4"
    shutil.copy(plain_video, crashing)
    with make_guard() as guard:
        with pytest.raises(DecodeError, match="SIGSEGV"):
            list(guard.decode(str(crashing), "bad", following=(str(plain_video), plain_video.name)))
        assert outcome(guard, plain_video) == "ok"


def test_an_announced_video_that_is_not_asked_for_does_not_answer_for_another(plain_video, generated):
    other = generated["vp9_webm"]
    with make_guard() as guard:
        list(guard.decode(str(plain_video), plain_video.name, following=(str(plain_video), "announced in vain")))
        *_, facts = guard.decode(str(other), other.name)
    assert facts.facts["codec"] == "vp9"
