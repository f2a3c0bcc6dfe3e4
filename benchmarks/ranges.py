"""16 frames of a long video in a bucket: what has to be read for them, by vidpipe and by what people use instead?

    python benchmarks/ranges.py                 # 30 minutes of 720p, in four containers
    python benchmarks/ranges.py --threshold     # from which size on is reading ranges better than reading all?

The bucket is on SeaweedFS on this machine, behind a proxy that counts and can be as slow as a real network.
Each way has a process of its own; they take turns. Figures are medians.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import s3fs
import tyro
from content import LAYOUTS, LONG_FPS, LONG_PIECE_S, bucket_piece, bucket_video
from counting_proxy import Network, counting_proxy
from decode import Child, are_equal, are_right, normal
from decoders import DECODE_ALL, FULL_DECODE, Indices, rgb_spec
from range_readers import RANGES, READERS, WHOLE

from vidpipe.sampling import plan_clips
from vidpipe.storage import file_info

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from running import S3Server, seaweedfs

NETWORKS = ("loopback", "slower network")
THRESHOLD_MB = (1, 2, 4, 8, 16, 32, 64)
# Key of a run, number of the network, unit, digits.
THRESHOLD_COLUMNS = (
    ("num_bytes", 0, 1e6, 1),
    ("num_requests", 0, 1, 0),
    ("cpu_s", 0, 1, 2),
    ("wall_s", 0, 1, 2),
    ("wall_s", 1, 1, 2),
)
BYTES_A_SECOND = 153_000  # of the bucket piece


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare ways to read a few frames of large objects."""

    threshold: bool = False
    """vidpipe by ranges against vidpipe with whole objects, of 1 to 64 MB."""
    minutes: int = 30
    """Length of the video."""
    rounds: int = 3
    """Times that each way reads each object on each network; figures are medians."""
    readers: tuple[str, ...] = ()
    """Only ways whose name begins like one of these."""
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    """Containers."""
    latency_ms: float = 30
    """The slower network: how long each request takes longer than on loopback."""
    connection_mb_s: float = 90
    """The slower network: what one connection carries; S3 gives 85 to 90 MB/s."""

    def network(self, number: int) -> tuple[float, float]:
        """Latency and speed of one of the `NETWORKS`."""
        return (0.0, float("inf")) if number == 0 else (self.latency_ms / 1e3, self.connection_mb_s * 1e6)


@dataclass
class Result:
    """One way to read one object."""

    num_right: int = 0
    error: str | None = None
    runs: list[list[dict[str, float]]] = field(default_factory=lambda: [[] for _ in NETWORKS])
    """Of each network, of each round."""

    def median(self, name: str, network: int = 0) -> float:
        return statistics.median(run[name] for run in self.runs[network])


class Truth:
    """The frames of the piece that all objects repeat, by a full decode: frame i of a video is the piece's i mod n."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
            output = f"{scratch}/frames.npy"
            piece = str(bucket_piece())
            _ask(FULL_DECODE, path=piece, indices=None, output=output)
            self._thumbnails = normal(np.load(output))
            everything = list(range(len(self._thumbnails)))
            _ask(DECODE_ALL, path=piece, indices=everything, output=output)
            self._frames = np.load(output)

    def num_right(self, name: str, frames: np.ndarray, indices: Indices) -> int:
        """Of vidpipe's frames those that are right bit for bit; of others those that look most like the right one."""
        within = [index % len(self._frames) for index in indices]
        if name in (RANGES, WHOLE):
            return int(are_equal(frames, self._frames[within]).sum())
        return int(are_right(frames, self._thumbnails, within).sum())


def _ask(decoder: str, **request: Any) -> None:
    child = Child(decoder)
    answer = child.ask(**request)
    child.close()
    if "error" in answer:
        raise RuntimeError(answer["error"])


@dataclass(frozen=True)
class Bench:
    """The bucket, the way to it, and what its videos show."""

    bucket: str
    storage: Any
    network: Network
    truth: Truth
    options: Options
    scratch: Path

    def upload(self, path: Path) -> str:
        """Put a file into the bucket, past the proxy; returns its URL."""
        url = f"{self.bucket}/{path.name}"
        if not self.storage.exists(url):
            self.storage.put_file(str(path), url)
        return url

    def ask(self, child: Child, path: Path, seconds: int, output: Path) -> dict[str, Any]:
        info = file_info(self.upload(path))
        indices = wanted_indices(seconds)
        request = {"url": info.url, "size_bytes": info.size_bytes, "version": info.version, "output": str(output)}
        request |= {"indices": indices, "times_s": [index / LONG_FPS for index in indices]}
        self.network.forget()
        answer = child.ask(**request)
        return {**answer, "num_requests": self.network.num_requests, "num_bytes": self.network.num_bytes}

    def measure(self, children: dict[str, Child], path: Path, seconds: int) -> dict[str, Result]:
        """All ways to read one object, in turns, first on loopback, then on the slower network."""
        results = {name: Result() for name in children}
        output = self.scratch / "frames.npy"
        for number in range(len(NETWORKS)):
            for _ in range(self.options.rounds):
                for name, result in results.items():
                    if result.error is not None:
                        continue
                    self.network.set(*self.options.network(number))
                    answer = self.ask(children[name], path, seconds, output)
                    self.network.set()
                    result.error = answer.get("error")
                    if result.error is None:
                        result.runs[number].append(answer)
                        result.num_right = self.truth.num_right(name, np.load(output), wanted_indices(seconds))
        return results

    @contextmanager
    def children(self, names: list[str]) -> Iterator[dict[str, Child]]:
        """A process for each way, which has read one small object: nothing is imported or connected on the clock."""
        children = {name: Child(name, "range_readers.py") for name in names}
        try:
            for child in children.values():
                self.ask(child, bucket_piece(), LONG_PIECE_S, self.scratch / "frames.npy")
            yield children
        finally:
            for child in children.values():
                child.close()


def wanted_indices(seconds: int) -> Indices:
    (plan,) = plan_clips(np.arange(seconds * LONG_FPS) / LONG_FPS, rgb_spec(), "")
    return plan.frame_indices.tolist()


@contextmanager
def open_bench(options: Options) -> Iterator[Bench]:
    truth = Truth()
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        folder = Path(scratch, "s3")
        folder.mkdir()
        with seaweedfs(folder) as server, proxy_to(server) as (endpoint, network):
            os.environ |= {**server.env, "AWS_ENDPOINT_URL": endpoint}
            storage = s3fs.S3FileSystem(endpoint_url=server.endpoint)
            storage.mkdir("videos")
            yield Bench("s3://videos", storage, network, truth, options, Path(scratch))


def proxy_to(server: S3Server) -> Any:
    address = urlsplit(server.endpoint)
    return counting_proxy(str(address.hostname), int(address.port or 80))


def main(options: Options) -> None:
    now = datetime.now(timezone.utc)
    with open_bench(options) as bench:
        print(
            f"medians of {options.rounds} rounds; slower network: {options.latency_ms:g} ms a request, "
            f"{options.connection_mb_s:g} MB/s a connection; {now:%Y-%m-%d %H:%M} UTC, "
            f"load {', '.join(f'{load:.1f}' for load in os.getloadavg())}\n"
        )
        if options.threshold:
            print_threshold(bench)
        else:
            names = [name for name in READERS if name.startswith(options.readers or "")]
            with bench.children(names) as children:
                for layout in options.layouts:
                    print_layout(bench, layout, children)


def print_layout(bench: Bench, layout: str, children: dict[str, Child]) -> None:
    seconds = 60 * bench.options.minutes
    path = bucket_video(layout, seconds)
    num_bytes = path.stat().st_size
    print(f"{layout}, {bench.options.minutes} minutes of 720p H.264, {num_bytes / 1e6:.0f} MB, 16 uniform frames\n")
    print("| | MB read | of the file | requests | CPU s | wall s | slower network: wall s | peak MB | own | right |")
    print("|---" * 10 + "|", flush=True)
    for name, result in bench.measure(children, path, seconds).items():
        if result.error is not None:
            print(f"| {name} | {result.error} | | | | | | | | 0 of 16 |")
            continue
        print(
            f"| {name} | {result.median('num_bytes') / 1e6:.1f} | {result.median('num_bytes') / num_bytes:.1%} "
            f"| {result.median('num_requests'):.0f} | {result.median('cpu_s'):.2f} | {result.median('wall_s'):.2f} "
            f"| {result.median('wall_s', 1):.2f} | {result.median('peak_bytes') / 1e6:.0f} "
            f"| {result.median('own_bytes') / 1e6:.0f} | {result.num_right} of 16 |"
        )
    print(flush=True)


def print_threshold(bench: Bench) -> None:
    titles = ["MB read", "requests", "CPU s", "wall s", "slower network: wall s"]
    print(f"| size, MB | {' | '.join(f'{title}: ranges | whole' for title in titles)} |")
    print("|---" * (2 * len(titles) + 1) + "|", flush=True)
    with bench.children([RANGES, WHOLE]) as children:
        for num_mb in THRESHOLD_MB:
            seconds = round(num_mb * 1e6 / BYTES_A_SECOND)
            path = bucket_video("MP4", seconds)
            by_ranges, whole = bench.measure(children, path, seconds).values()
            cells = [
                f"{result.median(key, network) / unit:.{digits}f}"
                for key, network, unit, digits in THRESHOLD_COLUMNS
                for result in (by_ranges, whole)
            ]
            print(f"| {path.stat().st_size / 1e6:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
