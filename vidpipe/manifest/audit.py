"""What must not be in two of train, val and test: a group, or one content under two names."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc

logger = logging.getLogger(__name__)

# S3 ETags (with parts or without), SHA sums, Google's base64 MD5: the same one means the same content. A version of
# size and time does not.
CONTENT_HASH = r"^(?:[0-9a-f]{32,64}(?:-\d+)?|[A-Za-z0-9+/]{22}==)$"


def audit_splits(manifest: pa.Table, *, allow_leakage: bool = False) -> None:
    """ValueError when a group, or the same content, lies in two of train, val and test; only logged if allowed.

    The same content is the same content hash and size, where the storage's versions are hashes; empty files count not.
    """
    used = manifest.filter(pc.is_in(manifest["split"], pa.array(["train", "val", "test"])))
    hashed = used.filter(
        pc.and_(pc.match_substring_regex(used["version"], CONTENT_HASH), pc.greater(used["size_bytes"], 0))
    )
    leaks = [
        *_in_two_splits(used.filter(pc.is_valid(used["group"])), ["group"], "groups"),
        *_in_two_splits(hashed, ["version", "size_bytes"], "contents (same hash and size)"),
    ]
    if leaks and not allow_leakage:
        raise ValueError(
            f"the splits leak: {'; '.join(leaks)}; figures on them would flatter. Correct the splits or groups, "
            "or keep them with --allow-leakage"
        )
    for leak in leaks:
        logger.warning("the splits leak, allowed by --allow-leakage: %s", leak)


def _in_two_splits(videos: pa.Table, keys: list[str], name: str) -> list[str]:
    """A sentence on the keys that are in more than one split, with the first ones; empty when there are none."""
    splits = videos.group_by(keys).aggregate([("split", "count_distinct")])
    both = splits.filter(pc.greater(splits["split_count_distinct"], 1)).sort_by(keys[0])
    if not len(both):
        return []
    examples = []
    for key in both[keys[0]].slice(0, 3).to_pylist():
        rows = videos.filter(pc.equal(videos[keys[0]], key)).sort_by("url").to_pylist()
        pair = {row["split"]: f"{row['split']}: {row['url']}" for row in reversed(rows)}
        examples.append(f"{key} ({', '.join(pair[split] for split in sorted(pair))})")
    return [f"{len(both)} {name} are in more than one split, such as {'; '.join(examples)}"]
