"""Opening thousands of videos in one process costs it no memory and no open files.

More of them, for a run by hand; it prints both on the way:

    VIDPIPE_OPENS=5000 python -m pytest tests/unit/test_open_often.py -s
"""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bad_videos import BAD_VIDEOS

from vidpipe.decode import open_video
from vidpipe.decode.packets import IndexMismatch
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import ENCODINGS

NUM_OPENS = int(os.environ.get("VIDPIPE_OPENS", "600"))
NUM_WARM = 200  # until then, the process's memory settles
GROWTH_BYTES = 12 << 20  # a leak of one 160x120 picture an open is 11 MB in 400
BAD = ["text.mp4", "faststart_50.mp4", "moov_last_50.mp4", "avi_50.avi", "mkv_50.mkv", "zeroed_middle.mp4"]
BAD += ["audio_aac.mp4", "hls_playlist.mp4", "gif_no_frames.gif"]
SPEC = ClipSpec(size="32", num_frames=4)


@pytest.fixture
def paths(generated: dict[str, Path], tmp_path: Path) -> list[Path]:
    for name in BAD:
        BAD_VIDEOS[name][0](tmp_path / name, np.random.default_rng(0))
    return [*(generated[encoding] for encoding in ENCODINGS), *(tmp_path / name for name in BAD)]


def held() -> tuple[int, int]:
    """Bytes of memory and open files of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_and_open_files_stay_the_same_over_many_videos(paths):
    before, num_frames = held(), 0
    for number in range(1, NUM_OPENS + 1):
        with suppress(DecodeError, IndexMismatch), open_video(str(paths[number % len(paths)]), SPEC) as video:
            frames = video.frames(np.unique([0, len(video.times_s) // 2]))
            num_frames += next(frames).size == 32 * 32 * 3  # and not the rest, as where a caller fails
        if number == NUM_WARM:
            before = held()
        if number % 500 == 0:
            print(f"{number} opens: {held()[0] / 1e6:.1f} MB, {held()[1]} open files")
    num_bytes, num_files = held()
    assert NUM_OPENS // 4 < num_frames < NUM_OPENS
    assert num_files == before[1]
    assert num_bytes - before[0] < GROWTH_BYTES
