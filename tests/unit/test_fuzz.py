"""Damaged videos end ok or with a code, and of those that end ok every frame is that of a full decode of the damage.

More files, for a run by hand; it prints a table of what became of them:

    VIDPIPE_FUZZ_FILES=2000 python -m pytest tests/unit/test_fuzz.py -s
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from full_decode import FullDecoder, Truth
from odd_videos import ODD_VIDEOS

from vidpipe.errors import ERROR_CODES, DecodeError
from vidpipe.guard import Clip, Guard, Restart
from vidpipe.spec import ClipSpec

NUM_FILES = int(os.environ.get("VIDPIPE_FUZZ_FILES", "168"))
FIRST_SEED = int(os.environ.get("VIDPIPE_FUZZ_SEED", "0"))
NUM_FRAMES = 12
# One-frame clips from the first frame to the last, evenly by their number.
SPEC = ClipSpec(sampling="dense", num_frames=1, frame_stride=1, num_clips=NUM_FRAMES, size="24x32", resize="squash")
TIME_LIMIT_S, MEMORY_LIMIT = 20, 512 << 20
FORMATS = [
    "h264_pyramid.mp4", "h264_open_gop_fragmented.mp4", "h264_open_gop.mkv", "h264_pyramid.ts", "h264_pyramid.avi",
    "hevc_open_gop.mp4", "mpeg4_b.avi", "mpeg4_packed_b.avi", "vp8_alt_ref.webm", "vp9_alt_ref.webm", "av1.mp4",
    "mjpeg.avi", "mpeg2_fields.mpg", "wmv2.wmv", "flv1.flv", "gif.gif",
]  # fmt: skip
INDEX_MARKS = (b"moov", b"moof", b"idx1", b"\x1cS\xbbk")  # the last one: Matroska's Cues


def truncate(data: bytearray, place: slice, rng: np.random.Generator) -> None:
    del data[int(rng.integers(place.start, place.stop)) :]


def zero(data: bytearray, place: slice, rng: np.random.Generator) -> None:
    start = int(rng.integers(place.start, place.stop))
    stop = min(start + int(2 ** rng.uniform(0, 11)), place.stop)
    data[start:stop] = bytes(stop - start)


def flip_bits(data: bytearray, place: slice, rng: np.random.Generator) -> None:
    for position in rng.integers(place.start, place.stop, int(2 ** rng.uniform(0, 6))):
        data[position] ^= 1 << int(rng.integers(8))


def random_bytes(data: bytearray, place: slice, rng: np.random.Generator) -> None:
    for position in rng.integers(place.start, place.stop, int(2 ** rng.uniform(0, 4))):
        data[position] = int(rng.integers(256))


def header(data: bytes) -> slice:
    return slice(0, min(1024, len(data)))


def payload(data: bytes) -> slice:
    return slice(min(1024, len(data) // 2), len(data))


def index(data: bytes) -> slice:
    """Where the container tells about its packets, or its end, where such things use to be."""
    found = [data.rfind(mark) for mark in INDEX_MARKS if mark in data]
    start = max(found) if found else len(data) - len(data) // 20 - 1
    return slice(start, min(start + 2048, len(data)))


CHANGES = [truncate, zero, flip_bits, random_bytes]
PLACES = [header, payload, index]


def mutated(whole: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    data = bytearray(whole)
    change, place = CHANGES[seed % len(CHANGES)], PLACES[seed // len(CHANGES) % len(PLACES)]
    change(data, place(whole), rng)
    return bytes(data)


@dataclass(frozen=True)
class Outcome:
    """What became of one damaged file."""

    format_name: str
    seed: int
    code: str
    """`ok`, or the error's."""
    num_wrong: int = 0
    """Frames that are not those of a full decode, nor those of the video before it was damaged."""
    num_intact: int = 0
    """Frames that a full decode loses, after damage elsewhere, and that came as they were before it."""
    num_undefined: int = 0
    """Frames of which FFmpeg's own full decodes differ."""
    seconds: float = 0.0


def delivered(guard: Guard, path: Path) -> tuple[str, list[str], bool]:
    """`ok` or an error's code, the frames' hashes, and whether their pictures had to be counted."""
    hashes: list[str] = []
    is_counted = False
    try:
        for event in guard.decode(str(path), path.name):
            if isinstance(event, Restart):
                hashes, is_counted = [], True
            elif isinstance(event, Clip):
                hashes.append(hashlib.blake2b(event.payload).hexdigest())
    except DecodeError as error:
        return error.code, [], is_counted
    return "ok", hashes, is_counted


def try_file(path: Path, name: str, seed: int, guard: Guard, full_decoder: FullDecoder, before: Truth) -> Outcome:
    start_s = time.monotonic()
    code, frames, is_counted = delivered(guard, path)
    seconds = time.monotonic() - start_s
    if code != "ok":
        return Outcome(name, seed, code, seconds=seconds)
    truth = full_decoder.decode(path)
    if truth is None:
        return Outcome(name, seed, code, num_wrong=NUM_FRAMES, seconds=seconds)
    if is_counted:
        truth = replace(truth, num_promised=len(truth.hashes))
    promised = np.round(np.linspace(0, max(truth.num_promised - 1, 0), NUM_FRAMES)).astype(int).tolist()
    found = [truth.index_of(frame, index) for frame, index in zip(frames, promised, strict=True)]
    num_undefined = sum(index in truth.undefined for index in found)
    lost = [pair for pair, index in zip(zip(frames, promised, strict=True), found, strict=True) if index is None]
    num_intact = sum(before.index_of(frame, index) is not None for frame, index in lost)
    return Outcome(name, seed, code, len(lost) - num_intact, num_intact, num_undefined, seconds)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    folder = tmp_path_factory.mktemp("fuzz")
    whole = {}
    for name in FORMATS:
        ODD_VIDEOS[name](folder / name)
        whole[name] = (folder / name).read_bytes()
    found = []
    limits = {"time_limit_s": TIME_LIMIT_S, "memory_limit_bytes": MEMORY_LIMIT}
    roomy = limits | {"memory_limit_bytes": 4 * MEMORY_LIMIT}  # it keeps all pictures at once
    with Guard(SPEC, **limits) as guard, FullDecoder(SPEC, **roomy) as full_decoder:
        before = {name: full_decoder.decode(folder / name) for name in FORMATS}
        for number in range(NUM_FILES):
            name, seed = FORMATS[number % len(FORMATS)], FIRST_SEED + number // len(FORMATS)
            path = folder / f"damaged_{seed}_{name}"
            path.write_bytes(mutated(whole[name], seed))
            found.append(try_file(path, name, seed, guard, full_decoder, before[name]))
            path.unlink()
    print_table(found)
    return found


def print_table(found: list[Outcome]) -> None:
    codes = ["ok", *sorted({outcome.code for outcome in found} - {"ok"})]
    print(
        "\n"
        + " ".join([f"{'':28}", *(f"{code:>15}" for code in [*codes, "frames wrong", "lost, intact", "undefined"])])
    )
    for name in FORMATS:
        mine = [outcome for outcome in found if outcome.format_name == name]
        counts = [sum(outcome.code == code for outcome in mine) for code in codes]
        frames = [(outcome.num_wrong, outcome.num_intact, outcome.num_undefined) for outcome in mine]
        counts += [sum(column) for column in zip(*frames, strict=True)]
        print(" ".join([f"{name:28}", *(f"{count:15}" for count in counts)]))


def test_of_a_damaged_video_called_ok_every_frame_is_that_of_a_full_decode(outcomes):
    wrong = [(outcome.format_name, outcome.seed) for outcome in outcomes if outcome.num_wrong]
    assert wrong == []


def test_a_damaged_video_ends_ok_or_with_a_code_within_its_limits(outcomes):
    assert {outcome.code for outcome in outcomes} <= {"ok", *ERROR_CODES}
    assert max(outcome.seconds for outcome in outcomes) < TIME_LIMIT_S + 5
    assert [(outcome.format_name, outcome.seed) for outcome in outcomes if outcome.code in ("crash", "timeout")] == []


def test_of_every_format_some_damage_is_found_and_some_is_harmless(outcomes):
    assert {outcome.format_name for outcome in outcomes if outcome.code == "ok"} == set(FORMATS)
    assert {outcome.format_name for outcome in outcomes if outcome.code != "ok"} == set(FORMATS)
