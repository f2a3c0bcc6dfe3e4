"""One task of preprocess, in plain Python: some manifest rows become parts of clips, and one receipt a video."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidpipe.delivery import Delivery, deliveries, kept_guard, spool_folder
from vidpipe.guard import Clip, Guard
from vidpipe.parts import RECEIPTS_KEY, PartWriter, clips_schema, open_part, own_part, part_name
from vidpipe.plain_tables import open_parquet
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem
from vidpipe.task_cutting import HAND_ON_EVERY_S
from vidpipe.transfer import join, put_file


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """What a task needs to know besides its videos."""

    output: str
    spec: ClipSpec
    part_bytes: int
    time_limit_s: float
    memory_limit_bytes: int
    receipts_every_s: float = HAND_ON_EVERY_S


def make_parts(videos: list[dict[str, Any]], settings: PartSettings) -> list[dict[str, Any]]:
    """Decode manifest rows, write their clips as parts, and return one status row per video.

    A part appears under its name when it is whole; without the receipts it counts for nothing.
    """
    return [receipt for receipts in receipts_of_parts(videos, settings) for receipt in receipts]


def receipts_of_parts(videos: list[dict[str, Any]], settings: PartSettings) -> Iterator[list[dict[str, Any]]]:
    """Do the same, and hand out the status rows whenever a part is full or a minute has passed.

    A receipt names its video's part, which must be there by then: a part ends with each of these.
    """
    guard = kept_guard(settings.spec, settings.time_limit_s, settings.memory_limit_bytes)
    receipts: list[dict[str, Any]] = []
    handed_out_s = time.monotonic()
    with spool_folder() as folder:
        part = _OpenPart(settings, folder)
        for delivery in deliveries(videos, guard, folder):
            receipts.append(part.add_video(delivery, guard))
            is_due = time.monotonic() - handed_out_s >= settings.receipts_every_s
            if is_due or part.num_bytes >= settings.part_bytes:
                part.finish()
                yield receipts
                receipts, handed_out_s = [], time.monotonic()
        part.finish()
    if receipts:
        yield receipts


def rewrite_part(name: str, statuses: list[dict[str, Any]], settings: PartSettings) -> list[dict[str, Any]]:
    """Copy a part with only the videos of `statuses`, under their present labels; returns their new status rows."""
    rows_of = {row["video_id"]: row for row in statuses}
    target = part_name(settings.spec, statuses)
    receipts = [{**row, "part": target} for row in statuses]
    url = join(settings.output, "clips", name)
    fs, path = filesystem(url)
    with spool_folder() as folder:
        local = folder / target
        with own_part(url), fs.open(path, "rb") as file, open_parquet(file) as source:
            made_with = source.schema_arrow.metadata
            with open_part(local, clips_schema(settings.spec, {}).with_metadata(made_with)) as writer:
                for group in range(source.num_row_groups):
                    table = _relabelled(source.read_row_group(group), rows_of)
                    if len(table):
                        writer.write_table(table)
                writer.add_key_value_metadata({RECEIPTS_KEY: _as_json(receipts)})
        put_file(local, join(settings.output, "clips", target))
    return receipts


def _relabelled(clips: pa.Table, rows_of: dict[str, dict[str, Any]]) -> pa.Table:
    """The clips of the videos in `rows_of`, with the labels given there."""
    clips = clips.filter(pa.array([video_id in rows_of for video_id in clips["video_id"].to_pylist()]))
    kept = [rows_of[video_id] for video_id in clips["video_id"].to_pylist()]
    for column in ("label", "split", "group"):
        values = pa.array([row[column] for row in kept], pa.string())
        clips = clips.set_column(clips.schema.get_field_index(column), column, values)
    return clips


class _OpenPart:
    """The part being written: videos go in one after the other, and none half."""

    def __init__(self, settings: PartSettings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._writer: PartWriter | None = None
        self._receipts: list[dict[str, Any]] = []

    @property
    def num_bytes(self) -> int:
        return self._writer.num_bytes if self._writer else 0

    def add_video(self, delivery: Delivery, guard: Guard) -> dict[str, Any]:
        """Decode one video into the part; a bad one leaves no clip in it. Returns its status row, to be completed."""
        if self._writer is None:
            schema = clips_schema(self._settings.spec, guard.decoder_versions)
            self._writer = PartWriter(self._folder / f"{len(os.listdir(self._folder))}.part", schema)
        writer, first_row, video = self._writer, self._writer.num_rows, delivery.video
        for event in delivery.events():
            if isinstance(event, Clip):
                writer.add(video, event)
            else:
                writer.drop_back_to(first_row)
        receipt = {name: video[name] for name in ("video_id", "url", "version", "label", "split", "group")}
        receipt |= {"stage": "preprocess", **delivery.receipt}
        if receipt["status"] == "failed":
            writer.drop_back_to(first_row)
        else:
            self._receipts.append(receipt)
        return receipt

    def finish(self) -> None:
        """Write the part under its name, and enter the name into the receipts of its videos."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        receipts, self._receipts = self._receipts, []
        if not receipts:
            writer.abandon()
            return
        name = part_name(self._settings.spec, receipts)
        for receipt in receipts:
            receipt["part"] = name
        writer.close(receipts)
        put_file(writer.path, join(self._settings.output, "clips", name))


def _as_json(receipts: list[dict[str, Any]]) -> bytes:
    return json.dumps(receipts).encode()
