"""One contender, run once over a folder of videos: `python benchmarks/contenders.py NAME FOLDER OUTPUT`.

The work is the same for all: of each video 16 frames, each in the middle of a sixteenth of it, as 112 x 112 RGB.
Each is written the way its users write it, and kept short. The last line of output is a JSON object with the figures.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from measure import BEGIN

from vidpipe.spec import ClipSpec

NUM_PROCESSES = 2
NUM_FRAMES, SIZE_PX = 16, 112
SPEC = ClipSpec(num_frames=NUM_FRAMES, size=str(SIZE_PX), resize="squash")
NUM_WARM_UP = 4
START_LIMIT_S = 120


def equal_indices(num_frames_in_video: int) -> np.ndarray:
    return ((np.arange(NUM_FRAMES) + 0.5) * num_frames_in_video / NUM_FRAMES).astype(int)


# --- vidpipe ----------------------------------------------------------------------------------------------------------


def vidpipe_preprocess(videos: list[str], output: str) -> int:
    from vidpipe.config import PreprocessConfig
    from vidpipe.stages.preprocess import preprocess

    config = PreprocessConfig(source=manifest_of(videos, output), output=output, clip=SPEC, num_workers=NUM_PROCESSES)
    with open(os.devnull, "w") as nowhere:
        ours, sys.stdout = sys.stdout, nowhere
        try:
            preprocess(config)
        finally:
            sys.stdout = ours
    return json.loads(Path(output, "run.json").read_text())["counts"]["ok"]


def manifest_of(videos: list[str], output: str) -> str:
    """A CSV with the paths, which preprocess indexes on the way."""
    path = Path(f"{output}-videos.csv")
    path.write_text("\n".join(["path", *videos]))
    return str(path)


# --- bare loops: the floor --------------------------------------------------------------------------------------------


def decode_only(videos: list[str], output: str) -> int:
    """vidpipe's own decode of each video, in this process, keeping nothing."""
    from vidpipe.child import assemble_clips
    from vidpipe.decode import open_video
    from vidpipe.sampling import plan_clips

    for path in videos:
        with open_video(path, SPEC) as video:
            for _ in assemble_clips(video, plan_clips(video.times_s, SPEC, path), SPEC):
                pass
    return len(videos)


def decode_and_write(videos: list[str], output: str) -> int:
    """The same, with each process writing its clips into one part as `vidpipe preprocess` does."""
    from vidpipe.child import assemble_clips
    from vidpipe.decode import open_video
    from vidpipe.guard import Clip
    from vidpipe.parts import REPEATING_COLUMNS, PartWriter, clips_schema
    from vidpipe.sampling import plan_clips

    writer = PartWriter(Path(output, f"{os.getpid()}-{time.time_ns()}.parquet"), clips_schema(SPEC, {}))
    for path in videos:
        row = dict.fromkeys(REPEATING_COLUMNS, path)
        with open_video(path, SPEC) as video:
            for plan, frames in assemble_clips(video, plan_clips(video.times_s, SPEC, path), SPEC):
                times_s, span_s = video.times_s[plan.frame_indices].tolist(), (plan.start_s, plan.end_s)
                writer.add(row, Clip(0, *span_s, times_s, plan.num_repeated, 0.0, frames.tobytes(), None))
    writer.close([])
    return len(videos)


# --- what people use instead ------------------------------------------------------------------------------------------


def ray_read_videos(videos: list[str], output: str) -> int:
    import ray.data

    def make_clip(video: dict[str, np.ndarray]) -> dict[str, Any]:
        order = np.argsort(video["frame_index"])
        return {"path": video["path"][:1], "frames": video["frame"][order[equal_indices(len(order))]][None]}

    ray.data.DataContext.get_current().enable_progress_bars = False
    frames = ray.data.read_videos(videos, include_paths=True, resize=(SIZE_PX, SIZE_PX))
    frames.groupby("path").map_groups(make_clip, batch_format="numpy").write_parquet(output)
    return num_rows(output)


def daft_read_video_frames(videos: list[str], output: str) -> int:
    """One query a video: on two cores one query over several files waits for itself for ever (Daft 0.7.26)."""
    import daft

    @daft.udf(return_dtype=daft.DataType.binary())
    def make_clip(frames: daft.Series, frame_indices: daft.Series) -> list[bytes]:
        images, order = frames.to_pylist(), np.argsort(frame_indices.to_pylist())
        return [np.stack([images[index] for index in order[equal_indices(len(order))]]).tobytes()]

    num_delivered = 0
    for path in videos:
        frames = daft.read_video_frames(path, image_height=SIZE_PX, image_width=SIZE_PX)
        clip = frames.groupby("path").map_groups(make_clip(frames["data"], frames["frame_index"]))
        num_delivered += len(clip.write_parquet(output).to_pydict()["path"])
    return num_delivered


def cv2_loop(videos: list[str], output: str) -> int:
    import cv2

    num_delivered = 0
    for path in videos:
        capture = cv2.VideoCapture(path)
        frames = []
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            frames.append(cv2.cvtColor(cv2.resize(frame, (SIZE_PX, SIZE_PX)), cv2.COLOR_BGR2RGB))
        capture.release()
        if frames:
            np.save(Path(output, f"{Path(path).stem}.npy"), np.stack(frames)[equal_indices(len(frames))])
            num_delivered += 1
    return num_delivered


def num_rows(folder: str) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in Path(folder).rglob("*.parquet"))


# --- how they are run -------------------------------------------------------------------------------------------------

Contender = Callable[[list[str], str], int]


def on_ray(contender: Contender, videos: list[str], output: str) -> dict[str, Any]:
    """On a Ray that is up and has run the same job on a few videos; starting all that is `start_s`."""
    from vidpipe.cli import connect_ray

    start_s = time.monotonic()
    connect_ray()
    contender(videos[:NUM_WARM_UP], output + "-warm-up")
    return timed(contender, videos, output, start_s)


def in_one_process(contender: Contender, videos: list[str], output: str) -> dict[str, Any]:
    start_s = time.monotonic()
    Path(output + "-warm-up").mkdir()
    contender(videos[:NUM_WARM_UP], output + "-warm-up")
    return timed(contender, videos, output, start_s)


def timed(contender: Contender, videos: list[str], output: str, start_s: float) -> dict[str, Any]:
    Path(output).mkdir(exist_ok=True)
    print(BEGIN, flush=True)
    begin_s = time.monotonic()
    num_delivered = contender(videos, output)
    seconds = time.monotonic() - begin_s
    return {"start_s": begin_s - start_s, "seconds": seconds, "num_delivered": num_delivered}


def in_two_processes(contender: Contender, videos: list[str], output: str) -> dict[str, Any]:
    """One process a core, each with its share of the files, the clock starting when both are warm."""
    start_s = time.monotonic()
    Path(output).mkdir()
    Path(output + "-warm-up").mkdir()
    context = get_context("spawn")
    barrier, results = context.Barrier(NUM_PROCESSES + 1, timeout=START_LIMIT_S), context.Queue()
    by_size = sorted(videos, key=os.path.getsize, reverse=True)
    shares = [by_size[number::NUM_PROCESSES] for number in range(NUM_PROCESSES)]
    processes = [
        context.Process(target=one_share, args=(contender, share, output, barrier, results), daemon=True)
        for share in shares
    ]
    for process in processes:
        process.start()
    barrier.wait()
    print(BEGIN, flush=True)
    begin_s = time.monotonic()
    num_delivered = sum(results.get() for _ in processes)
    seconds = time.monotonic() - begin_s
    return {"start_s": begin_s - start_s, "seconds": seconds, "num_delivered": num_delivered}


def one_share(contender: Contender, videos: list[str], output: str, barrier: Any, results: Any) -> None:
    contender(videos[:NUM_WARM_UP], output + "-warm-up")
    barrier.wait()
    results.put(contender(videos, output))
    threading.Event().wait()  # stay until the watcher has read the CPU time; the parent's end ends this, too


CONTENDERS: dict[str, tuple[Callable[[Contender, list[str], str], dict[str, Any]], Contender]] = {
    "bare loop, 2 processes": (in_two_processes, decode_only),
    "bare loop + write": (in_two_processes, decode_and_write),
    "vidpipe preprocess": (on_ray, vidpipe_preprocess),
    "ray.data.read_videos": (on_ray, ray_read_videos),
    "daft.read_video_frames": (in_two_processes, daft_read_video_frames),
    "cv2 loop, 1 process": (in_one_process, cv2_loop),
    "cv2 loop, 2 processes": (in_two_processes, cv2_loop),
}


def main(name: str, folder: str, output: str) -> None:
    videos = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    how, contender = CONTENDERS[name]
    print(json.dumps(how(contender, videos, output)))


if __name__ == "__main__":
    main(*sys.argv[1:])
