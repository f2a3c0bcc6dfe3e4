"""What a run of predict did, for run.json and the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.predictions.assembly import ViewedVideo


@dataclass
class PredictTally:
    num_ok: int = 0
    num_clips: int = 0
    num_bytes_read: int = 0
    num_requests: int = 0
    decode_s: float = 0.0
    video_s: float = 0.0
    """Seconds of video that the labelled ones last."""
    model_s: float = 0.0
    """Seconds for which models were at work, all of them together."""
    began_at: float = float("inf")
    """When the first model got its first clips, in seconds of the clock."""
    ended_at: float = 0.0
    failed_by_code: Counter[str] = field(default_factory=Counter)

    @property
    def num_failed(self) -> int:
        return self.failed_by_code.total()

    @property
    def num_done(self) -> int:
        return self.num_ok + self.num_failed

    def add_blocks(self, rows: pa.Table) -> None:
        """Rows as models return them: when they were at work."""
        self.model_s += pc.sum(rows["model_s"]).as_py()
        began_at = rows["began_at"].filter(pc.greater(rows["began_at"], 0))
        self.began_at = min(self.began_at, pc.min(began_at).as_py() or self.began_at)
        self.ended_at = max(self.ended_at, pc.max(rows["ended_at"]).as_py())

    def add_videos(self, videos: Sequence[ViewedVideo]) -> None:
        for video in videos:
            receipt = video.receipt
            if receipt["status"] == "ok":
                self.num_ok += 1
                self.num_clips += receipt["num_clips"]
                self.video_s += receipt["duration_s"] or 0.0
            else:
                self.failed_by_code[receipt["error_code"]] += 1
            self.num_bytes_read += receipt.get("bytes_read") or 0
            self.num_requests += receipt.get("num_requests") or 0
            self.decode_s += receipt.get("decode_s") or 0.0

    def model_busy_share(self, num_actors: int) -> float | None:
        """Share of the time, from the first clips to the last answer, that a model was at work."""
        seconds = self.ended_at - self.began_at
        return min(self.model_s / (seconds * num_actors), 1.0) if seconds > 0 and num_actors else None

    def facts(self, seconds: float, num_actors: int) -> dict[str, Any]:
        """For run.json."""
        busy = self.model_busy_share(num_actors)
        work_s = self.decode_s + self.model_s
        return {
            "failed_by_code": dict(sorted(self.failed_by_code.items())),
            "num_clips": self.num_clips,
            "bytes_read": self.num_bytes_read,
            "num_requests": self.num_requests,
            "videos_per_s": round(self.num_done / seconds, 3),
            "video_hours": round(self.video_s / 3600, 4),
            "video_hours_per_hour": round(self.video_s / seconds, 2),
            "decode_cpu_s": round(self.decode_s, 3),
            "model_s": round(self.model_s, 3),
            "working_s": round(max(self.ended_at - self.began_at, 0.0), 3),
            "model_busy_share": None if busy is None else round(busy, 4),
            "decode_share": round(self.decode_s / work_s, 4) if work_s else None,
        }
