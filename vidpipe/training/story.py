"""The workers of a run tell its driver how far they are; it shows that in order, and all of it before the summary.

Ray's own way, by which lines of workers' logs reach the driver some time later, keeps no order. So a worker sends what
it has to say to a `Post`, from which the driver takes it. This module knows nothing of Ray.
"""

from __future__ import annotations

import logging
import logging.handlers
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from vidpipe.progress import Progress

TELL_EVERY_S = 1.0


@dataclass(frozen=True)
class Place:
    """Where a stretch of work stands; each `work` has a bar of its own."""

    work: str
    num_done: int
    total: int
    unit: str
    note: str


Tell = Callable[[Place], None]
Message = Place | logging.LogRecord


def tell_nobody(place: Place) -> None:
    """On every rank but the first, and where there is no driver."""


class Post:
    """Messages on their way to the driver; an actor of Ray."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._num_taken = 0

    def put(self, message: Message) -> None:
        self._messages.append(message)

    def after(self, num_taken: int) -> list[Message]:
        """All messages but the first `num_taken`, which are forgotten: an answer that was lost is given again."""
        del self._messages[: num_taken - self._num_taken]
        self._num_taken = num_taken
        return self._messages


class Speaker(logging.handlers.QueueHandler):
    """Sends what a worker has to say: its log lines, and of the first rank also how far it is."""

    def __init__(self, send: Callable[[Message], None], *, is_first: bool) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type]
        self.setLevel(logging.NOTSET if is_first else logging.WARNING)
        self._send, self._told_s = send, 0.0

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)

    def tell(self, place: Place) -> None:
        """Send the place, unless one was sent just now."""
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S or place.num_done in (0, place.total):
            self._told_s = now_s
            self._send(place)


class Story:
    """Shows messages on the driver; use as a context manager."""

    def __init__(self) -> None:
        self.num_heard = 0
        self._work = ""
        self._progress: Progress | None = None
        self._shown = ExitStack()
        self._warned: set[str] = set()

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *exception: object) -> None:
        self._shown.close()

    def hear(self, messages: Sequence[Message]) -> None:
        self.num_heard += len(messages)
        for message in messages:
            if isinstance(message, Place):
                self._show(message)
            else:
                self._log(message)

    def _show(self, place: Place) -> None:
        progress = self._progress
        if progress is None or place.work != self._work or place.num_done < progress.num_done:
            self._shown.close()
            progress = self._shown.enter_context(Progress(place.total, place.unit, num_done=place.num_done))
        self._work, self._progress = place.work, progress
        progress.move_to(place.num_done, place.note)

    def _log(self, record: logging.LogRecord) -> None:
        """Show a line; a warning of every rank is shown once."""
        if record.levelno >= logging.WARNING:
            if record.getMessage() in self._warned:
                return
            self._warned.add(record.getMessage())
        logging.getLogger(record.name).handle(record)
