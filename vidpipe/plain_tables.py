"""Parquet files of strangers, opened as plain tables: a column of a type that Python rebuilds by itself is refused.

Ray registers such types when it is imported, and one of them (`ray.data.arrow_pickled_object`) unpickles its values:
whoever writes a part or a manifest could then run code in the process that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.errors import UsageError


def open_parquet(file: Any, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """An open file's tables; raises UsageError, see `check_plain`."""
    source = pq.ParquetFile(file, metadata=metadata)
    check_plain(source.schema_arrow)
    return source


def read_parquet(data: pa.Buffer, columns: list[str] | None = None) -> pa.Table:
    """The table in a buffer; raises UsageError, see `check_plain`."""
    table = pq.read_table(pa.BufferReader(data), columns=columns)
    check_plain(table.schema)
    return table


def check_plain(schema: pa.Schema) -> None:
    """UsageError when a column, or what is nested in it, is of a type that a Python package defines.

    Arrow's own extension types (UUID, JSON, tensors) are data and nothing else.
    """
    for field in schema:
        for kind in _kinds(field.type):
            if isinstance(kind, pa.ExtensionType):
                raise UsageError(
                    f"column {field.name} is of the type {kind.extension_name}, whose values may run code when they "
                    "are read; write the table again with plain columns (text, numbers, lists)"
                )


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield kind
    if isinstance(kind, pa.BaseExtensionType):
        yield from _kinds(kind.storage_type)
    elif isinstance(kind, pa.DictionaryType):
        yield from _kinds(kind.value_type)
    else:
        for index in range(kind.num_fields):
            yield from _kinds(kind.field(index).type)
