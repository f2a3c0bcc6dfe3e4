"""The output of preprocess without a video behind it: clips of noise with a mark that tells their label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidpipe.guard import Clip
from vidpipe.ledger import STATUS_COLUMNS, Ledger
from vidpipe.parts import PartWriter, clips_schema
from vidpipe.spec import ClipSpec

SPEC = ClipSpec(num_frames=4, size="32")
LABELS = ("down", "left", "up")


def video(name: str, label: str | None, split: str | None) -> dict[str, Any]:
    row = {"video_id": name, "url": f"/videos/{name}.mp4", "version": "1", "group": None}
    return {**dict.fromkeys(STATUS_COLUMNS), **row, "label": label, "split": split}


def frames_of(spec: ClipSpec, mark: int, seed: int) -> np.ndarray:
    """Noise, and a bright band whose height tells the label."""
    frames = np.random.default_rng(seed).integers(128, size=spec.shape, dtype=np.uint8)
    frames[:, : 10 * (mark + 1)] += 100
    return frames


def write_clips(
    output: Path,
    splits: dict[str | None, int],
    *,
    spec: ClipSpec = SPEC,
    labels: Sequence[str | None] = LABELS,
    num_clips: int = 1,
    videos_a_part: int = 5,
    rows_a_group: int = 3,
    failed: dict[str, int] | None = None,
    seed: int = 0,
    videos_a_group: int | None = None,
) -> Path:
    """So many videos of each split with `num_clips` clips, labels in turn, and some that failed to decode, which are in
    the first group where there are groups."""
    (output / "clips").mkdir(parents=True)
    ledger = Ledger(str(output), spec)
    names = [(f"{split}-{number:03d}", split, number) for split, count in splits.items() for number in range(count)]
    for first in range(0, len(names), videos_a_part):
        part = f"{first:024x}.parquet"
        writer = PartWriter(output / "clips" / part, clips_schema(spec, {}))
        receipts = []
        for name, split, number in names[first : first + videos_a_part]:
            row = video(name, labels[number % len(labels)], split)
            if videos_a_group is not None:
                row["group"] = f"{split} {number // videos_a_group}"
            for clip_index in range(num_clips):
                frames = frames_of(spec, number % len(labels), len(names) * seed + first * 100 + writer.num_rows)
                writer.add(row, as_clip(spec, frames, clip_index))
                if writer.num_rows % rows_a_group == 0:
                    writer._flush()  # real row groups hold 8 MB
            receipts.append({**row, "status": "ok", "num_clips": num_clips, "part": part})
        writer.close(receipts)
        ledger.commit(receipts)
    bad = [(split, number) for split, count in (failed or {}).items() for number in range(count)]
    if bad:
        outcome = {"status": "failed", "error_code": "corrupt", "error": "broken", "num_clips": 0}
        group = {} if videos_a_group is None else {"group": "val 0"}
        ledger.commit([video(f"{s}-bad-{n}", labels[n % len(labels)], s) | outcome | group for s, n in bad])
    return output


def as_clip(spec: ClipSpec, frames: np.ndarray, clip_index: int) -> Clip:
    images = None
    if spec.encoding == "jpeg":
        import simplejpeg

        colorspace = "RGB" if spec.color == "rgb" else "GRAY"
        images = [simplejpeg.encode_jpeg(np.ascontiguousarray(frame), colorspace=colorspace) for frame in frames]
    return Clip(
        clip_index=clip_index,
        start_s=0.0,
        end_s=1.0,
        frame_pts_s=[0.0] * len(frames),
        num_repeated=0,
        max_shift_s=0.0,
        payload=frames.tobytes() if images is None else b"".join(images),
        sizes=None if images is None else [len(image) for image in images],
    )
