"""What a video can do to the process that decodes it costs that video, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults.injected import marked
from small_videos import write_generated

from vidpipe.errors import DecodeError
from vidpipe.guard import Clip, Guard, Restart, VideoFacts
from vidpipe.spec import ClipSpec

FAULTS_FOLDER = Path(__file__).parent.parent / "faults"
SPEC = ClipSpec(size="32x48", num_frames=4)
LARGE = ClipSpec(sampling="windows", window_s=0.2, num_frames=16)  # 10 clips of 600 KB: more than a socket holds
MEMORY_LIMIT = 256 << 20


others_children: set[int] = set()


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """Tests of tasks before these keep their child between tasks."""
    others_children.clear()
    others_children.update(child_pids())
    yield
    assert child_pids() == []


@pytest.fixture
def faults(monkeypatch) -> None:
    """Children started from here on misbehave on marked videos."""
    monkeypatch.syspath_prepend(FAULTS_FOLDER)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_generated(tmp_path_factory.mktemp("good") / "good.mp4", "h264_mp4", num_frames=50)


def make_guard(spec: ClipSpec = SPEC, *, time_limit_s: float = 30) -> Guard:
    return Guard(spec, time_limit_s=time_limit_s, memory_limit_bytes=MEMORY_LIMIT)


def child_pids(pid: int | None = None) -> list[int]:
    """Decoding children of a process (this one: those of the present test)."""
    pid = pid or os.getpid()
    children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())) - others_children
    return sorted(child for child in children if b"vidpipe.child" in Path(f"/proc/{child}/cmdline").read_bytes())


def rss_bytes(pid: int | str, field: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) << 10


def wait_until_gone(pid: int) -> bool:
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def outcome(guard: Guard, path: Path) -> str:
    try:
        events = list(guard.decode(str(path), path.name))
    except DecodeError as error:
        return error.code
    assert isinstance(events[-1], VideoFacts)
    return "ok"


def test_a_video_comes_as_clips_in_order_and_then_its_facts(good):
    with make_guard(LARGE) as guard:
        *clips, facts = guard.decode(str(good), "a video")
    assert [clip.clip_index for clip in clips] == list(range(10))
    assert {len(clip.payload) for clip in clips} == {LARGE.num_bytes_raw}
    assert clips[3].start_s == pytest.approx(0.6)
    assert len(clips[0].frame_pts_s) == 16
    assert (facts.num_clips, facts.codec, facts.height, facts.width) == (10, "h264", 96, 128)
    assert facts.duration_s == pytest.approx(2.0)
    assert facts.decode_s > 0


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("segfault", "crash", "SIGSEGV"),
        ("abort", "crash", "SIGABRT"),
        ("surprise", "crash", "KeyError"),
        ("exit", "crash", "exit status 3"),
        ("system_exit", "crash", "exit status 4"),
        ("eat_memory", "out_of_memory", "limit"),
        ("hang", "timeout", "--video-timeout-s"),
        ("hang_busy", "timeout", "3 s"),
        ("hang_deaf", "timeout", "3 s"),
        ("killed", "out_of_memory", "twice"),
    ],
)
def test_a_faulty_decode_costs_one_error_and_the_next_video_works(fault, code, words, good, tmp_path, faults):
    bad = tmp_path / f"a-{fault}.mp4"
    shutil.copy(good, bad)
    with make_guard(time_limit_s=3) as guard:
        assert outcome(guard, good) == "ok"
        start_s = time.monotonic()
        with pytest.raises(DecodeError, match=words) as failed:
            list(guard.decode(str(bad), "bad"))
        assert failed.value.code == code
        assert time.monotonic() - start_s < 3 + 3
        assert outcome(guard, good) == "ok"
    assert child_pids() == []


def test_a_crash_is_no_lack_of_memory_because_an_earlier_video_took_much(good, tmp_path, faults):
    hungry, crashing = tmp_path / "a-eat_memory.mp4", tmp_path / "a-segfault.mp4"
    shutil.copy(good, hungry)
    shutil.copy(good, crashing)
    with make_guard() as guard:
        assert outcome(guard, hungry) == "out_of_memory"
        assert outcome(guard, crashing) == "crash"


SMALL_PARENT = """
import sys
from vidpipe.errors import DecodeError
from vidpipe.guard import Guard
from vidpipe.spec import ClipSpec
with Guard(ClipSpec(), time_limit_s=60, memory_limit_bytes=1 << 28) as guard:
    for path in sys.argv[1:]:
        try:
            list(guard.decode(path, path))
            print("ok")
        except DecodeError as error:
            print(error.code)
"""


def test_a_decoder_that_aborts_for_lack_of_memory_is_told_from_one_that_crashes(good, tmp_path):
    """In a process of its own: a child's peak shows only above its parent's, and pytest has torch in it by now."""
    videos = [tmp_path / name for name in ("a-eat_memory_abort.mp4", "a-abort.mp4", "good.mp4")]
    for path in videos:
        shutil.copy(good, path)
    environment = {**os.environ, "PYTHONPATH": str(FAULTS_FOLDER)}
    command = [sys.executable, "-c", SMALL_PARENT, *videos]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.split() == ["out_of_memory", "crash", "ok"]


def test_a_large_parent_does_not_make_a_crash_a_lack_of_memory(good, tmp_path, faults):
    ballast = b"x" * (MEMORY_LIMIT * 5 // 4)
    bad = tmp_path / "a-segfault.mp4"
    shutil.copy(good, bad)
    with make_guard() as guard:
        assert outcome(guard, bad) == "crash"
    assert ballast[-1] == ord("x")


def test_a_mark_in_the_bytes_strikes_as_a_name_does(good, tmp_path, faults):
    path = tmp_path / "0123abcd"
    with make_guard() as guard:
        for fault in ("surprise", "segfault"):
            path.write_bytes(marked(good.read_bytes(), fault))
            assert outcome(guard, path) == "crash"


def test_a_marked_video_is_sound_without_the_faults(good, tmp_path):
    path = tmp_path / "a-segfault.mp4"
    path.write_bytes(marked(good.read_bytes(), "segfault"))
    with make_guard() as guard:
        assert outcome(guard, path) == "ok"


def test_noise_on_stdout_and_stderr_does_not_mix_with_the_answer(good, tmp_path, faults, capfd):
    noisy = tmp_path / "a-print.mp4"
    shutil.copy(good, noisy)
    with make_guard() as guard:
        assert outcome(guard, noisy) == "ok"
    assert "noise" in capfd.readouterr().out  # it was made, and went where noise goes


def test_a_child_killed_in_mid_video_starts_the_video_again(good):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(good), "a video")
        first = next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        rest = list(events)
        restarts = [event for event in rest if isinstance(event, Restart)]
        assert len(restarts) == 1
        after = rest[rest.index(restarts[0]) + 1 :]
        assert [event.clip_index for event in after[:-1]] == list(range(10))
        assert after[0] == first
        assert isinstance(after[-1], VideoFacts)


def test_a_child_killed_between_two_videos_costs_nothing(good):
    with make_guard() as guard:
        assert outcome(guard, good) == "ok"
        os.kill(child_pids()[0], signal.SIGKILL)
        assert outcome(guard, good) == "ok"


def test_a_child_killed_twice_on_one_video_ran_out_of_memory_most_likely(good):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(good), "a video")
        next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        while not isinstance(next(events), Restart):
            pass
        next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        with pytest.raises(DecodeError, match="twice") as failed:
            list(events)
        assert failed.value.code == "out_of_memory"
        assert outcome(guard, good) == "ok"


def test_a_video_given_up_half_way_does_not_answer_for_the_next(good, generated):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(good), "given up")
        next(events)
        events.close()
        *clips, facts = guard.decode(str(generated["hevc_mp4"]), "next")
        assert facts.codec == "hevc"
        assert clips[0].clip_index == 0


def test_time_that_the_caller_takes_is_not_the_videos(good):
    with make_guard(LARGE, time_limit_s=1) as guard:
        for event in guard.decode(str(good), "a video"):
            if isinstance(event, Clip) and event.clip_index == 0:
                time.sleep(1.2)


def test_one_child_serves_many_videos_and_ends_with_its_guard(good):
    with make_guard() as guard:
        assert outcome(guard, good) == "ok"
        pids = child_pids()
        assert outcome(guard, good) == "ok"
        assert child_pids() == pids
        assert len(pids) == 1
    assert child_pids() == []


def test_the_child_holds_no_credentials_and_no_secrets(good, monkeypatch):
    secrets = {"AWS_ACCESS_KEY_ID": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_SESSION_TOKEN": "s3cret"}
    for name, value in {**secrets, "RAY_AUTH_TOKEN": "s3cret", "HF_TOKEN": "s3cret"}.items():
        monkeypatch.setenv(name, value)
    with make_guard() as guard:
        assert outcome(guard, good) == "ok"
        environment = Path(f"/proc/{child_pids()[0]}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"AWS_" not in environment
    assert b"s3cret" not in environment


def test_the_child_holds_no_open_files_of_its_parent(good, tmp_path):
    with (tmp_path / "private").open("w") as file, make_guard() as guard:
        os.set_inheritable(file.fileno(), True)
        assert outcome(guard, good) == "ok"
        opened = [os.readlink(link) for link in Path(f"/proc/{child_pids()[0]}/fd").iterdir()]
    assert str(tmp_path / "private") not in opened


PARENT = """
import sys
from vidpipe.guard import Guard
from vidpipe.spec import ClipSpec
guard = Guard(ClipSpec(), time_limit_s=600, memory_limit_bytes=1 << 28)
for path in sys.argv[1:]:
    for event in guard.decode(path, path):
        print(type(event).__name__, flush=True)
"""


@pytest.mark.parametrize("fault", ["hang", "hang_deaf", "none"])
def test_the_child_dies_with_its_parent_even_in_a_hang(fault, good, tmp_path):
    last = tmp_path / f"a-{fault}.mp4"
    shutil.copy(good, last)
    environment = {**os.environ, "PYTHONPATH": str(FAULTS_FOLDER)}
    command = [sys.executable, "-c", PARENT, good, last]
    if fault == "none":  # between two videos
        command = [sys.executable, "-c", PARENT + "sys.stdin.read()", good]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline(), parent.stdout.readline()] == ["Clip\n", "VideoFacts\n"]
        time.sleep(0.3)  # for the second video to begin
        (child,) = child_pids(parent.pid)
        parent.kill()
    assert wait_until_gone(child)


def test_a_log_beside_the_faults_names_every_decode(good, tmp_path, monkeypatch, faults):
    (tmp_path / "decode.log").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with make_guard() as guard:
        for video_id in ("one", "two", "two"):
            list(guard.decode(str(good), video_id))
    expected = [f"{video_id}\t{good}" for video_id in ("one", "two", "two")]
    assert (tmp_path / "decode.log").read_text().splitlines() == expected


@pytest.fixture(scope="module")
def three_minutes(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "three_minutes.mp4"
    return write_generated(path, "h264_mp4", num_frames=180 * 5, height=48, width=64, fps=5)


def test_memory_does_not_grow_with_the_length_of_a_video(three_minutes):
    """180 clips of 2.4 MB: 430 MB in all, of which neither side ever holds more than a few clips."""
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
    assert num_clips == 180
    assert num_bytes == 180 * spec.num_bytes_raw > 400 << 20


def test_overlapping_clips_hold_the_same_frames_as_separate_ones(three_minutes):
    overlapping = ClipSpec(sampling="windows", window_s=2.0, hop_s=0.5, num_frames=4, size="16")
    separate = ClipSpec(sampling="windows", window_s=2.0, num_frames=4, size="16")
    frames = {}
    for spec in (overlapping, separate):
        with make_guard(spec) as guard:
            *clips, _ = guard.decode(str(three_minutes), "long")
        frames[spec] = {clip.start_s: np.frombuffer(clip.payload, np.uint8) for clip in clips}
    assert len(frames[overlapping]) == 360
    for start_s, expected in frames[separate].items():
        np.testing.assert_array_equal(frames[overlapping][start_s], expected)


def test_jpeg_clips_come_with_the_size_of_each_frame(good):
    with make_guard(ClipSpec(size="32x48", num_frames=4, encoding="jpeg")) as guard:
        clip, _ = guard.decode(str(good), "a video")
    assert clip.sizes is not None
    assert len(clip.sizes) == 4
    assert sum(clip.sizes) == len(clip.payload)
    assert clip.payload.startswith(b"\xff\xd8")


def test_a_video_announced_as_the_following_one_is_the_next_answer(good, generated):
    others = [generated["vp9_webm"], generated["mjpeg_avi"]]
    with make_guard() as guard:
        alone = [list(guard.decode(str(path), path.name)) for path in [good, *others]]
        chained = []
        for path, following in [(good, others[0]), (others[0], others[1]), (others[1], None)]:
            announced = None if following is None else (str(following), following.name)
            chained.append(list(guard.decode(str(path), path.name, announced)))
    assert [[clip.payload for clip in events[:-1]] for events in chained] == [
        [clip.payload for clip in events[:-1]] for events in alone
    ]


def test_a_crash_takes_the_announced_video_with_it_and_it_is_asked_for_again(good, tmp_path, faults):
    crashing = tmp_path / "a-segfault.mp4"
    shutil.copy(good, crashing)
    with make_guard() as guard:
        with pytest.raises(DecodeError, match="SIGSEGV"):
            list(guard.decode(str(crashing), "bad", following=(str(good), good.name)))
        assert outcome(guard, good) == "ok"


def test_an_announced_video_that_is_not_asked_for_does_not_answer_for_another(good, generated):
    other = generated["vp9_webm"]
    with make_guard() as guard:
        list(guard.decode(str(good), good.name, following=(str(good), "announced in vain")))
        *_, facts = guard.decode(str(other), other.name)
    assert facts.codec == "vp9"
