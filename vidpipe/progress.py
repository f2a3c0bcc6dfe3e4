"""One progress line: a bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class Progress:
    """Counts videos towards a total; use as a context manager."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.num_done = self.num_failed = 0
        self._start_s = self._logged_s = time.monotonic()
        self._bar = tqdm(total=total, unit=" videos", disable=not sys.stderr.isatty())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def add(self, num_done: int, num_failed: int) -> None:
        """Note that more videos are done, `num_failed` of them in vain."""
        self.num_done += num_done
        self.num_failed += num_failed
        self._bar.set_postfix_str(f"{self.num_failed} failed", refresh=False)
        self._bar.update(num_done)
        now_s = time.monotonic()
        if self._bar.disable and now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            logger.info(self.line(now_s - self._start_s))

    def line(self, elapsed_s: float) -> str:
        """`320 / 2000 videos (16 %), 3 failed, 21.4 videos/s, 79 s left`."""
        rate = self.num_done / max(elapsed_s, 1e-9)
        left = f"{(self.total - self.num_done) / rate:.0f} s left" if self.num_done else "no estimate yet"
        share = 100 * self.num_done / max(self.total, 1)
        done = f"{self.num_done} / {self.total} videos ({share:.0f} %)"
        return f"{done}, {self.num_failed} failed, {rate:.1f} videos/s, {left}"
