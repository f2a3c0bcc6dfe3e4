"""Tables on their way through Ray Data: each is one row of a table, so that it arrives at once, whole and alone.

Ray Data joins and cuts what tasks yield, by rows and by bytes: small tables wait in the task until they make a large
one, and a model on a GPU gets batches of so many rows, of several tables or of half a one. A single row cannot be cut,
and is a batch by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

COLUMN = "table"
# A task may do more than decode one video: start its child, fetch, write, wait for room. With the default
# --video-timeout-s the limit is then Ray's own, 1,800 s.
OTHER_WORK_S = 600.0
TRIES_OF_A_VIDEO = 2  # a child that is killed from outside gets a second chance


def packed(table: pa.Table) -> pa.Table:
    """The table as one row; its frames are not copied."""
    columns = [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
    rows = pa.StructArray.from_arrays(columns, fields=list(table.schema))
    return pa.table({COLUMN: pa.ListArray.from_arrays(pa.array([0, len(table)], pa.int32()), rows)})


def unpacked(parcel: pa.Table) -> pa.Table:
    """The table that was packed, without its metadata."""
    [row] = parcel[COLUMN].chunks
    return pa.Table.from_batches([pa.RecordBatch.from_struct_array(row.flatten())])


def packed_each(rows: pa.Table, task: Callable[[pa.Table], Iterable[pa.Table]]) -> Iterator[pa.Table]:
    """Run a task on its rows and pack each table that it yields; what a Ray worker runs."""
    for table in task(rows):
        yield packed(table)


class ParcelModel:
    """A model of tables at work on parcels; what a Ray actor runs."""

    def __init__(self, model: type, **how: Any) -> None:
        self._model = model(**how)

    def __call__(self, parcel: pa.Table) -> pa.Table:
        return packed(self._model(unpacked(parcel)))


def carry_parcels(dataset: Any, video_timeout_s: float) -> None:
    """Have a Ray dataset hand on each parcel at once, and wait as long for one as a slow video may take.

    Ray Data ends a dataset none of whose tasks has yielded anything for `execution_no_progress_timeout_s`; -1: never.
    """
    context = dataset.context
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # byte: any parcel is more
    if context.execution_no_progress_timeout_s > 0:
        needed_s = TRIES_OF_A_VIDEO * video_timeout_s + OTHER_WORK_S
        context.execution_no_progress_timeout_s = max(context.execution_no_progress_timeout_s, needed_s)
