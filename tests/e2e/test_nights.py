"""Nights of labelling a bucket, killed at random moments: the same tables as undisturbed ones, nothing lost or twice.

Night 1: all videos, some of them bad. Night 2: some new, some changed, some deleted. Night 3: nothing new. Night 4: a
new checkpoint. Longer, with torch: VIDPIPE_NIGHT_VIDEOS=500 VIDPIPE_NIGHT_KILLS=4 VIDPIPE_NIGHT_TORCH=1 (20 minutes);
other moments: VIDPIPE_NIGHT_SEED.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import colour_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import s3fs
from killing import kill, victims, wait_until_gone
from running import ROOT, S3Server, environment
from small_checkpoint import make_checkpoint

from vidpipe.config import PredictConfig
from vidpipe.predictions import read_predictions
from vidpipe.stages.predict import Work, predict
from vidpipe.synthetic import generate_broken, generate_folder

NUM_VIDEOS = int(os.environ.get("VIDPIPE_NIGHT_VIDEOS", "30"))
NUM_KILLS = int(os.environ.get("VIDPIPE_NIGHT_KILLS", "1"))  # in each night that has work
SEED = int(os.environ.get("VIDPIPE_NIGHT_SEED", "0"))
WITH_TORCH = bool(os.environ.get("VIDPIPE_NIGHT_TORCH"))
LIMIT_S = 900
FLAGS: dict[str, Any] = {"segments": True, "window_s": 0.4, "hop_s": 0.2, "all_scores": True, "max_failure_rate": 1.0}
SAME = ["video_id", "url", "version", "status", "error_code", "label", "num_clips", "checkpoint_id", "is_deleted"]
MARKS = {"worker": "ray::MapBatches", "model": "ray::MapWorker", "decoder": "vidpipe.child"}  # in command lines
KINDS = ("driver", "everything", *MARKS)

# A night as a process of its own: what jobs/predict.py does, with the model of the tests.
SCRIPT = """
import sys
from functools import partial
import ray
import colour_model
from vidpipe.cli import run
from vidpipe.config import PredictConfig
from vidpipe.stages.predict import Work, predict

ray.cloudpickle.register_pickle_by_value(colour_model)
work = Work() if {with_torch} else Work(model=colour_model.ColourModel)
run(partial(predict, work=work), PredictConfig(**{settings!r}))
"""


@dataclass
class Nights:
    """The same bucket labelled twice: calmly into one output, with kills into the other."""

    bucket: str
    folder: Path
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def videos(self) -> str:
        return f"{self.bucket}/videos"

    def settings(self, name: str, checkpoint: str) -> dict[str, Any]:
        return {"source": self.videos, "output": f"{self.bucket}/{name}", "checkpoint": checkpoint, **FLAGS}

    def run(self, name: str, checkpoint: str) -> dict[str, int]:
        """One night to its end, in this process; the counts of its run.json."""
        work = Work() if WITH_TORCH else Work(model=colour_model.ColourModel)
        predict(PredictConfig(**self.settings(name, checkpoint)), work)
        return json.loads(s3fs.S3FileSystem().cat(f"{self.bucket}/{name}/run.json"))["counts"]

    def kill_some(self, checkpoint: str) -> None:
        """Nights that are killed, or of which a process is killed, at random moments."""
        left = NUM_KILLS
        while left:
            with open(self.folder / "stormy.log", "ab") as log:
                settings = self.settings("stormy", checkpoint)
                driver = subprocess.Popen(
                    [sys.executable, "-c", SCRIPT.format(settings=settings, with_torch=WITH_TORCH)],
                    env=environment({"RAY_ADDRESS": "local", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}),
                    stdout=log,
                    stderr=log,
                )
            while driver.poll() is None and left:
                self.wait_for_decoder(driver)
                time.sleep(self.chance.uniform(0, 3 + NUM_VIDEOS / 50))
                kind = self.chance.choice(KINDS)
                if driver.poll() is None and kill(victims(driver, kind, MARKS)):
                    self.kills[kind] += 1
                    left -= 1
                    if kind in ("driver", "everything"):
                        driver.wait(60)
            code = driver.wait(LIMIT_S)
            assert code in (0, -9), (self.folder / "stormy.log").read_text()[-3000:]
            wait_until_gone(f"{self.bucket}/stormy")
            if code == 0:
                return

    def wait_for_decoder(self, driver: subprocess.Popen[bytes]) -> None:
        """Until something is decoded: most of a short night is Ray's start, and killing that shows little."""
        while driver.poll() is None and not victims(driver, "decoder", MARKS):
            time.sleep(0.05)

    def check(self) -> pa.Table:
        """Both outputs hold the same rows, once each, for any reader; returns the predictions."""
        fs = s3fs.S3FileSystem()
        fs.invalidate_cache()
        calm, stormy = (read_predictions(f"{self.bucket}/{name}").sort_by("url") for name in ("calm", "stormy"))
        plain = pa.concat_tables(
            [pq.read_table(fs.open(path), columns=["video_id"]) for path in fs.ls(f"{self.bucket}/stormy/predictions")]
        )
        assert sorted(plain["video_id"].to_pylist()) == sorted(calm["video_id"].to_pylist())
        assert stormy.select(SAME).equals(calm.select(SAME))
        for mine, theirs in zip(stormy["scores"].to_pylist(), calm["scores"].to_pylist(), strict=True):
            assert mine == (theirs and pytest.approx(theirs, abs=1e-5))
        assert segments_of(f"{self.bucket}/stormy") == segments_of(f"{self.bucket}/calm")
        return calm


def segments_of(output: str) -> list[tuple[Any, ...]]:
    """All rows of all files, as a reader finds them that knows nothing of the predictions."""
    fs = s3fs.S3FileSystem()
    tables = [pq.read_table(fs.open(path)) for path in fs.ls(f"{output}/segments")]
    rows = [row for table in tables for row in table.drop_columns("score").to_pylist()]
    return sorted(tuple(row.values()) for row in rows)


def second_night(bucket: str, folder: Path) -> tuple[int, int, int]:
    """Change the bucket: how many videos are new, changed and deleted."""
    fs = s3fs.S3FileSystem()
    good = sorted(path for path in fs.find(f"{bucket}/videos") if "/left/" in path or "/up/" in path)
    num_new, num_changed, num_deleted = max(NUM_VIDEOS // 10, 2), max(NUM_VIDEOS // 100, 1), max(NUM_VIDEOS // 160, 1)
    generate_folder(str(folder / "new"), num_videos=num_new + num_changed, seed=SEED + 1, num_frames=24)
    paths = sorted((folder / "new").rglob("*.*"))
    for path, target in zip(paths, good[:num_changed], strict=False):
        fs.put(str(path), target)
    for path in paths[num_changed:]:
        fs.put(str(path), f"{bucket}/videos/new/{path.name}")
    for path in good[num_changed : num_changed + num_deleted]:
        fs.rm(path)
    return num_new, num_changed, num_deleted


@pytest.mark.usefixtures("ray_local")
def test_nights_that_were_killed_end_as_those_that_were_not(s3: S3Server, tmp_path: Path):
    ray.cloudpickle.register_pickle_by_value(colour_model)
    nights = Nights(s3.make_bucket(), tmp_path, random.Random(SEED))
    num_bad = max(NUM_VIDEOS * 12 // 500, 2)
    generate_folder(nights.videos, num_videos=NUM_VIDEOS - num_bad, seed=SEED, num_frames=24, height=64, width=96)
    generate_broken(nights.videos, num_videos=num_bad, seed=SEED)
    first, second = (make_checkpoint(tmp_path / name, seed) for seed, name in enumerate(("model", "model2")))

    def night(checkpoint: str, *, is_killed: bool) -> dict[str, int]:
        if is_killed:
            nights.kill_some(checkpoint)
        nights.run("stormy", checkpoint)
        counts = nights.run("calm", checkpoint)
        print({name: number for name, number in counts.items() if number}, f"killed so far: {dict(nights.kills)}")
        return counts

    counts = night(first, is_killed=True)
    assert (counts["ok"], counts["failed"]) == (NUM_VIDEOS - num_bad, num_bad)
    assert len(nights.check()) == NUM_VIDEOS

    num_new, num_changed, num_deleted = second_night(nights.bucket, tmp_path)
    counts = night(first, is_killed=True)
    assert counts["ok"] + counts["failed"] == num_new + num_changed
    table = nights.check()
    assert sum(table["is_deleted"].to_pylist()) == num_deleted

    num_there = NUM_VIDEOS + num_new - num_deleted
    counts = night(first, is_killed=False)
    assert (counts["ok"], counts["failed"], counts["unchanged"]) == (0, 0, num_there)
    assert nights.check().equals(table)

    counts = night(second, is_killed=WITH_TORCH)
    assert counts["ok"] + counts["failed"] == num_there
    labelled = nights.check()
    assert Counter(labelled["checkpoint_id"].to_pylist()).most_common()[0][1] == num_there
