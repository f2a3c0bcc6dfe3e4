"""One way to 16 frames of an object in a bucket, in a process of its own: `python benchmarks/range_readers.py NAME`.

Asked by `ranges.py` on stdin; the storage is where the AWS variables say.

    -> {"url", "size_bytes", "version", "indices", "times_s", "output"}   frames as 112 x 112 RGB, into `output` (.npy)
    <- {"wall_s", "cpu_s", "peak_bytes", "own_bytes"}                     or {"error"}

Each way is written as its users write it, and kept short: one thread, and its own resize where it has one.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decoders import SIZE_PX, decord_frames, opencv_frames, rgb_spec, serve, torchcodec_frames

SPOOL = Path(tempfile.gettempdir())
TUNED_BLOCK_BYTES = 1 << 20
HALF_A_FRAME_S = 0.02


@dataclass(frozen=True)
class Wanted:
    """Some frames of one object, by number and by time."""

    url: str
    size_bytes: int
    version: str
    indices: list[int]
    times_s: list[float]


# --- vidpipe ----------------------------------------------------------------------------------------------------------


def vidpipe_by_ranges(wanted: Wanted) -> np.ndarray:
    return vidpipe_frames(wanted, from_bytes=0)


def vidpipe_whole(wanted: Wanted) -> np.ndarray:
    return vidpipe_frames(wanted, from_bytes=sys.maxsize)


def vidpipe_frames(wanted: Wanted, *, from_bytes: int) -> np.ndarray:
    """A task of `vidpipe preprocess` with one video, as a Ray worker runs it: fetched, decoded in a child, written."""
    import pyarrow.parquet as pq

    from vidpipe import make_parts, transfer

    transfer.FROM_BYTES = make_parts.FROM_BYTES = from_bytes
    video = {"video_id": "v", "label": None, "split": None, "group": None}
    video |= {"url": wanted.url, "version": wanted.version, "size_bytes": wanted.size_bytes}
    output = tempfile.mkdtemp(prefix="vidpipe-bench-", dir=SPOOL)
    try:
        settings = make_parts.PartSettings(
            output=output, spec=rgb_spec(), part_bytes=1 << 28, time_limit_s=300, memory_limit_bytes=2 << 30
        )
        (receipt,) = make_parts.make_parts([video], settings)
        if receipt["status"] != "ok":
            raise ValueError(receipt["error"])
        (part,) = Path(output, "clips").iterdir()
        with pq.ParquetFile(part) as written:  # not `read_table`, which loads Arrow's engine for data sets
            clip = written.read(columns=["frames"], use_threads=False)["frames"][0].as_py()
        return np.frombuffer(clip, np.uint8).reshape(rgb_spec().shape)
    finally:
        shutil.rmtree(output)


# --- what people use instead ------------------------------------------------------------------------------------------


@contextmanager
def downloaded(wanted: Wanted) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=Path(wanted.url).suffix, dir=SPOOL) as file:
        storage().get_file(wanted.url, file.name)
        yield file.name


def download_and_decord(wanted: Wanted) -> np.ndarray:
    with downloaded(wanted) as path:
        return decord_frames(path, wanted.indices)


def download_and_torchcodec(wanted: Wanted) -> np.ndarray:
    with downloaded(wanted) as path:
        return torchcodec_frames(path, wanted.indices)


def file_object_and_torchcodec(wanted: Wanted) -> np.ndarray:
    with storage().open(wanted.url) as file:
        return torchcodec_frames(file, wanted.indices)


def tuned_file_object_and_torchcodec(wanted: Wanted) -> np.ndarray:
    with storage().open(wanted.url, block_size=TUNED_BLOCK_BYTES) as file:
        return torchcodec_frames(file, wanted.indices, "approximate")


def file_object_and_pyav(wanted: Wanted) -> np.ndarray:
    with storage().open(wanted.url) as file:
        return pyav_frames(file, wanted.times_s)


def tuned_file_object_and_pyav(wanted: Wanted) -> np.ndarray:
    with storage().open(wanted.url, block_size=TUNED_BLOCK_BYTES) as file:
        return pyav_frames(file, wanted.times_s)


def http_and_pyav(wanted: Wanted) -> np.ndarray:
    return pyav_frames(storage().sign(wanted.url), wanted.times_s)


def http_and_torchcodec(wanted: Wanted) -> np.ndarray:
    return torchcodec_frames(storage().sign(wanted.url), wanted.indices, "approximate")


def http_and_opencv(wanted: Wanted) -> np.ndarray:
    return opencv_frames(storage().sign(wanted.url), wanted.indices)


def pyav_frames(source: Any, times_s: list[float]) -> np.ndarray:
    """Seek to the key frame before each time, and decode from there."""
    import av

    frames = []
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        start_s = float((stream.start_time or 0) * stream.time_base)
        for time_s in (start_s + time_s for time_s in times_s):
            container.seek(int(time_s / stream.time_base), stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.time > time_s - HALF_A_FRAME_S)
            frames.append(frame.to_ndarray(width=SIZE_PX, height=SIZE_PX, format="rgb24"))
    return np.stack(frames)


def storage() -> Any:
    import s3fs

    return s3fs.S3FileSystem()


RANGES, WHOLE = "vidpipe", "vidpipe, whole object"
READERS: dict[str, Callable[[Wanted], np.ndarray]] = {
    RANGES: vidpipe_by_ranges,
    WHOLE: vidpipe_whole,
    "download, decord": download_and_decord,
    "download, torchcodec": download_and_torchcodec,
    "s3fs file, PyAV": file_object_and_pyav,
    "s3fs file, torchcodec": file_object_and_torchcodec,
    "s3fs file of 1 MB blocks, PyAV": tuned_file_object_and_pyav,
    "s3fs file of 1 MB blocks, torchcodec approximate": tuned_file_object_and_torchcodec,
    "URL, PyAV": http_and_pyav,
    "URL, torchcodec approximate": http_and_torchcodec,
    "URL, OpenCV": http_and_opencv,
}


# --- answering --------------------------------------------------------------------------------------------------------


def measured(reader: Callable[[Wanted], np.ndarray], request: dict[str, Any]) -> dict[str, Any]:
    output = request.pop("output")
    wanted = Wanted(**request)
    forget_memory_peaks()
    start_cpu_s, start_s = cpu_s(), time.monotonic()
    frames = reader(wanted)
    answer = {"wall_s": time.monotonic() - start_s, "cpu_s": cpu_s() - start_cpu_s, **memory_peak_bytes()}
    np.save(output, frames)
    return answer


def processes() -> list[int]:
    """This process and its children."""
    found = [os.getpid()]
    for pid in found:
        with suppress(FileNotFoundError):
            found += [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return found


def _children(task: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return (task / "children").read_text().split()
    return []


def cpu_s() -> float:
    """CPU time of this process and its children, by the kernel's clock of each (clock_getcpuclockid)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in processes())


def forget_memory_peaks() -> None:
    for pid in processes():
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory_peak_bytes() -> dict[str, int]:
    """Sum of the peaks of resident memory; what two processes have from the same place of a file counts once.

    `own_bytes` is the sum without pages of files: of these, as many count as the kernel has mapped beside those used.
    """
    own_kb, of_files = 0, Counter[str]()
    for pid in processes():
        with open(f"/proc/{pid}/status") as status:
            own_kb += next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        for place, num_kb in resident_files(pid).items():
            own_kb -= num_kb
            of_files[place] = max(of_files[place], num_kb)
    return {"peak_bytes": (own_kb + of_files.total()) << 10, "own_bytes": own_kb << 10}


def resident_files(pid: int) -> Counter[str]:
    """Kilobytes of a process's memory that are pages of files, by file and place."""
    of_files, place = Counter[str](), ""
    with open(f"/proc/{pid}/smaps") as maps:
        for line in maps:
            words = line.split(maxsplit=5)
            if "-" in words[0]:  # addresses, rights, offset, device, inode, path
                place = f"{words[2]} {words[5]}" if len(words) > 5 else ""
            elif words[0] in ("Rss:", "Anonymous:") and "/" in place:
                of_files[place] += int(words[1]) * (1 if words[0] == "Rss:" else -1)
    return of_files


if __name__ == "__main__":
    serve(lambda request: measured(READERS[sys.argv[1]], request))
