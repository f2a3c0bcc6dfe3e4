"""Where the driver of preprocess takes in receipts, and commits them every few seconds.

A video may come twice, as Ray runs the task of a lost worker again: its later receipt counts, and it is one video all
the same. It may also not come at all, when the second run hands out its receipts by other parts: `left` tells.
"""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.ledger import Ledger
from vidpipe.progress import Progress
from vidpipe.run_file import Tally

COMMIT_EVERY_S = 10.0
COMMIT_EVERY_ROWS = 20_000


class ReceiptDesk:
    """The videos of one run; use as a context manager: at its end, whatever ends it, what came is committed."""

    def __init__(self, ledger: Ledger, todo: pa.Table, tally: Tally) -> None:
        self._ledger, self._todo, self._tally = ledger, todo, tally
        self._counted: dict[str, tuple[str | None, int, int]] = {}
        """The tally's share of each video: error code, clips, damaged packets."""
        self._pending: list[pa.Table] = []
        self._committed_s = time.monotonic()
        self._progress = Progress(len(todo))

    def __enter__(self) -> ReceiptDesk:
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.__exit__(*exception)
        self.commit()

    def left(self) -> pa.Table:
        """Manifest rows of which no receipt has come."""
        came = pa.array(list(self._counted), pa.string())
        return self._todo.filter(pc.invert(pc.is_in(self._todo["video_id"], value_set=came)))

    def add(self, receipts: pa.Table) -> None:
        """Take in the status rows of some videos."""
        num_new, num_failed = len(self._counted), self._tally.num_failed
        for receipt in receipts.to_pylist():
            before = self._counted.get(receipt["video_id"])
            if before is not None:
                self._tally.take_back(*before)
            self._tally.add(receipt)
            facts = receipt["error_code"], receipt["num_clips"] or 0, receipt["num_damaged"] or 0
            self._counted[receipt["video_id"]] = facts
        self._progress.add(len(self._counted) - num_new, self._tally.num_failed - num_failed)
        self._pending.append(receipts)
        is_due = time.monotonic() - self._committed_s > COMMIT_EVERY_S
        if is_due or sum(map(len, self._pending)) > COMMIT_EVERY_ROWS:
            self.commit()

    def commit(self) -> None:
        if self._pending:
            # The later of two rows of a video counts, and both are kept until the next compaction: they tell that
            # the part of the earlier one holds clips which count no more.
            self._ledger.commit(pa.concat_tables(self._pending))
            self._pending = []
        self._committed_s = time.monotonic()
