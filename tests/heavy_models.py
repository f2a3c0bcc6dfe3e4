"""Models that are a burden: slow, so that clips pile up before them, or hungry, so that Ray kills them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from colour_model import ColourModel

STEP_BYTES = 200 << 20


class SlowModel(ColourModel):
    def __call__(self, block: pa.Table) -> pa.Table:
        time.sleep(0.2)
        return super().__call__(block)


class HungryModel(ColourModel):
    """Once, it takes memory until it is killed: `marker` stands beside the checkpoint from then on."""

    def __init__(self, checkpoint_url: str, checkpoint_id: str, *args: Any, **how: Any) -> None:
        super().__init__(checkpoint_url, checkpoint_id, *args, **how)
        self._marker = Path(checkpoint_url.removeprefix("file://")).parent / "marker"

    def __call__(self, block: pa.Table) -> pa.Table:
        if not self._marker.exists():
            self._marker.touch()
            held = []
            while len(held) * STEP_BYTES < 12 << 30:
                held.append(np.ones(STEP_BYTES, np.uint8))
                time.sleep(0.05)
            raise MemoryError("Ray's memory monitor never came")
        return super().__call__(block)
