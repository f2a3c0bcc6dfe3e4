import os

import pyarrow as pa
import pytest
from small_parts import GRAY, RAW
from status_rows import manifest, part, parts_of, row, status_files, write_finished_part

from vidpipe.errors import UsageError
from vidpipe.ledger import STATUS_COLUMNS, Ledger, open_ledger, settings_of
from vidpipe.own_files import check_others
from vidpipe.spec import ClipSpec


def test_what_is_committed_is_read(ledger):
    ledger.commit([row("one", "a.parquet"), row("two", error="no picture")])
    assert ledger.read().to_pylist() == [row("one", "a.parquet"), row("two", error="no picture")]
    assert ledger.read(["video_id", "status"]).to_pylist() == [
        {"video_id": "one", "status": "ok"},
        {"video_id": "two", "status": "failed"},
    ]


def test_an_empty_ledger_has_all_columns_and_no_rows(ledger):
    assert ledger.read().column_names == list(STATUS_COLUMNS)
    assert len(ledger.read()) == 0
    assert ledger.parts() == []
    assert ledger.stale_parts() == []
    assert ledger.sweep() == 0
    ledger.compact()


def test_the_newest_row_of_a_video_counts(ledger):
    ledger.commit([row("one", "a.parquet"), row("two", "a.parquet")])
    ledger.commit([row("one")])
    ledger.commit([row("one", "b.parquet"), row("three", "b.parquet")])
    assert parts_of(ledger) == {"one": "b.parquet", "two": "a.parquet", "three": "b.parquet"}
    assert ledger.parts() == ["a.parquet", "b.parquet"]


def test_any_parquet_reader_gets_the_status_table(ledger, output):
    import duckdb

    ledger.commit([row("one", "a.parquet"), row("two")])
    query = f"select video_id, status, error_code from '{output}/status/*.parquet' order by all"
    assert duckdb.sql(query).fetchall() == [("one", "ok", None), ("two", "failed", "corrupt")]


def test_work_left_of_a_new_output_is_everything(ledger):
    left = ledger.work_left(manifest("one", "two"), retry_failed=False)
    assert left.todo == manifest("one", "two")
    assert len(left.relabelled) == 0
    assert (left.num_new, left.num_changed, left.num_unchanged, left.num_gone) == (2, 0, 0, 0)


def test_work_left_is_what_is_new_or_changed_and_on_demand_what_failed(ledger):
    ledger.commit([row("same", "a.parquet"), row("changed", "a.parquet"), row("failed"), row("gone", "a.parquet")])
    now = pa.concat_tables([manifest("new", "same", "failed"), manifest("changed", version="another")])
    left = ledger.work_left(now, retry_failed=False)
    assert left.todo["video_id"].to_pylist() == ["new", "changed"]
    assert (left.num_new, left.num_changed, left.num_retried, left.num_gone) == (1, 1, 0, 1)
    assert (left.num_unchanged, left.num_unchanged_failed) == (2, 1)
    retried = ledger.work_left(now, retry_failed=True)
    assert retried.todo["video_id"].to_pylist() == ["new", "failed", "changed"]
    assert (retried.num_retried, retried.num_unchanged, retried.num_unchanged_failed) == (1, 1, 0)


@pytest.mark.parametrize("retry_failed", [False, True])
def test_every_video_of_the_manifest_is_counted_once(ledger, retry_failed):
    ledger.commit([row("same", "a.parquet"), row("changed"), row("failed"), row("gone")])
    now = pa.concat_tables([manifest("new", "same", "failed"), manifest("changed", version="another")])
    left = ledger.work_left(now, retry_failed=retry_failed)
    assert left.num_new + left.num_changed + left.num_retried == len(left.todo)
    assert len(left.todo) + left.num_unchanged == len(now)


def test_a_failed_video_that_changed_is_done_again_unasked(ledger):
    ledger.commit([row("one")])
    left = ledger.work_left(manifest("one", version="another"), retry_failed=False)
    assert left.todo["video_id"].to_pylist() == ["one"]


@pytest.mark.parametrize("column", ["label", "split", "group"])
@pytest.mark.parametrize("value", ["other", None])
def test_another_label_split_or_group_is_no_reason_to_decode_again(ledger, column, value):
    ledger.commit([row("one", "a.parquet", **{column: "before"}), row("failed", **{column: "before"})])
    left = ledger.work_left(manifest("one", "failed", **{column: value}), retry_failed=False)
    assert len(left.todo) == 0
    assert left.relabelled["video_id"].to_pylist() == ["one", "failed"]
    assert left.relabelled[column].to_pylist() == [value, value]
    assert left.num_unchanged == 2


def test_the_same_labels_are_nothing_to_do(ledger):
    ledger.commit([row("one", "a.parquet"), row("none", "a.parquet", label=None, split=None, group=None)])
    now = pa.concat_tables([manifest("one"), manifest("none", label=None, split=None, group=None)])
    left = ledger.work_left(now, retry_failed=True)
    assert (len(left.todo), len(left.relabelled)) == (0, 0)


def test_a_changed_video_is_decoded_not_relabelled(ledger):
    ledger.commit([row("one", "a.parquet")])
    left = ledger.work_left(manifest("one", version="another", label="other"), retry_failed=False)
    assert (len(left.todo), len(left.relabelled)) == (1, 0)


def test_a_finished_part_that_nobody_recorded_is_adopted(ledger, output):
    write_finished_part(output, part("a"), "one", "two")
    left = ledger.work_left(manifest("one", "two", "three"), retry_failed=False)
    assert ledger.adopt(left.todo) == 2
    assert parts_of(ledger) == {"one": part("a"), "two": part("a")}
    assert ledger.sweep() == 0
    again = ledger.work_left(manifest("one", "two", "three"), retry_failed=False)
    assert again.todo["video_id"].to_pylist() == ["three"]
    assert ledger.adopt(again.todo) == 0


def test_a_part_with_a_video_that_is_done_changed_or_gone_is_not_adopted(ledger, output):
    ledger.commit([row("done", "z.parquet")])
    write_finished_part(output, part("1"), "one", "done")
    write_finished_part(output, part("2"), "one", "gone")
    write_finished_part(output, part("3"), "one", "two", version="before")
    left = ledger.work_left(manifest("one", "two", "done"), retry_failed=False)
    assert ledger.adopt(left.todo) == 0
    assert parts_of(ledger) == {"done": "z.parquet"}


def test_of_two_parts_with_one_video_only_one_is_adopted(ledger, output):
    write_finished_part(output, part("a"), "one", "two")
    write_finished_part(output, part("b"), "two", "three")
    assert ledger.adopt(manifest("one", "two", "three")) == 2
    assert parts_of(ledger) == {"one": part("a"), "two": part("a")}


def test_a_part_made_with_other_settings_is_not_adopted(ledger, output):
    """A first run with other settings was killed before it recorded anything."""
    write_finished_part(output, part("a"), "one", spec=GRAY)
    assert ledger.adopt(manifest("one")) == 0
    assert ledger.sweep() == 1


def test_files_that_were_never_finished_are_not_adopted(ledger, output):
    write_finished_part(output, f".{part('a')}.123", "one")
    assert ledger.adopt(manifest("one")) == 0


def test_a_file_cut_short_in_place_of_a_part_stops_nothing(ledger, output):
    """Some storages show a file before it is whole; nothing in it tells whose it is, so it stays."""
    write_finished_part(output, part("a"), "one")
    content = (output / "clips" / part("a")).read_bytes()
    (output / "clips" / part("b")).write_bytes(content[: len(content) // 2])
    (output / "clips" / part("c")).write_bytes(b"")
    assert ledger.adopt(manifest("one")) == 1
    assert ledger.sweep() == 0
    assert ledger.others()["clips"] == [part("b"), part("c")]
    check_others(str(output), ledger.others())


def test_sweep_removes_parts_that_no_row_names_and_unfinished_files(ledger, output):
    for name in (part("a"), part("b"), part("c"), f".{part('d')}.123"):
        write_finished_part(output, name, "one")
    (output / "clips" / f".{part('e')}.124").write_bytes(b"PAR1 and no end")
    ledger.commit([row("one", part("b"))])
    ledger.commit([row("one", part("a"))])
    assert ledger.sweep() == 4
    assert os.listdir(output / "clips") == [part("a")]
    assert ledger.sweep() == 0


def test_other_settings_are_refused_with_what_differs_and_the_way_out(ledger, output):
    ledger.commit([row("one", "a.parquet")])
    Ledger(str(output), RAW)
    with pytest.raises(ValueError, match="other settings") as refused:
        Ledger(str(output), ClipSpec(num_frames=8, size="12x20", resize="squash"))
    assert "num_frames: 3, not 8" in str(refused.value)
    assert "resize: crop, not squash" in str(refused.value)
    assert "12x20" not in str(refused.value)
    assert "another --output" in str(refused.value)


def test_a_rule_that_nobody_asked_for_follows_the_output_and_another_one_is_refused(output):
    before = ClipSpec(sampling="windows", window_end="repeat")
    assert settings_of(str(output), ClipSpec(sampling="windows")).window_end == "shifted"  # a new output
    Ledger(str(output), before).commit([row("one", "a.parquet")])
    followed = settings_of(str(output), ClipSpec(sampling="windows"))
    assert Ledger(str(output), followed).spec == before
    asked = settings_of(str(output), ClipSpec(sampling="windows", window_end="shifted"))
    with pytest.raises(UsageError, match="window_end: repeat, not shifted"):
        Ledger(str(output), asked)


def test_an_output_that_is_not_there_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"holds no clips.*jobs/preprocess\.py"):
        open_ledger(str(tmp_path / "nothing"))


def test_a_crash_in_mid_commit_leaves_no_row(ledger, output):
    ledger.commit([row("one", "a.parquet")])
    (name,) = status_files(output)
    content = (output / "status" / name).read_bytes()
    (output / "status" / f".{name}.123").write_bytes(content[:100])
    assert parts_of(ledger) == {"one": "a.parquet"}
    ledger.commit([row("two", "a.parquet")])
    assert len(ledger.read()) == 2
