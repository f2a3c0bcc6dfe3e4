"""Receipts may come twice, or by another part than the first time: a video is one video, and its later row counts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from status_rows import manifest, parts_of, row

from vidpipe.ledger import Ledger, status_schema
from vidpipe.receipt_desk import ReceiptDesk
from vidpipe.run_file import Tally


def receipts_of(ledger: Ledger, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([*rows], status_schema(ledger.spec))


def test_a_video_that_comes_twice_is_counted_once_and_its_later_row_counts(ledger: Ledger):
    tally = Tally()
    with ReceiptDesk(ledger, manifest("one", "two", "three", "four"), tally) as desk:
        first = [row("one", "a.parquet", num_damaged=1), row("two", "a.parquet"), row("three", error_code="timeout")]
        desk.add(receipts_of(ledger, *first))
        assert desk.left()["video_id"].to_pylist() == ["four"]
        again = [row("one", "b.parquet"), row("two", error_code="timeout"), row("three", "b.parquet")]
        desk.add(receipts_of(ledger, *again))
        assert desk.left()["video_id"].to_pylist() == ["four"]
    assert (tally.num_ok, tally.num_failed, tally.num_clips, tally.num_with_damage) == (2, 1, 2, 0)
    assert tally.facts(1.0)["failed_by_code"] == {"timeout": 1}
    assert parts_of(ledger) == {"one": "b.parquet", "two": None, "three": "b.parquet"}


def test_a_part_whose_receipts_were_overtaken_is_known_to_be_stale(ledger: Ledger):
    with ReceiptDesk(ledger, manifest("one", "two", "three"), Tally()) as desk:
        desk.add(receipts_of(ledger, row("one", "a.parquet"), row("two", "a.parquet")))
        desk.add(receipts_of(ledger, row("two", "b.parquet"), row("three", "b.parquet")))
        assert not len(desk.left())
    assert ledger.stale_parts() == ["a.parquet"]


def test_what_came_is_committed_whatever_ends_the_run(ledger: Ledger):
    try:
        with ReceiptDesk(ledger, manifest("one", "two"), Tally()) as desk:
            desk.add(receipts_of(ledger, row("one", "a.parquet")))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert parts_of(ledger) == {"one": "a.parquet"}
