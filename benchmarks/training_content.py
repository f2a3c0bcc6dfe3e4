"""Clips to train on, as `jobs/preprocess.py` leaves them: some videos decoded once, and written again and again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from vidpipe.child import assemble_clips
from vidpipe.decode import decoder_versions, open_video
from vidpipe.guard import Clip
from vidpipe.ledger import Ledger
from vidpipe.parts import PartWriter, clips_schema, part_name
from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

LABELS = ("one", "two", "three", "four")
NUM_DISTINCT = 64  # clips; the others are copies, which Parquet does not know
NUM_VAL = 2
PART_ROWS = 256


def write_clips(videos: list[Path], spec: ClipSpec, num_train: int, output: str) -> None:
    """An output of preprocess with so many clips in train, a few in val, and labels in turn."""
    distinct = [decoded(path, spec) for path in videos[:NUM_DISTINCT]]
    rows = [video_row(number, "train" if number < num_train else "val") for number in range(num_train + NUM_VAL)]
    clips = zip(rows, itertools.cycle(distinct), strict=False)
    folder = Path(output, "clips")
    folder.mkdir(parents=True)
    ledger = Ledger(output, spec)
    schema = clips_schema(spec, decoder_versions(spec.decoder))
    while part := list(itertools.islice(clips, PART_ROWS)):
        writer = PartWriter(folder / ".part", schema)
        for row, clip in part:
            writer.add(row, clip)
        receipts = [{**row, "stage": "preprocess", "status": "ok", "num_clips": 1} for row, _ in part]
        name = part_name(spec, receipts)
        receipts = [{**row, "part": name} for row in receipts]
        writer.close(receipts)
        writer.path.rename(folder / name)
        ledger.commit(receipts)


def video_row(number: int, split: str) -> dict[str, Any]:
    name = f"{number:08d}"
    row = {"video_id": name, "url": f"/videos/{name}.mp4", "version": name, "group": None}
    return {**row, "label": LABELS[number % len(LABELS)], "split": split}


def decoded(path: Path, spec: ClipSpec) -> Clip:
    """The first clip of a video."""
    with open_video(str(path), spec) as video:
        plan, frames = next(iter(assemble_clips(video, plan_clips(video.times_s, spec, str(path)), spec)))
        times_s = video.times_s[plan.frame_indices].tolist()
    return Clip(0, plan.start_s, plan.end_s, times_s, plan.num_repeated, 0.0, frames.tobytes(), None)
