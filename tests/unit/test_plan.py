"""Which packets are fed for which frames, without decoding anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from film import film
from odd_videos import X264_OPEN, X264_PLAIN

from vidpipe.decode.packets import PacketIndex
from vidpipe.decode.pictures import is_plausible, know_pictures
from vidpipe.decode.plan import Pictures, damaged, plan_runs, start_for
from vidpipe.decode.pyav import PyavVideo
from vidpipe.spec import ClipSpec


def stream(stamps: Sequence[int], starts: Sequence[int], idle: Sequence[int] = (), hidden: Sequence[int] = ()):
    positions = np.arange(len(stamps))
    is_start, is_idle, is_hidden = (np.isin(positions, chosen) for chosen in (starts, idle, hidden))
    return Pictures(np.array(stamps), is_start, ~is_hidden, is_idle, is_stamped=True)


#                I  p  b  b  I  p  b  b  I  p   b   b
CLOSED = stream([0, 3, 1, 2, 4, 7, 5, 6, 8, 11, 9, 10], starts=[0, 4, 8])
#              I  p  b  b  I  b  b  p  b  b  I   b   b
OPEN = stream([0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11], starts=[0, 4, 10])
# A second key frame from which not everything comes out right, such as one of a periodic intra refresh.
REFRESHED = stream([0, 1, 2, 3, 4, 5], starts=[0])
INTRA_ONLY = stream(range(8), starts=range(8), idle=range(8))
AV1 = stream(range(10), starts=[0, 6], idle=[1, 3, 5, 7, 9])


@pytest.mark.parametrize(
    ("pictures", "targets", "runs"),
    [
        pytest.param(CLOSED, [0], {(0, 1): [0]}, id="a key frame needs nothing else"),
        pytest.param(CLOSED, [2], {(0, 3): [0, 1, 2]}, id="decoding stops at the wanted picture"),
        pytest.param(CLOSED, [5], {(4, 6): [4, 5]}, id="decoding starts at the group's key frame"),
        pytest.param(CLOSED, [1, 11], {(0, 2): [0, 1], (8, 12): [8, 9, 10, 11]}, id="a group between is left out"),
        pytest.param(CLOSED, [1, 3], {(0, 4): [0, 1, 2, 3]}, id="one group is decoded once"),
        pytest.param(CLOSED, [0, 4], {(0, 1): [0], (4, 5): [4]}, id="two groups are two runs"),
        pytest.param(OPEN, [9], {(4, 10): [4, 7, 8, 9]}, id="unwanted leading pictures are not fed"),
        pytest.param(OPEN, [5], {(0, 6): [0, 1, 2, 3, 4, 5]}, id="a leading picture needs the group before"),
        pytest.param(OPEN, [4, 5], {(0, 6): [0, 1, 2, 3, 4, 5]}, id="and takes its own key frame along"),
        pytest.param(OPEN, [2, 11], {(0, 3): [0, 1, 2], (4, 12): [4, 7, 8, 9, 10, 11]}, id="but not the one before"),
        pytest.param(OPEN, [5, 11], {(0, 12): list(range(12))}, id="runs that touch become one"),
        pytest.param(OPEN, [8, 12, 11], {(4, 13): [4, 7, 8, 9, 10, 11, 12]}, id="in any order"),
        pytest.param(REFRESHED, [5], {(0, 6): list(range(6))}, id="an unclean key frame is no start"),
        pytest.param(INTRA_ONLY, [3, 4, 7], {(3, 4): [3], (4, 5): [4], (7, 8): [7]}, id="intra only: the wanted ones"),
        pytest.param(AV1, [4], {(0, 5): [0, 2, 4]}, id="idle pictures are not fed"),
        pytest.param(AV1, [3, 9], {(0, 4): [0, 2, 3], (6, 10): [6, 8, 9]}, id="unless they are wanted"),
    ],
)
def test_the_plan_feeds_what_the_wanted_pictures_need(pictures, targets, runs):
    planned = plan_runs(pictures, targets)
    assert {(run.start, run.stop): run.feed.tolist() for run in planned} == runs


def test_all_pictures_wanted_are_all_fed():
    for pictures in (CLOSED, OPEN, REFRESHED, AV1):
        targets = list(range(len(pictures.stamp)))
        assert np.concatenate([run.feed for run in plan_runs(pictures, targets)]).tolist() == targets


@pytest.mark.parametrize(("target", "start"), [(0, 0), (3, 0), (4, 4), (5, 0), (7, 4), (10, 10), (11, 4), (12, 4)])
def test_decoding_starts_at_the_last_key_frame_that_is_not_shown_after_the_picture(target, start):
    assert start_for(OPEN, np.flatnonzero(OPEN.is_start), target) == start


def test_frames_are_numbered_as_they_are_shown():
    assert OPEN.in_order.tolist() == [0, 2, 3, 1, 5, 6, 4, 8, 9, 7, 11, 12, 10]


def test_pictures_that_an_edit_list_hides_have_no_number():
    pictures = stream([0, 3, 1, 2, 4], starts=[0, 4], hidden=[0, 2])
    assert pictures.in_order.tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("targets", "damage", "hit"),
    [
        ([2, 7], [], []),
        ([2, 7], [1], [2]),
        ([2, 7], [2], [2]),
        ([2, 7], [3], []),  # behind what was wanted of its group
        ([2, 7], [4], [7]),
        ([2, 7], [0, 6], [2, 7]),
        ([2, 7], [12], []),  # at the very end
    ],
)
def test_damage_hits_the_pictures_from_their_start_on(targets, damage, hit):
    assert damaged(CLOSED, targets, damage) == hit


def test_leading_pictures_at_a_start_are_no_damage():
    assert damaged(OPEN, [7], [5, 6]) == []
    assert damaged(OPEN, [6], [5]) == [6]  # wanted themselves, they start a group earlier


@pytest.mark.parametrize(
    ("stamps", "keys", "codec", "answer"),
    [
        ([0, 3, 1, 2, 4], [0, 4], "h264", True),
        ([0, 3, 1, 2, 6, 4, 5], [0, 4], "hevc", True),
        ([0, 9, 1, 2, 4], [0, 4], "h264", False),  # shown after a key frame that follows it
        ([0, *range(2, 60), 1], [0], "h264", False),  # held back for longer than any decoder does
        ([0, 3, 1, 2, 6, 4, 9, 5], [0, 4], "h264", False),  # shown before its key frame, but not at once behind it
        ([0, 1, 4, 5, 8, 2, 9], [0, 2, 4], "h264", False),  # shown before the key frame before its own
        ([0, 1, 2, 3], [0, 2], "vp9", True),
        ([0, 2, 1, 3], [0], "vp9", False),  # the codec knows no reordering
    ],
)
def test_timestamps_that_contradict_the_order_of_decoding_are_not_believed(stamps, keys, codec, answer):
    assert is_plausible(np.array(stamps), np.isin(np.arange(len(stamps)), keys), codec) == answer


def test_leading_pictures_at_the_beginning_are_left_to_the_decoder():
    facts = {"format_name": "matroska,webm", "codec": "hevc", "is_interlaced": False, "may_reorder": True}
    index = PacketIndex([2, 0, 1, 3], [0, 1, 2, 3], [True] + [False] * 3, [False] * 4, [99] * 4, [None] * 4)
    assert know_pictures(index, **facts) is None
    index.is_discard = [False, True, True, False]  # an edit list says that they are not shown
    assert know_pictures(index, **facts).in_order.tolist() == [0, 3]


def num_fed(path: Path, wanted: np.ndarray) -> tuple[int, int]:
    """Packets that the plan feeds for these frames, and packets in all."""
    with closing(PyavVideo(str(path), ClipSpec())) as video:
        pictures = video._pictures
        assert pictures is not None
        runs = plan_runs(pictures, pictures.in_order[wanted].tolist())
        fed = [position for run in runs for position, _ in video._feed.run(run)]
    assert fed == np.concatenate([run.feed for run in runs]).tolist()
    return len(fed), len(pictures.stamp)


@pytest.mark.parametrize(("options", "most"), [(X264_PLAIN, 0.62), (X264_OPEN, 0.75)])
def test_sixteen_frames_of_twenty_groups_feed_far_fewer_packets_than_there_are(tmp_path, options, most):
    film(tmp_path / "a.mp4", "libx264", options, num=20 * int(options["g"]))
    total = 20 * int(options["g"])
    fed, num_packets = num_fed(tmp_path / "a.mp4", ((np.arange(16) + 0.5) * total / 16).astype(int))
    assert num_packets == total
    assert fed < most * num_packets


def test_four_frames_of_twenty_groups_feed_a_fifth_of_the_packets(tmp_path):
    film(tmp_path / "a.mp4", "libx264", X264_PLAIN, num=240)
    fed, _ = num_fed(tmp_path / "a.mp4", np.array([30, 90, 150, 210]))
    assert fed <= 4 * 12


def test_frames_at_key_frames_feed_one_packet_each(tmp_path):
    film(tmp_path / "a.mp4", "libx264", X264_PLAIN | {"x264-params": "scenecut=0"}, num=240)
    assert num_fed(tmp_path / "a.mp4", np.arange(0, 240, 12)) == (20, 240)


@pytest.mark.parametrize(
    ("suffix", "codec", "form"), [(".avi", "mjpeg", "yuvj420p"), (".mov", "prores_ks", "yuv422p10le")]
)
def test_of_an_intra_only_video_exactly_the_wanted_packets_are_fed(tmp_path, suffix, codec, form):
    film(tmp_path / f"a{suffix}", codec, pixel_format=form)
    assert num_fed(tmp_path / f"a{suffix}", np.array([1, 2, 17, 50])) == (4, 64)
