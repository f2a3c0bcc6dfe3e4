from __future__ import annotations

from pathlib import Path

import pytest
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
