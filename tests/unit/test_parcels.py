"""Tables that travel as one row: nothing of them changes, and nothing of them is copied."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from vidpipe.parcels import ParcelModel, carry_parcels, packed, packed_each, unpacked

TABLE = pa.table(
    {
        "video_id": pa.array(["a", None, "c"]),
        "frames": pa.array([b"\x00" * 5, None, b"\x01" * 7]),
        "scores": pa.array([[1.0, 2.0], None, []], pa.list_(pa.float32())),
        "part": pa.nulls(3, pa.string()),
    }
)


@pytest.mark.parametrize(
    "table", [TABLE, TABLE.slice(1, 1), TABLE.slice(0, 0), pa.concat_tables([TABLE, TABLE])], ids=len
)
def test_a_parcel_is_one_row_and_holds_the_table(table: pa.Table):
    assert len(packed(table)) == 1
    assert unpacked(packed(table)).equals(table.combine_chunks())


def test_frames_are_not_copied():
    chunk = unpacked(packed(TABLE))["frames"].chunk(0)
    assert chunk.buffers()[2].address == TABLE["frames"].chunk(0).buffers()[2].address


def test_what_works_on_tables_works_on_parcels():
    class FirstRow:
        def __init__(self, column: str) -> None:
            self.column = column

        def __call__(self, table: pa.Table) -> pa.Table:
            return table.select([self.column]).slice(0, 1)

    parcels = list(packed_each(TABLE, lambda table: [table, table.slice(2)]))
    model = ParcelModel(FirstRow, column="video_id")
    assert [unpacked(model(parcel))["video_id"].to_pylist() for parcel in parcels] == [["a"], ["c"]]


@pytest.mark.parametrize(
    ("limit_s", "video_timeout_s", "expected_s"),
    [(1800.0, 600.0, 1800.0), (1800.0, 3600.0, 7800.0), (9000.0, 3600.0, 9000.0), (20.0, 600.0, 1800.0), (-1, 9e9, -1)],
)
def test_a_dataset_is_waited_for_as_long_as_a_slow_video_takes(
    limit_s: float, video_timeout_s: float, expected_s: float
):
    dataset = SimpleNamespace(context=SimpleNamespace(execution_no_progress_timeout_s=limit_s))
    carry_parcels(dataset, video_timeout_s)
    assert dataset.context.execution_no_progress_timeout_s == expected_s
