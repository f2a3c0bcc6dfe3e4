"""The predictions as one file that a person or a script reads: written whole, of the whole table, one row a video."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pyarrow as pa

from vidpipe.transfer import join, put_bytes

# Spaces are passed over, and full-width letters taken for plain ones, by some of the programs that open a CSV.
FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n", " ", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_jsonl(output: str, predictions: pa.Table) -> None:
    """OUTPUT/predictions.jsonl: an object a line; what a video does not have is null."""
    lines = io.StringIO()
    for batch in predictions.to_batches():
        for row in batch.to_pylist():
            lines.write(json.dumps(row, default=lambda moment: moment.isoformat(), ensure_ascii=False) + "\n")
    put_bytes(lines.getvalue().encode(), join(output, "predictions.jsonl"))


def write_csv(output: str, predictions: pa.Table) -> None:
    """OUTPUT/predictions.csv with a header; lists are JSON, what a video does not have is empty.

    A text that a spreadsheet would take for a formula has an apostrophe before it (OWASP, "CSV injection"): names come
    from strangers, and this file is opened by people. Parquet and JSONL hold every text as it is.
    """
    lines = io.StringIO()
    # With "\n" alone, a text with a carriage return would not be quoted, and a reader would see a row begin there.
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(predictions.column_names)
    for batch in predictions.to_batches():
        writer.writerows(map(_cell, row.values()) for row in batch.to_pylist())
    put_bytes(lines.getvalue().encode(), join(output, "predictions.csv"))


def _cell(value: object) -> object:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(FORMULA_BEGINNINGS):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value


EXPORTS: dict[str, Callable[[str, pa.Table], None]] = {"jsonl": write_jsonl, "csv": write_csv}
