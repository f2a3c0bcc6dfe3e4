from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guarded import FAULTS_FOLDER, child_pids, others_children
from small_parts import RAW
from small_videos import write_generated

from vidpipe.ledger import Ledger
from vidpipe.synthetic import ENCODINGS


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of one video of each encoding, by the encoding's name: 48 frames of 96x128. Only to be read."""
    folder = tmp_path_factory.mktemp("generated")
    return {name: write_generated(folder / f"{name}{ENCODINGS[name].suffix}", name) for name in ENCODINGS}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where a run writes: not there yet."""
    return tmp_path / "out"


@pytest.fixture
def ledger(output: Path) -> Ledger:
    return Ledger(str(output), RAW)


@pytest.fixture(scope="session")
def plain_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 frames of H.264 in an MP4. Only to be read."""
    return write_generated(tmp_path_factory.mktemp("plain") / "plain.mp4", "h264_mp4", num_frames=50)


@pytest.fixture
def no_child_is_left() -> Iterator[None]:
    """Decoding children of the test end with it; tests of tasks before these keep theirs between tasks."""
    others_children.clear()
    others_children.update(child_pids())
    yield
    assert child_pids() == []


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children started from here on misbehave on marked videos."""
    monkeypatch.syspath_prepend(FAULTS_FOLDER)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of torch: small tensors on many threads take longer."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
