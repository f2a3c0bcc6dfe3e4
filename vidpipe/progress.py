"""How far a run is: a bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
# When a rate means something: after so long, or after such a share of all, which a burst of results at once is not.
STEADY_S, STEADY_SHARE, SHORTEST_S = 30.0, 0.05, 5.0


class Progress:
    """Counts towards a total; use as a context manager.

    The rate is that since the first result: what came before was Ray and the models starting.
    """

    def __init__(
        self, total: int, unit: str = "videos", *, num_done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.unit, self.num_done, self.num_failed = total, unit, num_done, 0
        self._clock = clock
        self._note = ""
        self._logged_s = clock()
        self._first: tuple[float, int] | None = None
        """When the first result came, and how many were done then."""
        self._bar: tqdm[Any] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            columns, lines = shutil.get_terminal_size()  # as most are where the terminal does not say
            self._bar = tqdm(
                total=self.total,
                initial=self.num_done,
                desc=self.line(),
                bar_format="{bar:10} {desc}",
                ncols=columns,
                nrows=lines,
                file=sys.stderr,
            )
            self._open.enter_context(contextlib.redirect_stdout(AboveBar(self._bar, sys.stdout)))
            self._open.enter_context(contextlib.redirect_stderr(AboveBar(self._bar, sys.stderr)))
        self._logged_s = self._clock()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()
        if self._bar is not None:
            self._bar.close()

    def add(self, num_done: int, num_failed: int) -> None:
        """Note that more are done, `num_failed` of them in vain."""
        self.num_failed += num_failed
        self.move_to(self.num_done + num_done, f"{self.num_failed} failed")

    def move_to(self, num_done: int, note: str) -> None:
        """Note how many are done in all, and what else is to be said."""
        now_s = self._clock()
        if self._first is None and num_done > self.num_done:
            self._first = now_s, num_done
        num_new, self.num_done, self._note = num_done - self.num_done, num_done, note
        if self._bar is not None:
            self._bar.set_description_str(self.line(), refresh=False)
            if not self._bar.update(num_new) and num_done == self.total:
                self._bar.refresh()
        elif now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            logger.info(self.line())

    def line(self) -> str:
        """`320 / 2000 videos (16 %), 79 s left, 3 failed, 21.4 videos/s`; time and rate once they mean something."""
        percent = 100 * self.num_done // max(self.total, 1)  # 100 % is all of them
        words = [f"{self.num_done} / {self.total} {self.unit} ({percent} %)", self._note]
        if rate := self._rate():
            words.append(f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{60 * rate:.1f} {self.unit}/min")
            if self.num_done < self.total:  # before what a narrow terminal cuts off
                words.insert(1, f"{duration((self.total - self.num_done) / rate)} left")
        return ", ".join(filter(None, words))

    def _rate(self) -> float | None:
        """Results a second since the first one; None while that says nothing of those to come."""
        if self._first is None:
            return None
        first_s, num_first = self._first
        seconds, num_since = self._clock() - first_s, self.num_done - num_first
        is_steady = seconds >= STEADY_S or (seconds >= SHORTEST_S and num_since >= STEADY_SHARE * self.total)
        return num_since / seconds if is_steady else None


class AboveBar:
    """A stream of the terminal while a bar is there: whole lines are written above the bar."""

    def __init__(self, bar: tqdm[Any], stream: TextIO) -> None:
        self._bar, self._stream, self._begun = bar, stream, ""

    def write(self, text: str) -> int:
        with self._bar.get_lock():
            lines, end, self._begun = f"{self._begun}{text}".rpartition("\n")
            if end:
                self._bar.clear(nolock=True)
                self._stream.write(lines + end)
                self._stream.flush()
                self._bar.refresh(nolock=True)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def duration(seconds: float) -> str:
    """`79 s`, `34 min`, `5.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
