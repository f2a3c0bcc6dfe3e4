"""What a driver does for each video besides waiting, without Ray and without a video: CPU seconds and memory of each
step, on tables of up to a million rows, and what a million more rows add.

    python benchmarks/slopes.py                             # 10,000, 100,000 and 1,000,000 videos
    python benchmarks/slopes.py --sizes 1000000 3000000     # one that comes to hold more than --max-gb ends early

Each size has a process of its own, on one thread. docs/scale.md is written from these figures.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.parsers
import botocore.session
import numpy as np
import psutil
import pyarrow as pa
import tyro
from scale import LABELS, NoopModel, noop_blocks

from vidpipe.checkpoint_facts import CheckpointFacts
from vidpipe.clip_blocks import BlockSettings
from vidpipe.config import PredictConfig
from vidpipe.ledger import Ledger, status_schema
from vidpipe.listing import _list_s3
from vidpipe.manifest.schema import build_manifest, files_table, read_manifest, write_manifest
from vidpipe.model_spec import ModelSpec
from vidpipe.predictions.answers import answers_of
from vidpipe.predictions.assembly import Assembly
from vidpipe.predictions.log import PredictionLog
from vidpipe.predictions.question import Question, make_question
from vidpipe.spec import ClipSpec
from vidpipe.storage import FileInfo, _time
from vidpipe.task_cutting import cut_tasks
from vidpipe.transfer import file_names
from vidpipe.transform_spec import ViewSpec

COMMIT_ROWS = 20_000  # vidpipe.stages.preprocess commits as many at most
PART_VIDEOS = 256
BATCH_ROWS = 100_000  # of generating
CHANGED_SHARE = 0.01
SPEC = ClipSpec()
BLOCKS = BlockSettings(spec=ClipSpec(size="32", num_frames=4), clips_a_block=32, time_limit_s=1, memory_limit_bytes=0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """CPU seconds and memory of what the driver does with its tables."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Videos; two at least for a slope."""
    max_gb: float = 6.0
    """Memory at which a size is given up."""


@dataclass(frozen=True)
class Step:
    name: str
    cpu_s: float
    peak_mb: float
    """The most that was resident during the step, more than before it."""


def main(options: Options) -> None:
    found: dict[int, dict[str, Step]] = {}
    for num_videos in options.sizes:
        command = [sys.executable, __file__, "--one-size", str(num_videos), str(options.max_gb)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        found[num_videos] = {step.name: step for step in (Step(*json.loads(row)) for row in done.stdout.splitlines())}
        if done.returncode:
            print(f"{num_videos:,} videos: ended early with status {done.returncode}", file=sys.stderr)
    print("| step | " + " | ".join(f"{size:,}" for size in options.sizes) + " | a million more |")
    print("|---|" + "---|" * (len(options.sizes) + 1))
    for name in next(iter(found.values())):
        steps = [found[size].get(name) for size in options.sizes]
        cells = ["broke" if step is None else f"{step.cpu_s:.2f} s, {step.peak_mb:.0f} MB" for step in steps]
        print(f"| {name} | {' | '.join(cells)} | {slope(options.sizes, steps)} |")


def slope(sizes: tuple[int, ...], steps: list[Step | None]) -> str:
    """What a million rows add, from the two largest sizes that ended."""
    done = [(size, step) for size, step in zip(sizes, steps, strict=True) if step is not None]
    if len(done) < 2:
        return ""
    (small, before), (large, after) = done[-2:]
    millions = (large - small) / 1e6
    return f"{(after.cpu_s - before.cpu_s) / millions:.2f} s, {(after.peak_mb - before.peak_mb) / millions:.0f} MB"


@contextmanager
def measured(name: str) -> Iterator[None]:
    gc.collect()
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before_mb, start_s = memory_mb("VmRSS"), time.process_time()
    yield
    cpu_s = time.process_time() - start_s
    print(json.dumps([name, cpu_s, memory_mb("VmHWM") - before_mb]), flush=True)


def memory_mb(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1e3


def one_size(num_videos: int, max_gb: float) -> None:
    pa.set_cpu_count(1)
    threading.Thread(target=give_up_at, args=(max_gb,), daemon=True).start()
    folder = tempfile.mkdtemp(prefix="vidpipe-slopes-")
    try:
        manifest = measure_manifest(folder, num_videos)
        measure_ledger(f"{folder}/out", manifest)
        measure_log(f"{folder}/labels", manifest)
    finally:
        shutil.rmtree(folder)


def give_up_at(max_gb: float) -> None:
    while psutil.Process().memory_info().rss < max_gb * 1e9:
        time.sleep(0.05)
    os._exit(3)


def file_infos(num_videos: int) -> Iterator[FileInfo]:
    """A listing like a bucket's: URLs of 76 characters, ETags, sizes around 2 MB."""
    rng = np.random.default_rng(0)
    for first in range(0, num_videos, BATCH_ROWS):
        numbers = range(first, min(first + BATCH_ROWS, num_videos))
        sizes = rng.lognormal(14.5, 1.0, len(numbers)).astype(np.int64).tolist()
        tags = rng.integers(0, 2**62, len(numbers)).tolist()
        for n, size, tag in zip(numbers, sizes, tags, strict=True):
            url = f"s3://company-videos/raw/2026/day-{n % 365:03d}/camera-{n % 997:04d}/recording-{n:09d}-1080p.mp4"
            yield FileInfo(url, size, f"{tag:032x}")


class OnePage:
    """What `list_files` needs of s3fs, with one page of 1,000 keys that is parsed anew each time it is asked for."""

    def __init__(self) -> None:
        objects = "".join(
            f"<Contents><Key>{file.url[len('s3://company-videos/') :]}</Key><LastModified>2026-11-21T00:00:00.000Z"
            f"</LastModified><ETag>&quot;{file.version}&quot;</ETag><Size>{file.size_bytes}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for file in file_infos(1000)
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
        self.response = {"status_code": 200, "headers": {}, "body": body.encode()}
        self.parser = botocore.parsers.PROTOCOL_PARSERS["rest-xml"](timestamp_parser=_time)
        model = botocore.session.Session().get_service_model("s3")
        self.shape = model.operation_model("ListObjectsV2").output_shape

    def call_s3(self, method: str, **request: str) -> dict[str, Any]:
        return self.parser.parse(self.response, self.shape)

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"


def measure_manifest(folder: str, num_videos: int) -> pa.Table:
    url, page = f"{folder}/manifest.parquet", OnePage()
    with measured("100 pages of 1,000 keys read (botocore's parser, `list_files`)"):
        for _ in range(100):
            files, _, _ = _list_s3(page, 0, {"Bucket": "company-videos", "Prefix": ""}, frozenset([".mp4"]), True)
            assert len(files) == 1000
    with measured("making up a listing (of this script, also in the next row)"):
        num_seen = sum(1 for _ in file_infos(num_videos))
    assert num_seen == num_videos
    with measured("listing → sorted table (`files_table`)"):
        files = files_table(file_infos(num_videos))
    with measured("`video_id`s and manifest (`build_manifest`)"):
        manifest = build_manifest(files)
    del files
    with measured("`write_manifest`"):
        write_manifest(manifest, url)
    del manifest
    with measured("`read_manifest`"):
        manifest = read_manifest(url)
    with measured("`cut_tasks` for 512 CPUs"):
        cut_tasks(manifest, 512)
    return manifest


def status_rows(videos: pa.Table, first: int, decode_s: float = 0.14) -> pa.Table:
    """Status rows of manifest rows, the first of which is video number `first`."""
    num_rows = len(videos)
    parts = [f"{number // PART_VIDEOS * 7919:024x}.parquet" for number in range(first, first + num_rows)]
    columns: dict[str, Any] = {
        "status": pa.array(["ok"] * num_rows),
        "stage": pa.array(["preprocess"] * num_rows),
        "num_clips": pa.array(np.ones(num_rows, np.int64)),
        "num_damaged": pa.array(np.zeros(num_rows, np.int64)),
        "part": pa.array(parts),
        "decode_s": pa.array(np.random.default_rng(first).lognormal(np.log(decode_s), 0.5, num_rows)),
        "num_requests": pa.array(np.ones(num_rows, np.int64)),
        "duration_s": pa.array(np.random.default_rng(first).lognormal(2.3, 0.3, num_rows)),
        "width": pa.array(np.full(num_rows, 1280, np.int32)),
        "height": pa.array(np.full(num_rows, 720, np.int32)),
        "codec": pa.array(["h264"] * num_rows),
        "bytes_read": videos["size_bytes"],
    }
    columns |= {name: videos[name] for name in ("video_id", "url", "version", "label", "split", "group")}
    schema = status_schema(SPEC)
    return pa.table([columns.get(f.name, pa.nulls(num_rows, f.type)) for f in schema], schema=schema)


def measure_ledger(output: str, manifest: pa.Table) -> None:
    ledger = Ledger(output, SPEC)
    with measured("status rows committed, 20,000 at a time"):
        commit_all(ledger.commit, manifest)
    with measured("`Ledger.work_left`, all done"):
        left = ledger.work_left(manifest, retry_failed=False)
    assert not len(left.todo)
    with measured("`Ledger.adopt`, nothing there"):
        ledger.adopt(left.todo)
    make_part_files(output, -(-len(manifest) // PART_VIDEOS))
    with measured("`Ledger.sweep`, nothing to remove"):
        ledger.sweep()
    with measured("`Ledger.stale_parts`"):
        ledger.stale_parts()
    with measured("`compact`, no row replaced"):
        ledger.compact()
    changed = manifest.take(pa.array(np.arange(0, len(manifest), round(1 / CHANGED_SHARE))))
    with measured("`compact`, 1 % replaced"):
        commit_all(ledger.commit, changed)
        ledger.compact()
    make_part_files(f"{output}/more", len(manifest) // 10)
    with measured("names in a folder of a file for every 10 videos (`file_names`)"):
        file_names(f"{output}/more/clips")
    files = list(Path(output, "status").iterdir())
    num_bytes, largest = sum(file.stat().st_size for file in files), max(file.stat().st_size for file in files)
    print(f"{len(manifest):,} videos: {len(files)} status files, {num_bytes / len(manifest):.0f} bytes a row, the "
          f"largest {largest / 1e6:.0f} MB", file=sys.stderr)  # fmt: skip


def commit_all(commit: Callable[[pa.Table], None], videos: pa.Table) -> None:
    for first in range(0, len(videos), COMMIT_ROWS):
        commit(status_rows(videos.slice(first, COMMIT_ROWS), first))


def make_part_files(output: str, num_parts: int) -> None:
    os.makedirs(f"{output}/clips")
    for number in range(num_parts):
        Path(output, "clips", f"{number * 7919:024x}.parquet").touch()


def question() -> Question:
    config = PredictConfig(source="videos", checkpoint="model", output="out")
    facts = CheckpointFacts(model=ModelSpec(), labels=tuple(LABELS), clip=SPEC, views=ViewSpec(), size=(112, 112))
    return make_question(config, facts, "a" * 16, "/model/best")


def measure_log(output: str, manifest: pa.Table) -> None:
    log = PredictionLog(output, question())
    blocks = list(map(NoopModel(), noop_blocks(manifest.slice(0, 10_000), BLOCKS)))
    assembly = Assembly(1, len(LABELS))
    with measured("10,000 videos: blocks of logits joined (`Assembly.add`)"):
        joined = [video for block in blocks for video in assembly.add(block)]
    with measured("10,000 videos: their rows made and committed (`answers_of`, `PredictionLog.commit`)"):
        log.commit(answers_of(joined, manifest, log.question))
    pattern = log.read()
    shutil.rmtree(f"{output}/predictions")
    for start in range(0, len(manifest), COMMIT_ROWS):
        videos = manifest.slice(start, COMMIT_ROWS)
        table = pattern.take(pa.array(np.arange(len(videos)) % len(pattern)))
        for name in ("video_id", "url", "version"):
            table = table.set_column(table.schema.get_field_index(name), name, videos[name])
        log._journal.commit(table)
    with measured("`PredictionLog.work_left`, all done"):
        left = log.work_left(
            manifest, prefix="s3://company-videos/raw", suffixes=(".mp4",), retry_failed=False, relabel=False
        )
    assert not len(left.todo)
    with measured("`mark`, nothing gone"):
        log.mark(left.gone, is_deleted=True)
    with measured("`PredictionLog.tidy`"):
        log.tidy()
    counts = {"videos": len(manifest), "ok": 0, "failed": 0, "unchanged": len(manifest), "remaining": 0}
    with measured("`PredictionLog.check_counts`"):
        log.check_counts(manifest, counts)
    with measured("ids of done videos (`Assembly`)"):
        assembly.done.update(manifest["video_id"].to_pylist())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-size"]:
        one_size(int(sys.argv[2]), float(sys.argv[3]))
    else:
        main(tyro.cli(Options))
