"""What was done to each video: one status row each, committed in whole files; and what is left to do.

`status/` is a `Journal`: of two rows of one video the later one counts. A part of clips that no status row names counts
for nothing: readers never see it, and `sweep` removes it. What others put beside the parts stays, see `own_files`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.errors import UsageError
from vidpipe.file_errors import NO_FACTS, own_file
from vidpipe.journal import NAME, WAY_OUT, Journal, latest_rows, read_schema, table_files
from vidpipe.lease import FOLDER as LEASE_FOLDER
from vidpipe.lease import NAME as CLAIM_NAME
from vidpipe.own_files import CONTENT_NAME, SortedFiles, others_in, sort_files
from vidpipe.parts import METADATA_KEY, RECEIPTS_KEY, part_receipts, spec_of
from vidpipe.spec import ClipSpec
from vidpipe.transfer import join, remove_files
from vidpipe.video_facts import VIDEO_FACTS

STATUS_COLUMNS = {
    "video_id": pa.string(),
    "url": pa.string(),
    "version": pa.string(),
    "status": pa.string(),
    "stage": pa.string(),
    "error_code": pa.string(),
    "error": pa.string(),
    **{name: pa.type_for_alias(kind) for name, kind in VIDEO_FACTS},
    "part": pa.string(),
    "decode_s": pa.float64(),
    "bytes_read": pa.int64(),
    "num_requests": pa.int64(),
    "label": pa.string(),
    "split": pa.string(),
    "group": pa.string(),
}
LABEL_COLUMNS = ["label", "split", "group"]
FOLDERS = ("clips", "status", LEASE_FOLDER)
"""An output's own folders: no source lies in them."""


@dataclass(frozen=True)
class WorkLeft:
    """A manifest split by what has to be done to its videos."""

    todo: pa.Table
    """Manifest rows to decode: new, changed, or failed and to be retried."""
    relabelled: pa.Table
    """Manifest rows whose clips are right, but carry another label, split or group."""
    num_unchanged: int
    num_unchanged_failed: int
    """Those of the unchanged whose status is failed."""
    num_new: int
    num_changed: int
    num_retried: int
    num_gone: int
    """Videos with a status that the manifest does not list (any more); they keep it, and their clips."""


class Ledger:
    """The status table of one output; all clips of an output have one ClipSpec.

    `check` is called before anything is written or removed, and raises when this process may not.
    """

    def __init__(self, output: str, spec: ClipSpec, check: Callable[[], None] = lambda: None) -> None:
        self.output = output
        self.spec = spec
        self._journal = Journal(join(output, "status"), status_schema(spec), check)
        self._check_settings(spec)

    def read(self, columns: Iterable[str] = STATUS_COLUMNS) -> pa.Table:
        """The status of every video, one row each."""
        rows = self._journal.read(columns)
        if "part" in rows.column_names:
            check_file_names(rows["part"], join(self.output, "status"))
        return rows

    def commit(self, rows: list[dict[str, Any]] | pa.Table) -> None:
        """Write status rows; they count from the moment that the file is there, all of them at once."""
        self._journal.commit(rows)

    def compact(self) -> None:
        """Merge small status files, and those with replaced rows, into one: each video has one row for any reader."""
        self._journal.compact()

    def work_left(self, manifest: pa.Table, *, retry_failed: bool) -> WorkLeft:
        """Compare a manifest with the status table."""
        status = self.read(["video_id", "version", "status", *LABEL_COLUMNS])
        position = pc.index_in(manifest["video_id"], value_set=status["video_id"].combine_chunks())
        known = pc.is_valid(position)

        def before(column: str) -> pa.ChunkedArray:
            return status[column].take(position)

        same_version = pc.fill_null(pc.equal(manifest["version"], before("version")), False)
        failed = pc.fill_null(pc.equal(before("status"), "failed"), False)
        retried = pc.and_(pc.and_(same_version, failed), retry_failed)
        done = pc.and_not(same_version, retried)
        other_label = pa.array(np.zeros(len(manifest), bool))
        for column in LABEL_COLUMNS:
            same = pc.equal(pc.fill_null(manifest[column], ""), pc.fill_null(before(column), ""))
            other_label = pc.or_(other_label, pc.invert(pc.fill_null(same, True)))
        seen = pc.is_in(status["video_id"], value_set=manifest["video_id"].combine_chunks())
        return WorkLeft(
            todo=manifest.filter(pc.invert(done)) if _count(done) else manifest,
            relabelled=manifest.filter(pc.and_(done, other_label)),
            num_unchanged=_count(done),
            num_unchanged_failed=_count(pc.and_(done, failed)),
            num_new=_count(pc.invert(known)),
            num_changed=_count(pc.and_not(known, same_version)),
            num_retried=_count(retried),
            num_gone=len(status) - _count(seen),
        )

    def parts(self) -> list[str]:
        """Names of the parts that hold clips; what else lies in `clips/` is none of the table."""
        return sorted(name for name in pc.unique(self.read(["video_id", "part"])["part"]).to_pylist() if name)

    def adopt(self, todo: pa.Table) -> int:
        """Commit finished parts that an earlier run wrote and had no time to record; returns how many videos.

        A part is taken only when it has these settings and every video in it is still to do, in the version it holds.
        """
        names = [name for name in self._files().left_over if CONTENT_NAME.fullmatch(name)]
        if not names:
            return 0
        wanted = dict(zip(todo["video_id"].to_pylist(), todo["version"].to_pylist(), strict=True))
        adopted: list[dict[str, Any]] = []
        for name in names:
            receipts = part_receipts(self.output, name, self.spec)
            if receipts and all(wanted.get(row["video_id"]) == row["version"] for row in receipts):
                adopted += receipts
                for row in receipts:
                    del wanted[row["video_id"]]
        if adopted:
            self.commit(adopted)
        return len(adopted)

    def stale_parts(self) -> list[str]:
        """Parts in use that still hold clips of a video whose status has moved on (changed, or failed since)."""
        return self._journal.stale("part")

    def sweep(self) -> int:
        """Remove parts of vidpipe's that no status row names and files that were never finished; returns how many.

        Before `compact`: rows that were replaced still say which parts there were.
        """
        names = self._files().left_over
        self._journal.check()
        remove_files(join(self.output, "clips"), names)
        return len(names)

    def others(self) -> dict[str, list[str]]:
        """Names of files that vidpipe did not write in the output's own folders, by folder."""
        return {
            "clips": self._files().others,
            "status": others_in(self._journal.folder, NAME),
            LEASE_FOLDER: others_in(join(self.output, LEASE_FOLDER), CLAIM_NAME),
        }

    def _check_settings(self, spec: ClipSpec) -> None:
        names = self._journal.names()
        if not names:
            return
        made_with = _settings_in(join(self._journal.folder, names[-1]))
        differences = made_with.differences(spec)
        if differences:
            raise UsageError(
                f"{self.output} holds clips made with other settings ({'; '.join(differences)}); "
                "give the same flags as then, or another --output"
            )

    def _files(self) -> SortedFiles:
        """The files of `clips/` besides the parts in use."""
        every = self._journal.read_all(["video_id", "part"])
        once, now = (set(pc.unique(rows["part"]).to_pylist()) for rows in (every, latest_rows(every)))
        return sort_files(join(self.output, "clips"), now, once, RECEIPTS_KEY)


def open_ledger(output: str) -> Ledger:
    """The ledger of an output that is there; UsageError when there is none."""
    names = table_files(join(output, "status"))
    if not names:
        raise UsageError(f"{output} holds no clips: it has no status/*.parquet; make them with jobs/preprocess.py")
    return Ledger(output, _settings_in(join(output, "status", names[-1])))


def _settings_in(url: str) -> ClipSpec:
    """The settings that a status file was written with."""
    schema = read_schema(url)
    with own_file(url, WAY_OUT, NO_FACTS):
        return spec_of(schema)


def settings_of(output: str, spec: ClipSpec) -> ClipSpec:
    """`spec` for this output: rules that were not asked for are those of the clips that it holds."""
    names = table_files(join(output, "status"))
    return spec.following(_settings_in(join(output, "status", names[-1]))) if names else spec


def check_file_names(names: pa.ChunkedArray, source: str) -> None:
    """UsageError when a table names a file that is not beside it: whoever wrote it would choose what is read."""
    odd = pc.drop_null(pc.unique(names))
    odd = odd.filter(pc.invert(pc.match_substring_regex(odd, r"^[\w-][\w.-]*$")))
    if len(odd):
        raise UsageError(
            f"{source} names a part {odd[0].as_py()!r}, which is no file of clips/; this table was not written by "
            "vidpipe, or was changed: preprocess to another output"
        )


def status_schema(spec: ClipSpec) -> pa.Schema:
    """Columns of the status table; its metadata holds the settings of the clips."""
    return pa.schema(STATUS_COLUMNS, {METADATA_KEY: json.dumps({"clip_spec": json.loads(spec.to_json())}).encode()})


def _count(mask: pa.ChunkedArray | pa.Array) -> int:
    return pc.sum(mask).as_py() or 0
