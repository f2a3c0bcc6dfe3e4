"""The small files of a ledger become few large ones, and a crash at any moment of that changes nothing."""

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_parts import RAW
from status_rows import parts_of, row, status_files

import vidpipe.journal
from vidpipe.ledger import open_ledger


def test_the_order_of_commits_holds_past_ten_files(ledger):
    for number in range(12):
        ledger.commit([row("one", f"{number}.parquet")])
    assert parts_of(ledger) == {"one": "11.parquet"}


def test_a_part_is_stale_when_a_video_in_it_has_moved_on_and_another_has_not(ledger):
    ledger.commit(
        [row("one", "a.parquet"), row("two", "a.parquet"), row("three", "b.parquet"), row("four", "c.parquet")]
    )
    assert ledger.stale_parts() == []
    ledger.commit([row("one", "d.parquet"), row("three", "d.parquet"), row("four")])
    assert ledger.stale_parts() == ["a.parquet"]  # of b and c nothing is left: they are swept
    assert ledger.parts() == ["a.parquet", "d.parquet"]


def test_a_part_is_not_stale_when_its_rows_were_only_written_again(ledger):
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet")])
    ledger.commit([row("one", "a.parquet", label="other")])
    assert ledger.stale_parts() == []


def test_compact_leaves_one_file_and_one_row_a_video(ledger, output):
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet")])
    ledger.commit([row("two"), row("three", "b.parquet")])
    ledger.commit([row("one", "c.parquet")])
    before = sorted(ledger.read().to_pylist(), key=str)
    ledger.compact()
    (name,) = status_files(output)
    plain = pq.read_table(output / "status" / name)
    assert sorted(plain["video_id"].to_pylist()) == ["one", "three", "two"]
    assert sorted(ledger.read().to_pylist(), key=str) == before
    assert open_ledger(str(output)).spec == RAW
    ledger.compact()
    assert status_files(output) == [name]


def test_compact_leaves_large_files_alone_unless_rows_were_replaced(ledger, output, monkeypatch):
    monkeypatch.setattr(vidpipe.journal, "SMALL_FILE_ROWS", 3)
    ledger.commit([row(name, "a.parquet") for name in ("one", "two", "three")])
    (large,) = status_files(output)
    ledger.commit([row("four", "b.parquet")])
    ledger.commit([row("five", "b.parquet")])
    ledger.compact()
    assert len(status_files(output)) == 2
    assert large in status_files(output)
    ledger.commit([row("two", "c.parquet")])
    ledger.compact()
    assert len(status_files(output)) == 1
    assert parts_of(ledger)["two"] == "c.parquet"
    assert len(ledger.read()) == 5


def test_compact_leaves_a_large_file_alone_whose_rows_all_count(ledger, output, monkeypatch):
    monkeypatch.setattr(vidpipe.journal, "SMALL_FILE_ROWS", 2)
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet")])
    ledger.commit([row("two", "b.parquet"), row("three", "b.parquet")])
    old, new = status_files(output)
    ledger.compact()
    assert new in status_files(output)
    assert old not in status_files(output)
    rows = pq.read_table(output / "status")["video_id"].to_pylist()
    assert sorted(rows) == ["one", "three", "two"]
    assert parts_of(ledger) == {"one": "a.parquet", "two": "b.parquet", "three": "b.parquet"}


def test_compact_makes_files_of_so_many_rows_that_one_fits_into_memory(ledger, output, monkeypatch):
    monkeypatch.setattr(vidpipe.journal, "LARGE_FILE_ROWS", 3)
    for number in range(5):
        ledger.commit([row(f"{number}{letter}", "a.parquet") for letter in "ab"])
    ledger.commit([row("0a", "b.parquet")])
    before = sorted(ledger.read().to_pylist(), key=str)
    ledger.compact()
    assert [pq.read_metadata(output / "status" / name).num_rows for name in status_files(output)] == [3, 3, 3, 1]
    assert sorted(pq.read_table(output / "status").to_pylist(), key=str) == before


def test_a_crash_between_two_files_of_a_compaction_leaves_the_same_table(ledger, output, monkeypatch):
    monkeypatch.setattr(vidpipe.journal, "LARGE_FILE_ROWS", 2)
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet"), row("three", "a.parquet")])
    ledger.commit([row("two", "b.parquet")])
    before = sorted(ledger.read().to_pylist(), key=str)
    commit, num_commits = vidpipe.journal.Journal.commit, iter([True, False])

    def commit_once(journal: vidpipe.journal.Journal, rows: pa.Table) -> None:
        if not next(num_commits):
            raise KeyboardInterrupt
        commit(journal, rows)

    monkeypatch.setattr(vidpipe.journal.Journal, "commit", commit_once)
    with pytest.raises(KeyboardInterrupt):
        ledger.compact()
    monkeypatch.undo()
    assert len(status_files(output)) == 3
    assert sorted(ledger.read().to_pylist(), key=str) == before
    ledger.compact()
    assert sorted(pq.read_table(output / "status").to_pylist(), key=str) == before


def test_many_files_are_read_in_the_order_of_their_commits(ledger):
    for number in range(3 * vidpipe.journal.NUM_READERS + 1):
        ledger.commit([row("one", error=str(number)), row(f"of {number}")])
    assert ledger.read().filter(pc.equal(ledger.read()["video_id"], "one"))["error"].to_pylist() == [str(number)]
    assert len(ledger.read()) == number + 2


@pytest.mark.parametrize("left_over", [{0}, {1}, {2}, {0, 1}, {0, 2}, {0, 1, 2}])
def test_a_crash_while_compacting_leaves_the_same_table(ledger, output, left_over, tmp_path):
    """The merged file is there, and some of those that it replaces are not removed yet."""
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet"), row("five", "a.parquet")])
    ledger.commit([row("two"), row("three", "b.parquet")])
    ledger.commit([row("one", "c.parquet")])
    old = status_files(output)
    expected, parts, stale = sorted(ledger.read().to_pylist(), key=str), ledger.parts(), ledger.stale_parts()
    assert stale == ["a.parquet"]
    shutil.copytree(output / "status", tmp_path / "before")
    ledger.compact()
    for index in left_over:
        shutil.copy(tmp_path / "before" / old[index], output / "status" / old[index])
    assert sorted(ledger.read().to_pylist(), key=str) == expected
    assert ledger.parts() == parts
    assert set(ledger.stale_parts()) <= {"a.parquet"}  # no part is rewritten for nothing
    ledger.compact()
    assert len(status_files(output)) == 1
    assert sorted(ledger.read().to_pylist(), key=str) == expected
