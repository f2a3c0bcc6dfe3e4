"""What a run of predict did, for run.json and the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.predictions.assembly import ViewedVideo
from vidpipe.run_file import Tally


@dataclass
class PredictTally(Tally):
    video_s: float = 0.0
    """Seconds of video that the labelled ones last."""
    model_s: float = 0.0
    """Seconds for which models were at work, all of them together."""
    began_at: float = float("inf")
    """When the first model got its first clips, in seconds of the clock."""
    ended_at: float = 0.0

    def add_blocks(self, rows: pa.Table) -> None:
        """Rows as models return them: when they were at work."""
        self.model_s += pc.sum(rows["model_s"]).as_py()
        began_at = rows["began_at"].filter(pc.greater(rows["began_at"], 0))
        self.began_at = min(self.began_at, pc.min(began_at).as_py() or self.began_at)
        self.ended_at = max(self.ended_at, pc.max(rows["ended_at"]).as_py())

    def add_videos(self, videos: Sequence[ViewedVideo]) -> None:
        for video in videos:
            self.add(video.receipt)
            if video.receipt["status"] == "ok":
                self.video_s += video.receipt["duration_s"] or 0.0

    def model_busy_share(self, num_actors: int) -> float | None:
        """Share of the time, from the first clips to the last answer, that a model was at work."""
        seconds = self.ended_at - self.began_at
        return min(self.model_s / (seconds * num_actors), 1.0) if seconds > 0 and num_actors else None

    def model_facts(self, seconds: float, num_actors: int) -> dict[str, Any]:
        """For run.json, with the other facts."""
        busy = self.model_busy_share(num_actors)
        work_s = self.decode_s + self.model_s
        return {
            "video_hours": round(self.video_s / 3600, 4),
            "video_hours_per_hour": round(self.video_s / seconds, 2),
            "model_s": round(self.model_s, 3),
            "working_s": round(max(self.ended_at - self.began_at, 0.0), 3),
            "model_busy_share": None if busy is None else round(busy, 4),
            "decode_share": round(self.decode_s / work_s, 4) if work_s else None,
        }
