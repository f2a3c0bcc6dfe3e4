"""The predictions of one output: what is left to label, rows in, and order at the end of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.journal import NAME, Journal, table_files
from vidpipe.lease import FOLDER as LEASE_FOLDER
from vidpipe.lease import NAME as CLAIM_NAME
from vidpipe.own_files import others_in
from vidpipe.predictions import FOLDER, read_facts
from vidpipe.predictions.answers import Answers
from vidpipe.predictions.question import Question, with_earlier_labels
from vidpipe.predictions.schema import prediction_schema
from vidpipe.predictions.side_table import SideTable
from vidpipe.transfer import join

SIDE_TABLES = ("segments", "features")
FOLDERS = (FOLDER, *SIDE_TABLES, LEASE_FOLDER)
"""An output's own folders: no source lies in them."""
KEY_COLUMNS = ["video_id", "url", "version", "checkpoint_id", "settings_key", "status", "is_deleted"]


@dataclass(frozen=True)
class WorkLeft:
    """A manifest split by what has to be done to its videos."""

    todo: pa.Table
    """Manifest rows to label: new, changed, asked otherwise before, or failed and to be retried."""
    num_unchanged: int
    num_unchanged_failed: int
    """Those of the unchanged whose status is failed."""
    num_new: int
    num_changed: int
    num_asked_otherwise: int
    """Labelled before by another checkpoint or under other settings, or to be labelled again."""
    num_retried: int
    gone: pa.Array
    """Ids of videos under the listed prefix that were there before."""
    returned: pa.Array
    """Ids of unchanged videos that were marked as deleted and are there again."""


class PredictionLog:
    """The predictions table of one output with the tables beside it, for one question.

    `check` is called before anything is written or removed, and raises when this process may not.
    """

    def __init__(self, output: str, question: Question, check: Callable[[], None] = lambda: None) -> None:
        self.output = output
        if table_files(join(output, FOLDER)):
            question = with_earlier_labels(question, read_facts(output))
        self.question = question
        self._journal = Journal(join(output, FOLDER), prediction_schema(question.facts), check)
        asked = {"segments": question.with_segments, "features": question.with_features}
        self._side_tables = {
            name: SideTable(output, name, self._journal, is_asked_for=asked[name]) for name in SIDE_TABLES
        }

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The row of every video."""
        return self._journal.read(columns)

    def work_left(
        self,
        manifest: pa.Table,
        *,
        prefix: str | None,
        suffixes: tuple[str, ...],
        retry_failed: bool,
        relabel: bool,
    ) -> WorkLeft:
        """Compare a manifest with the table. `prefix` is what was listed, when all that lies there was: videos below it
        with one of the `suffixes`, in lower case, that the manifest lacks are gone."""
        known = self.read(KEY_COLUMNS)
        position = pc.index_in(manifest["video_id"], value_set=known["video_id"].combine_chunks())

        def before(column: str) -> pa.ChunkedArray:
            return known[column].take(position)

        def equals(column: str, wanted: pa.ChunkedArray | str) -> pa.ChunkedArray:
            return pc.fill_null(pc.equal(before(column), wanted), False)

        facts = self.question.facts
        same_version = equals("version", manifest["version"])
        asked = pc.and_(equals("checkpoint_id", facts.checkpoint_id), equals("settings_key", facts.settings_key))
        asked = pc.and_not(pc.and_(same_version, asked), relabel)
        failed = equals("status", "failed")
        retried = pc.and_(pc.and_(asked, failed), retry_failed)
        done = pc.and_not(asked, retried)
        listed = pc.is_in(known["video_id"], value_set=manifest["video_id"].combine_chunks())
        would_be_listed = _lies_below(known["url"], prefix, suffixes) if prefix is not None else pa.scalar(False)
        gone = pc.and_(pc.and_not(would_be_listed, listed), pc.invert(known["is_deleted"]))
        returned = pc.and_(done, pc.fill_null(before("is_deleted"), False))
        return WorkLeft(
            todo=manifest.filter(pc.invert(done)),
            num_unchanged=_count(done),
            num_unchanged_failed=_count(pc.and_(done, failed)),
            num_new=_count(pc.is_null(position)),
            num_changed=_count(pc.and_not(pc.is_valid(position), same_version)),
            num_asked_otherwise=_count(pc.and_not(same_version, asked)),
            num_retried=_count(retried),
            gone=known.filter(gone)["video_id"].combine_chunks(),
            returned=manifest.filter(returned)["video_id"].combine_chunks(),
        )

    def commit(self, answers: Answers) -> None:
        """Write rows; what they name beside the table is written before them."""
        for name, table in (("segments", answers.segments), ("features", answers.features)):
            if table is None:
                continue
            part = self._side_tables[name].write(table)
            for row in answers.rows:
                if row["status"] == "ok":
                    row[f"{name}_part"] = part
        self._journal.commit(answers.rows)

    def mark(self, video_ids: pa.Array, *, is_deleted: bool) -> None:
        """Keep the rows of these videos, and say whether the video is still there."""
        self._journal.amend(video_ids, "is_deleted", pa.array([is_deleted] * len(video_ids)))

    def tidy(self) -> None:
        """One row a video for any reader, and no file that nothing names."""
        for table in self._side_tables.values():
            table.tidy()
        self.sweep()
        self._journal.compact()

    def sweep(self) -> None:
        """Remove what killed runs left."""
        for table in self._side_tables.values():
            table.sweep()

    def others(self) -> dict[str, list[str]]:
        """Names of files that vidpipe did not write in the output's own folders, by folder."""
        return {
            FOLDER: others_in(join(self.output, FOLDER), NAME),
            **{name: table.others() for name, table in self._side_tables.items()},
            LEASE_FOLDER: others_in(join(self.output, LEASE_FOLDER), CLAIM_NAME),
        }

    def num_deleted(self) -> int:
        """Videos that have a row and are no longer where they were listed."""
        return _count(self.read(["video_id", "is_deleted"])["is_deleted"])

    def check_counts(self, manifest: pa.Table, counts: dict[str, int]) -> None:
        """Raise RuntimeError when the counts of a run and the rows of the table do not add up."""
        known = self.read(KEY_COLUMNS)
        position = pc.index_in(manifest["video_id"], value_set=known["video_id"].combine_chunks())
        facts = self.question.facts
        wanted = {"version": manifest["version"], "checkpoint_id": facts.checkpoint_id}
        wanted |= {"settings_key": facts.settings_key, "is_deleted": False}
        answered = pc.is_valid(position)
        for column, value in wanted.items():
            answered = pc.and_(answered, pc.fill_null(pc.equal(known[column].take(position), value), False))
        num_answered = _count(answered)
        missing = [name for table in self._side_tables.values() for name in table.missing()]
        num_accounted = counts["ok"] + counts["failed"] + counts["unchanged"] + counts["remaining"]
        # With --relabel or --retry-failed, those that --limit left over have an answer, too: the one from before.
        is_short = num_answered < counts["videos"] - counts["remaining"]
        if missing or is_short or num_accounted != counts["videos"] or counts["videos"] != len(manifest):
            raise RuntimeError(
                f"the accounts do not add up: {counts}, {num_answered} videos with an answer, {len(missing)} files "
                f"missing (first: {min(missing, default='none')})"
            )


def _lies_below(urls: pa.ChunkedArray, prefix: str, suffixes: tuple[str, ...]) -> pa.ChunkedArray:
    endings = "|".join(map(re.escape, suffixes))
    is_video = pc.match_substring_regex(urls, rf"({endings})$", ignore_case=True)
    return pc.and_(pc.starts_with(urls, prefix.rstrip("/") + "/"), is_video)


def _count(mask: pa.ChunkedArray | pa.Array) -> int:
    return pc.sum(mask).as_py() or 0
