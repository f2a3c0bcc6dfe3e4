"""Are the frames the ones that were asked for? vidpipe and what people use instead, on odd videos or one's own files.

    python benchmarks/exactness.py                      # generated odd videos, some 200
    python benchmarks/exactness.py --videos FOLDER      # your own

Of each file 16 uniform and 12 random frames. No clock: for CPU time there is decode.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
import tyro
from decode import Child, are_equal, are_right, folder_contents, normal
from decoders import DECODE_ALL, DECODERS, FLOORS, FULL_DECODE, VIDPIPE, Indices

NAMES = [name for name in DECODERS if name not in FLOORS]
SAME_PIXELS = (VIDPIPE, DECODE_ALL)  # the same FFmpeg and the same resize as the full decode's: equal bit for bit
NUM_UNIFORM, NUM_RANDOM = 16, 12


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare the frames of decoders with those of a full decode."""

    videos: str | None = None
    """Folder with videos (default: the odd ones of tests/odd_videos.py, made on the spot)."""


@dataclass
class Count:
    """What a decoder made of all files."""

    files: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def add(self, path: Path, num_right: int, num_wrong: int, *, is_refused: bool) -> None:
        if is_refused:
            self.files["refused"] += 1
            self.refused.append(path.name)
            return
        self.files["wrong" if num_wrong else "right"] += 1
        self.frames.update(right=num_right, wrong=num_wrong)
        if num_wrong:
            self.wrong.append(f"{path.name} ({num_wrong} of {num_right + num_wrong})")


def main(options: Options) -> None:
    counts = {name: Count() for name in NAMES}
    children = {name: Child(name) for name in [FULL_DECODE, *NAMES]}
    num_files, without_truth = 0, []
    try:
        with tempfile.TemporaryDirectory(prefix="vidpipe-bench-") as scratch:
            folder = Path(options.videos) if options.videos else write_odd_videos(Path(scratch) / "odd")
            for path in folder_contents(folder):
                print(path.name, file=sys.stderr)
                error = compare(path, children, counts, f"{scratch}/frames.npy")
                num_files += error is None
                without_truth += [f"{path.name}: {error}"] if error else []
    finally:
        for child in children.values():
            child.close()
    print_table(counts, num_files)
    print("".join(f"\nNot compared, as a full decode fails: {line}" for line in without_truth))


def write_odd_videos(folder: Path) -> Path:
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    import odd_videos

    odd_videos.write_odd_videos(folder)
    return folder


def compare(path: Path, children: dict[str, Child], counts: dict[str, Count], output: str) -> str | None:
    """Add one file to the counts; a string says why there is nothing to compare with."""
    facts = children[FULL_DECODE].ask(path=str(path), indices=None, output=output)
    if "error" in facts:
        return facts["error"]
    thumbnails = normal(np.load(output))
    indices = some_indices(len(thumbnails), seed=crc32(path.name.encode()))
    answer = children[FULL_DECODE].ask(path=str(path), indices=indices, output=output)
    if "error" in answer:
        return answer["error"]
    truth = np.load(output)
    for name in NAMES:
        Path(output).unlink(missing_ok=True)
        answer = children[name].ask(path=str(path), indices=indices, output=output, large=True)
        frames = np.load(output) if "error" not in answer else truth[:0]
        if len(frames) != len(truth):
            counts[name].add(path, 0, 0, is_refused=True)
            continue
        right = are_equal(frames, truth) if name in SAME_PIXELS else are_right(frames, thumbnails, indices)
        counts[name].add(path, int(right.sum()), int((~right).sum()), is_refused=False)
    return None


def some_indices(num_frames: int, seed: int) -> Indices:
    uniform = ((np.arange(NUM_UNIFORM) + 0.5) * num_frames / NUM_UNIFORM).astype(int)
    return np.unique([*uniform, *np.random.default_rng(seed).integers(num_frames, size=NUM_RANDOM)]).tolist()


def print_table(counts: dict[str, Count], num_files: int) -> None:
    print(
        f"{num_files} files\n\n| decoder | files all right | files silently wrong (frames) | refused | frames exact |"
    )
    print("|---|---|---|---|---|")
    for name, count in counts.items():
        wrong = f"{count.files['wrong']} ({count.frames['wrong']})" if count.files["wrong"] else "0"
        print(f"| {name} | {count.files['right']} | {wrong} | {count.files['refused']} | {count.frames['right']} |")
    for name, count in counts.items():
        for title, lines in (("wrong", count.wrong), ("refused", count.refused)):
            if lines:
                print(f"\n{name}, {title}: {'; '.join(lines)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
