from __future__ import annotations

from pathlib import Path

import pytest
from small_videos import write_generated

from vidpipe.synthetic import ENCODINGS


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of one video of each encoding, by the encoding's name: 48 frames of 96x128. Only to be read."""
    folder = tmp_path_factory.mktemp("generated")
    return {name: write_generated(folder / f"{name}{ENCODINGS[name].suffix}", name) for name in ENCODINGS}
