"""What a video can do to the process that decodes it costs that video, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from faults.injected import marked
from guarded import (
    FAULTS_FOLDER,
    LARGE,
    MEMORY_LIMIT,
    child_pids,
    make_guard,
    outcome,
)

from vidpipe.errors import DecodeError
from vidpipe.guard import Restart, VideoFacts

pytestmark = pytest.mark.usefixtures("no_child_is_left")
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


def test_a_video_comes_as_clips_in_order_and_then_its_facts(plain_video):
    with make_guard(LARGE) as guard:
        *clips, facts = guard.decode(str(plain_video), "a video")
    assert [clip.clip_index for clip in clips] == list(range(10))
    assert {len(clip.payload) for clip in clips} == {LARGE.num_bytes_raw}
    assert clips[3].start_s == pytest.approx(0.6)
    assert len(clips[0].frame_pts_s) == 16
    of_video = {"num_clips": 10, "codec": "h264", "height": 96, "width": 128, "num_damaged": 0, "max_shift_s": 0.0}
    assert facts.facts == {**of_video, "duration_s": pytest.approx(2.0)}
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
def test_a_faulty_decode_costs_one_error_and_the_next_video_works(fault, code, words, plain_video, tmp_path, faults):
    bad = tmp_path / f"a-{fault}.mp4"
    shutil.copy(plain_video, bad)
    with make_guard(time_limit_s=3) as guard:
        assert outcome(guard, plain_video) == "ok"
        start_s = time.monotonic()
        with pytest.raises(DecodeError, match=words) as failed:
            list(guard.decode(str(bad), "bad"))
        assert failed.value.code == code
        assert time.monotonic() - start_s < 3 + 3
        assert outcome(guard, plain_video) == "ok"
    assert child_pids() == []


def test_a_crash_is_no_lack_of_memory_because_an_earlier_video_took_much(plain_video, tmp_path, faults):
    hungry, crashing = tmp_path / "a-eat_memory.mp4", tmp_path / "a-segfault.mp4"
    shutil.copy(plain_video, hungry)
    shutil.copy(plain_video, crashing)
    with make_guard() as guard:
        assert outcome(guard, hungry) == "out_of_memory"
        assert outcome(guard, crashing) == "crash"


def test_a_decoder_that_aborts_for_lack_of_memory_is_told_from_one_that_crashes(plain_video, tmp_path):
    """In a process of its own: a child's peak shows only above its parent's, and pytest has torch in it by now."""
    videos = [tmp_path / name for name in ("a-eat_memory_abort.mp4", "a-abort.mp4", "good.mp4")]
    for path in videos:
        shutil.copy(plain_video, path)
    environment = {**os.environ, "PYTHONPATH": str(FAULTS_FOLDER)}
    command = [sys.executable, "-c", SMALL_PARENT, *videos]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.split() == ["out_of_memory", "crash", "ok"]


def test_a_large_parent_does_not_make_a_crash_a_lack_of_memory(plain_video, tmp_path, faults):
    ballast = b"x" * (MEMORY_LIMIT * 5 // 4)
    bad = tmp_path / "a-segfault.mp4"
    shutil.copy(plain_video, bad)
    with make_guard() as guard:
        assert outcome(guard, bad) == "crash"
    assert ballast[-1] == ord("x")


def test_a_mark_in_the_bytes_strikes_as_a_name_does(plain_video, tmp_path, faults):
    path = tmp_path / "0123abcd"
    with make_guard() as guard:
        for fault in ("surprise", "segfault"):
            path.write_bytes(marked(plain_video.read_bytes(), fault))
            assert outcome(guard, path) == "crash"


def test_a_marked_video_is_sound_without_the_faults(plain_video, tmp_path):
    path = tmp_path / "a-segfault.mp4"
    path.write_bytes(marked(plain_video.read_bytes(), "segfault"))
    with make_guard() as guard:
        assert outcome(guard, path) == "ok"


def test_noise_on_stdout_and_stderr_does_not_mix_with_the_answer(plain_video, tmp_path, faults, capfd):
    noisy = tmp_path / "a-print.mp4"
    shutil.copy(plain_video, noisy)
    with make_guard() as guard:
        assert outcome(guard, noisy) == "ok"
    assert "noise" in capfd.readouterr().out  # it was made, and went where noise goes


def test_ctrl_c_of_a_terminal_is_not_for_the_child(plain_video):
    with make_guard(LARGE) as guard:
        answers = guard.decode(str(plain_video), "a video")
        next(answers)
        for pid in child_pids():
            os.kill(pid, signal.SIGINT)
        *clips, facts = answers
    assert (len(clips), facts.facts["num_clips"]) == (9, 10)


def test_a_child_killed_in_mid_video_starts_the_video_again(plain_video):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(plain_video), "a video")
        first = next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        rest = list(events)
        restarts = [event for event in rest if isinstance(event, Restart)]
        assert len(restarts) == 1
        after = rest[rest.index(restarts[0]) + 1 :]
        assert [event.clip_index for event in after[:-1]] == list(range(10))
        assert after[0] == first
        assert isinstance(after[-1], VideoFacts)


@pytest.mark.parametrize("num_kills", [2, 3])
def test_a_child_killed_at_its_start_is_started_again_but_not_for_ever(plain_video, monkeypatch, num_kills):
    popen, started = subprocess.Popen, []

    def start(*args, **how):
        process = popen(*args, **how)
        if len(started) < num_kills:
            process.kill()
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    with make_guard() as guard:
        if num_kills < 3:
            assert outcome(guard, plain_video) == "ok"
        else:
            with pytest.raises(RuntimeError, match="cannot start: the decoder was killed by signal 9"):
                outcome(guard, plain_video)
    assert len(started) == 3


def test_a_child_killed_between_two_videos_costs_nothing(plain_video):
    with make_guard() as guard:
        assert outcome(guard, plain_video) == "ok"
        os.kill(child_pids()[0], signal.SIGKILL)
        assert outcome(guard, plain_video) == "ok"


def test_a_child_killed_twice_on_one_video_ran_out_of_memory_most_likely(plain_video):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(plain_video), "a video")
        next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        while not isinstance(next(events), Restart):
            pass
        next(events)
        os.kill(child_pids()[0], signal.SIGKILL)
        with pytest.raises(DecodeError, match="twice") as failed:
            list(events)
        assert failed.value.code == "out_of_memory"
        assert outcome(guard, plain_video) == "ok"


def test_a_video_given_up_half_way_does_not_answer_for_the_next(plain_video, generated):
    with make_guard(LARGE) as guard:
        events = guard.decode(str(plain_video), "given up")
        next(events)
        events.close()
        *clips, facts = guard.decode(str(generated["hevc_mp4"]), "next")
        assert facts.facts["codec"] == "hevc"
        assert clips[0].clip_index == 0


def test_a_log_beside_the_faults_names_every_decode(plain_video, tmp_path, monkeypatch, faults):
    (tmp_path / "decode.log").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with make_guard() as guard:
        for video_id in ("one", "two", "two"):
            list(guard.decode(str(plain_video), video_id))
    expected = [f"{video_id}\t{plain_video}" for video_id in ("one", "two", "two")]
    assert (tmp_path / "decode.log").read_text().splitlines() == expected
