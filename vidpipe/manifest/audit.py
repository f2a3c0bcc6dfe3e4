"""What must not be in two of train, val and test: a group, or one content under two names."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.errors import UsageError

logger = logging.getLogger(__name__)

# S3 ETags (with parts or without), SHA sums, Google's base64 MD5: the same one means the same content. A version of
# size and time does not.
CONTENT_HASH = r"^(?:[0-9a-f]{32,64}(?:-\d+)?|[A-Za-z0-9+/]{22}==)$"


def contents(manifest: pa.Table) -> pa.ChunkedArray:
    """Hash and size, equal only for equal content; null where the version is no hash or the file is empty."""
    is_hash = pc.and_(
        pc.match_substring_regex(manifest["version"], CONTENT_HASH), pc.greater(manifest["size_bytes"], 0)
    )
    content = pc.binary_join_element_wise(manifest["version"], manifest["size_bytes"].cast(pa.string()), " ")
    return pc.if_else(is_hash, content, pa.scalar(None, pa.string()))


def audit_splits(manifest: pa.Table, *, allow_leakage: bool = False) -> None:
    """UsageError when a group, or the same content, lies in two of train, val and test; only logged if allowed."""
    used = manifest.filter(pc.is_in(manifest["split"], pa.array(["train", "val", "test"])))
    used = used.append_column("content", contents(used))
    leaks = [
        *_in_two_splits(used, "group", "groups"),
        *_in_two_splits(used, "content", "contents (same hash and size)"),
    ]
    if leaks and not allow_leakage:
        raise UsageError(
            f"the splits leak: {'; '.join(leaks)}; figures on them would flatter. Correct the splits or groups, "
            "or keep them with --allow-leakage"
        )
    for leak in leaks:
        logger.warning("the splits leak, allowed by --allow-leakage: %s", leak)


def _in_two_splits(videos: pa.Table, key: str, name: str) -> list[str]:
    """A sentence on the keys that are in more than one split, with the first ones; empty when there are none."""
    videos = videos.filter(pc.is_valid(videos[key]))
    splits = videos.group_by(key).aggregate([("split", "count_distinct")])
    both = splits.filter(pc.greater(splits["split_count_distinct"], 1)).sort_by(key)
    if not len(both):
        return []
    examples = []
    for value in both[key].slice(0, 3).to_pylist():
        rows = videos.filter(pc.equal(videos[key], value)).sort_by("url").to_pylist()
        first = {row["split"]: f"{row['split']}: {row['url']}" for row in reversed(rows)}
        examples.append(f"{value} ({', '.join(first[split] for split in sorted(first))})")
    return [f"{len(both)} {name} are in more than one split, such as {'; '.join(examples)}"]
