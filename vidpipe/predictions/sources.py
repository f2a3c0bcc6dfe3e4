"""What jobs/predict.py was given to label: a video, a listing, a manifest, or clips made before."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

import pyarrow as pa

from vidpipe.config import VIDEO_SUFFIXES
from vidpipe.errors import UsageError
from vidpipe.journal import table_files
from vidpipe.ledger import open_ledger
from vidpipe.manifest.load import is_table, load_manifest
from vidpipe.manifest.schema import MANIFEST_SCHEMA
from vidpipe.spec import ClipSpec
from vidpipe.storage import absolute_url, filesystem, storage_errors
from vidpipe.transfer import join
from vidpipe.video_facts import VIDEO_FACT_NAMES

STORED_COLUMNS = ["video_id", "url", "version", "status", "error_code", "error", *VIDEO_FACT_NAMES, "part"]


@dataclass(frozen=True)
class Source:
    manifest: pa.Table
    prefix: str | None = None
    """The folder or prefix whose videos the manifest lists, all of them that end in one of the `suffixes`."""
    suffixes: tuple[str, ...] = VIDEO_SUFFIXES
    stored: pa.Table | None = None
    """Status rows of the same videos, when their clips were made before."""
    clips: str | None = None
    """The output of preprocess that holds those clips."""


def is_one_video(source: str) -> bool:
    """Whether a source is a file that is no table: a video, or meant to be one."""
    return not is_table(source) and not _is_folder(source)


def find_source(source: str, wanted: ClipSpec, allowed: tuple[str, ...] = ()) -> Source:
    """Raises UsageError when there is nothing to label, or for clips that were not made as `wanted`.

    `allowed`: what a manifest or table may name besides its own bucket.
    """
    if is_table(source) or allowed or not _is_folder(source):
        return Source(load_manifest(source, None, allowed))
    with storage_errors(source):
        is_stored = bool(table_files(join(source, "status")))
    if is_stored:
        return _stored_clips(source, wanted)
    return Source(load_manifest(source, None, allowed), prefix=absolute_url(source))


def stored_spec(source: str) -> ClipSpec | None:
    """How the clips were made that a source holds; None where it is no output of preprocess."""
    if is_table(source) or not _is_folder(source):
        return None
    with storage_errors(source):
        return open_ledger(source).spec if table_files(join(source, "status")) else None


def _stored_clips(source: str, wanted: ClipSpec) -> Source:
    with storage_errors(source):
        ledger = open_ledger(source)
        stored = ledger.read(STORED_COLUMNS)
    differences = ledger.spec.differences(wanted)
    if differences:
        raise UsageError(
            f"{source} holds clips that were made otherwise than the checkpoint wants ({'; '.join(differences)}); "
            "give the videos themselves, or clips made by jobs/preprocess.py with the checkpoint's settings"
        )
    columns = {name: stored[name] for name in ("video_id", "url", "version")}
    columns["size_bytes"] = pa.array([0] * len(stored), pa.int64())
    missing = {name: pa.nulls(len(stored), pa.string()) for name in ("label", "group", "split")}
    return Source(pa.table({**columns, **missing}, schema=MANIFEST_SCHEMA), stored=stored, clips=source)


def _is_folder(source: str) -> bool:
    with storage_errors(source):
        fs, path = filesystem(source)
        return bool(fs.isdir(path)) or posixpath.basename(path) == ""
