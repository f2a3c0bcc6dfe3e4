"""Facts of a video that was delivered: the columns that every table of videos has for it."""

from __future__ import annotations

VIDEO_FACTS: tuple[tuple[str, str], ...] = (
    ("codec", "string"),
    ("width", "int32"),
    ("height", "int32"),
    ("duration_s", "float64"),
    ("num_clips", "int64"),
    ("num_damaged", "int64"),  # packets; null of decoders that do not tell
    ("max_shift_s", "float64"),  # of any clip
)
"""Names, with the aliases of their Arrow types: this is read where Arrow is not, in the child that decodes."""
VIDEO_FACT_NAMES = tuple(name for name, _ in VIDEO_FACTS)
