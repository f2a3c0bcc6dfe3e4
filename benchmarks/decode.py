"""The frames that a clip is made of, by vidpipe and by what people use instead: are they the right ones, and what CPU?

    python benchmarks/decode.py                              # generated videos, and real clips where there are some
    python benchmarks/decode.py --videos FOLDER              # your own
    python benchmarks/decode.py --videos FOLDER --sampling fps

Each decoder has a process of its own with one thread; they take turns on each file. Figures are medians of CPU time.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from content import FIGHTS, decode_content
from decoders import DECODE_ALL, DECODERS, FLOORS, FULL_DECODE, THUMBNAIL_PX, VIDPIPE, Indices

from vidpipe.sampling import plan_clips
from vidpipe.spec import ClipSpec

PEERS = [name for name in DECODERS if name not in (VIDPIPE, *FLOORS)]
SPECS = {"uniform": ClipSpec(), "fps": ClipSpec(sampling="fps")}
TIE = 0.1  # gray levels a pixel by which two frames may differ and still be the same picture to a viewer
LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare decoders on the same files."""

    videos: str | None = None
    """Folder with videos (default: generated ones, and real clips of ../shared/data/fights where there are)."""
    sampling: Literal["uniform", "fps"] = "uniform"
    """uniform: 16 equally spaced frames. fps: one frame a second."""
    rounds: int = 5
    """Times that each decoder reads each file; figures are medians."""
    decoders: tuple[str, ...] = ()
    """Only peers whose name begins like one of these."""
    fights: int = 24
    """Of the default content, how many real clips."""
    full: bool = False
    """Of the default content, the long video, too."""


class Child:
    """One decoder's process; a new one after one died or had to."""

    def __init__(self, name: str, script: str = "decoders.py") -> None:
        self._command = [sys.executable, str(Path(__file__).with_name(script)), name]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **request: Any) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        is_ready = bool(select.select([process.stdout], [], [], LIMIT_S)[0])
        answer = process.stdout.readline() if is_ready else ""
        if answer:
            return json.loads(answer)
        self.close()
        return {"error": f"died with exit code {process.returncode}" if is_ready else f"hung for {LIMIT_S:.0f} s"}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Result:
    """One decoder on one file."""

    num_exact: int = 0
    num_wrong: int = 0
    error: str | None = None
    num_errors: int = 0
    cpu_s: list[float] = field(default_factory=list)
    bytes_read: int = 0

    @property
    def median_ms(self) -> float:
        return statistics.median(self.cpu_s) * 1e3

    @property
    def is_exact(self) -> bool:
        return not self.num_wrong and self.error is None


@dataclass
class File:
    """One file, and what each decoder made of it."""

    path: Path
    content: str
    indices: Indices
    results: dict[str, Result]

    def ratio(self, name: str) -> float:
        """CPU time of a decoder, in that of vidpipe."""
        return self.results[name].median_ms / self.results[VIDPIPE].median_ms

    def best_exact_peer(self) -> float | None:
        ratios = [self.ratio(name) for name in PEERS if name in self.results and self.results[name].is_exact]
        return min(ratios, default=None)

    def ceiling(self) -> float | None:
        """What `best_exact_peer` would be if vidpipe did nothing but decode the packets that are needed."""
        best, floor = self.best_exact_peer(), self.results[FLOORS[0]]
        return None if best is None or floor.error is not None else best / self.ratio(FLOORS[0])


def main(options: Options) -> None:
    names = [VIDPIPE, *FLOORS, *(n for n in PEERS if not options.decoders or n.startswith(options.decoders))]
    contents = default_contents(options) if options.videos is None else folder_contents(Path(options.videos))
    children = {name: Child(name) for name in [FULL_DECODE, DECODE_ALL, *names]}
    files, refused = [], []
    try:
        for number, (path, content) in enumerate(contents.items()):
            print(f"{number + 1} of {len(contents)}: {path.name}", file=sys.stderr)
            file = measure(path, content, names, children, options)
            if isinstance(file, File):
                files.append(file)
            else:
                refused.append(f"{path.name}: {file}")
    finally:
        for child in children.values():
            child.close()
    print_tables(files, names, options)
    if refused:
        print("\nNot compared, as a full decode fails:\n" + "\n".join(f"- {line}" for line in refused))


def default_contents(options: Options) -> dict[Path, str]:
    clips = sorted(FIGHTS.rglob("*.mp4"))
    real = [clips[number * len(clips) // options.fights] for number in range(min(options.fights, len(clips)))]
    generated = {path: path.stem.rpartition("-")[0] for path in decode_content(is_full=options.full)}
    return {**dict.fromkeys(real, "fights (real)"), **generated}


def folder_contents(folder: Path) -> dict[Path, str]:
    """All files; what they hold is asked of the full decode."""
    contents = {path: "" for path in sorted(folder.rglob("*")) if path.is_file()}
    if not contents:
        raise SystemExit(f"--videos {folder} holds no files; give a folder with videos")
    return contents


def measure(path: Path, content: str, names: list[str], children: dict[str, Child], options: Options) -> File | str:
    """All decoders on one file, in turns; a string says why there is nothing to compare with."""
    with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
        output = f"{scratch}/frames.npy"
        facts = children[FULL_DECODE].ask(path=str(path), indices=None, output=output)
        if "error" in facts:
            return facts["error"]
        thumbnails = normal(np.load(output))
        plans = plan_clips(np.array(facts["times_s"]), SPECS[options.sampling], path.name)
        indices = np.unique(np.concatenate([plan.frame_indices for plan in plans])).tolist()
        request = {"path": str(path), "indices": indices}
        answer = children[DECODE_ALL].ask(**request, output=output)
        if "error" in answer:
            return answer["error"]
        truth = np.load(output)
        results = {name: Result() for name in names}
        for name, result in results.items():
            Path(output).unlink(missing_ok=True)
            answer = children[name].ask(**request, output=output)
            result.error = answer.get("error")
            if result.error is not None:
                result.num_errors = len(indices)
            elif name not in FLOORS:
                result.bytes_read = answer["bytes_read"]
                frames = np.load(output)
                right = are_equal(frames, truth) if name == VIDPIPE else are_right(frames, thumbnails, indices)
                result.num_exact, result.num_wrong = int(right.sum()), int((~right).sum())
        for _ in range(options.rounds):
            for name, result in results.items():
                if result.error is None:
                    answer = children[name].ask(**request, output=None)
                    result.error = answer.get("error")
                    result.cpu_s.append(answer.get("cpu_s", float("nan")))
    return File(path, content or facts["kind"], indices, results)


def are_equal(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Bit for bit: the full decode is by the same FFmpeg and the same resize."""
    return np.array([np.array_equal(frame, true) for frame, true in zip(frames, truth, strict=True)])


def are_right(frames: np.ndarray, thumbnails: np.ndarray, indices: Indices) -> np.ndarray:
    """Whether each frame looks most like the one that was asked for, of all frames of the full decode.

    Another FFmpeg and another resize give other pixels of the same picture, so equality would be unfair. A frame that
    does not differ from the wanted one (a still scene) is as good.
    """
    half = frames.shape[1] // THUMBNAIL_PX
    gray = frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    small = normal(gray.reshape(len(frames), THUMBNAIL_PX, half, THUMBNAIL_PX, half).mean((2, 4)))
    right = []
    for frame, index in zip(small, indices, strict=True):
        best = int(np.abs(thumbnails - frame).mean((1, 2)).argmin())
        right.append(bool(np.abs(thumbnails[best] - thumbnails[index]).mean() <= TIE))
    return np.array(right)


def normal(images: np.ndarray) -> np.ndarray:
    """Without their mean, which depends on how a decoder reads the colour range."""
    images = images.astype(np.float32)
    return images - images.mean((1, 2), keepdims=True)


def print_tables(files: list[File], names: list[str], options: Options) -> None:
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    now = datetime.now(timezone.utc)
    print(
        f"{len(files)} files, {SPECS[options.sampling].sampling}, {sum(len(file.indices) for file in files)} frames; "
        f"medians of {options.rounds} rounds; {now:%Y-%m-%d %H:%M} UTC, load {load}\n"
    )
    print("| decoder | frames exact | wrong | error | files all exact | CPU ms a video | × vidpipe | least | MB read |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        print(row_of(name, files))
    print(
        f"\n| content | {' | '.join(names)} | best exact peer | its ceiling "
        f"| {' | '.join(f'vidpipe / {name}' for name in FLOORS)} |"
    )
    print("|---" * (len(names) + 5) + "|")
    for content in dict.fromkeys(file.content for file in files):
        group = [file for file in files if file.content == content]
        cells = [cell_of(name, group) for name in names]
        best = [ratio for file in group if (ratio := file.best_exact_peer()) is not None]
        ceilings = [ratio for file in group if (ratio := file.ceiling()) is not None]
        floors = [[1 / file.ratio(name) for file in group if file.results[name].error is None] for name in FLOORS]
        ends = [f"{statistics.median(ratios):.2f}×" if ratios else "–" for ratios in (best, ceilings, *floors)]
        print(f"| {content} ({len(group)}) | {' | '.join(cells)} | {' | '.join(ends)} |")
    slower = [(name, file) for file in files for name in names if name in PEERS and is_slower(file, name)]
    num_pairs = len(files) * sum(name in PEERS for name in names)
    print(f"\nvidpipe slower than a peer: {len(slower)} of {num_pairs} pairs of file and peer")
    for name, file in slower:
        print(f"- {file.path.name}: {name} takes {file.ratio(name):.2f} of vidpipe's time")


def row_of(name: str, files: list[File]) -> str:
    results = [file.results[name] for file in files]
    done = [file for file in files if file.results[name].error is None and file.results[VIDPIPE].error is None]
    if not done:
        return f"| {name} | | | {sum(result.num_errors for result in results)} | | | | | |"
    total_ms = sum(file.results[name].median_ms for file in done)
    ratio = total_ms / sum(file.results[VIDPIPE].median_ms for file in done)
    least = min(file.ratio(name) for file in done)
    num_mb = sum(file.results[name].bytes_read for file in done) / 1e6
    if name in FLOORS:
        return f"| {name} | | | | | {total_ms / len(done):.1f} | {ratio:.2f} | {least:.2f} | |"
    counts = [sum(getattr(result, key) for result in results) for key in ("num_exact", "num_wrong", "num_errors")]
    num_exact_files = sum(result.is_exact for result in results)
    return (
        f"| {name} | {' | '.join(map(str, counts))} | {num_exact_files} of {len(files)} "
        f"| {total_ms / len(done):.1f} | {ratio:.2f} | {least:.2f} | {num_mb:.1f} |"
    )


def cell_of(name: str, group: list[File]) -> str:
    done = [file for file in group if file.results[name].error is None and file.results[VIDPIPE].error is None]
    if not done:
        return "error"
    median_ms = statistics.median(file.results[name].median_ms for file in done)
    notes = [] if name == VIDPIPE else [f"{statistics.median(file.ratio(name) for file in done):.2f}×"]
    num_wrong = sum(file.results[name].num_wrong for file in group)
    notes += [f"{num_wrong} wrong"] * (num_wrong > 0)
    return f"{median_ms:.1f}" + (f" ({', '.join(notes)})" if notes else "")


def is_slower(file: File, name: str) -> bool:
    is_done = all(file.results[one].error is None for one in (name, VIDPIPE))
    return is_done and file.ratio(name) < 1


if __name__ == "__main__":
    main(tyro.cli(Options))
