"""Where the driver joins clips to videos, and commits their rows every few seconds."""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.clip_blocks import stored_receipt
from vidpipe.predictions.answers import answers_of
from vidpipe.predictions.assembly import Assembly, ViewedVideo
from vidpipe.predictions.log import PredictionLog
from vidpipe.predictions.question import Question
from vidpipe.predictions.tally import PredictTally
from vidpipe.progress import Progress

COMMIT_EVERY_S = 10.0
COMMIT_EVERY_CLIPS = 100_000  # their logits are held until then


class Desk:
    """The videos of one run; use as a context manager: at its end, whatever ends it, what is done is committed."""

    def __init__(self, log: PredictionLog, todo: pa.Table, tally: PredictTally) -> None:
        self.todo, self._log, self._tally = todo, log, tally
        facts = log.question.facts
        self._assembly = Assembly(facts.views.crops, len(facts.labels))
        self._pending: list[ViewedVideo] = []
        self._pending_clips = 0
        self._committed_s = time.monotonic()
        self._progress = Progress(len(todo))

    @property
    def question(self) -> Question:
        return self._log.question

    def add_failed(self, statuses: pa.Table) -> None:
        """Status rows of preprocess whose videos failed then."""
        self.add_videos([self._assembly.failed(row["video_id"], stored_receipt(row)) for row in statuses.to_pylist()])

    def __enter__(self) -> Desk:
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.__exit__(*exception)
        self.commit()

    def add_rows(self, rows: pa.Table) -> None:
        """What a model said of a block."""
        self._tally.add_blocks(rows)
        self.add_videos(self._assembly.add(rows))

    def add_videos(self, videos: list[ViewedVideo]) -> None:
        self._tally.add_videos(videos)
        self._progress.add(len(videos), sum(video.receipt["status"] == "failed" for video in videos))
        self._pending += videos
        self._pending_clips += sum(len(video.logits) for video in videos)
        is_due = time.monotonic() - self._committed_s > COMMIT_EVERY_S
        if is_due or self._pending_clips > COMMIT_EVERY_CLIPS:
            self.commit()

    def commit(self) -> None:
        if self._pending:
            self._log.commit(answers_of(self._pending, self.todo, self.question))
            self._pending, self._pending_clips = [], 0
        self._committed_s = time.monotonic()

    def begin_round(self) -> pa.Table:
        """Manifest rows that have no answer yet; what was under way of them is forgotten."""
        self._assembly.forget()
        done = pa.array(sorted(self._assembly.done), pa.string())
        return self.todo.filter(pc.invert(pc.is_in(self.todo["video_id"], value_set=done)))
