"""Workers tell the driver of a training run in order and once, and only the first of them tells its progress."""

from __future__ import annotations

import logging
import pickle

import pytest

from vidpipe.training.story import Message, Place, Post, Speaker, Story


def place(num_done: int, work: str = "training") -> Place:
    return Place(work, num_done, 40, "steps", "epoch 1 of 2")


def said(*messages: str, rank: int, level: int = logging.INFO) -> list[Message]:
    """The messages that a rank sends when it logs these lines."""
    sent: list[Message] = []
    speaker = Speaker(sent.append, is_first=rank == 0)
    logger = logging.Logger("vidpipe.training.run")
    logger.addHandler(speaker)
    for message in messages:
        logger.log(level, "%s", message)
    return sent


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("vidpipe"), "propagate", True)
    caplog.set_level(logging.INFO)
    return caplog


def test_lines_of_the_first_rank_are_logged_by_the_driver_in_their_order(log: pytest.LogCaptureFixture):
    sent = said("epoch 1/2", "epoch 2/2", rank=0)
    with Story() as story:
        story.hear(pickle.loads(pickle.dumps(sent)))  # noqa: S301 - as Ray carries them
    assert log.messages == ["epoch 1/2", "epoch 2/2"]


def test_other_ranks_say_what_they_warn_of_and_nothing_else():
    assert said("epoch 1/2", rank=1) == []
    assert len(said("the storage is slow", rank=1, level=logging.WARNING)) == 1


def test_a_warning_of_all_ranks_is_logged_once(log: pytest.LogCaptureFixture):
    with Story() as story:
        for rank in range(3):
            story.hear(said("5 weights are not of this model", f"rank {rank}", rank=rank, level=logging.WARNING))
    assert log.messages == ["5 weights are not of this model", "rank 0", "rank 1", "rank 2"]


def test_a_traceback_comes_with_its_line(log: pytest.LogCaptureFixture):
    sent: list[Message] = []
    logger = logging.Logger("vidpipe.x")
    logger.addHandler(Speaker(sent.append, is_first=False))
    try:
        raise OSError("the disk is full")
    except OSError:
        logger.exception("no state was written")
    Story().hear(pickle.loads(pickle.dumps(sent)))  # noqa: S301
    assert "no state was written" in log.messages[0]
    assert "OSError: the disk is full" in log.messages[0]


def test_places_are_told_once_a_second_and_the_first_and_the_last_always():
    sent: list[Message] = []
    speaker = Speaker(sent.append, is_first=True)
    for num_done in range(41):
        speaker.tell(place(num_done))
    assert [message.num_done for message in sent if isinstance(message, Place)] == [0, 40]


def test_a_post_gives_again_what_did_not_arrive_and_forgets_what_did():
    post, story = Post(), Story()
    for number in (0, 1):
        post.put(place(number))
    assert len(post.after(story.num_heard)) == 2  # and the answer is lost
    story.hear(post.after(story.num_heard))
    post.put(place(2))
    assert post.after(story.num_heard) == [place(2)]


def test_a_group_that_begins_anew_takes_the_bar_back(log: pytest.LogCaptureFixture):
    with Story() as story:
        story.hear([place(0), place(30), place(10)])
        assert story._progress is not None
        assert story._progress.num_done == 10
