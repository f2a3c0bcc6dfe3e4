"""Rows of a ledger's table, manifest rows and parts, as preprocess would leave them, for unit tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
from small_parts import RAW, clip, video

from vidpipe.ledger import STATUS_COLUMNS, Ledger
from vidpipe.manifest.schema import MANIFEST_SCHEMA
from vidpipe.parts import PartWriter, clips_schema
from vidpipe.spec import ClipSpec


def row(name: str, part: str | None = None, **changes: Any) -> dict[str, Any]:
    """A status row: ok in a part, or failed without one."""
    outcome = {"status": "failed", "error_code": "corrupt", "num_clips": 0}
    if part is not None:
        outcome = {"status": "ok", "error_code": None, "num_clips": 1}
    return {**dict.fromkeys(STATUS_COLUMNS), **video(name), **outcome, "part": part, **changes}


def manifest(*names: str, **changes: Any) -> pa.Table:
    """The manifest rows of these videos, all with the same changes."""
    rows = [{**video(name), "size_bytes": 1, **changes} for name in names]
    return pa.Table.from_pylist(rows, MANIFEST_SCHEMA)


def parts_of(ledger: Ledger) -> dict[str, str | None]:
    table = ledger.read()
    return dict(zip(table["video_id"].to_pylist(), table["part"].to_pylist(), strict=True))


def write_finished_part(
    output: Path, name: str, *videos: str, spec: ClipSpec = RAW, version: str | None = None
) -> None:
    """A whole part with a clip of each video, as a task leaves it: nobody has recorded it yet."""
    (output / "clips").mkdir(parents=True, exist_ok=True)
    writer = PartWriter(output / "clips" / name, clips_schema(spec, {}))
    receipts = [row(one, name, **({"version": version} if version else {})) for one in videos]
    for receipt in receipts:
        writer.add(receipt, clip(spec, 0))
    writer.close(receipts)


def part(digit: str) -> str:
    """The name of a part, as the hash of its content would be."""
    return f"{24 * digit}.parquet"


def status_files(output: Path) -> list[str]:
    return sorted(os.listdir(output / "status"))
