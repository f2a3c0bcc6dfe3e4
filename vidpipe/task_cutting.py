"""Manifest rows as tasks: small enough to lose, large enough that Ray's 14 ms a task do not matter."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

MAX_TASK_VIDEOS = 256
MIN_TASK_BYTES = 8 << 20  # some seconds of work
MAX_TASK_BYTES = 1 << 30
TASKS_A_SLOT = 6
MAX_ROUNDS = 3  # of decoding what a lost worker took along
HAND_ON_EVERY_S = 60.0  # a task under way hands on what it has
VIDEO_WEIGHT_BYTES = 1 << 16  # what a video costs besides its bytes, when tasks are made equal


def cut_tasks(todo: pa.Table, num_slots: int, max_videos: int = MAX_TASK_VIDEOS) -> list[pa.Table]:
    """Tasks of about equal weight, the largest videos first: no long one is left for the end."""
    todo = todo.take(pc.sort_indices(todo, [("size_bytes", "descending"), ("video_id", "ascending")])).combine_chunks()
    weights = todo["size_bytes"].to_numpy() + VIDEO_WEIGHT_BYTES
    max_videos = min(max_videos, MAX_TASK_VIDEOS, math.ceil(len(todo) / num_slots))
    even_weight = weights.sum() / num_slots
    max_weight = min(max(even_weight / TASKS_A_SLOT, MIN_TASK_BYTES), even_weight, MAX_TASK_BYTES)
    tasks, first, weight = [], 0, 0
    for row, added in enumerate(weights.tolist()):
        if row > first and (row - first == max_videos or weight + added > max_weight):
            tasks.append(todo.slice(first, row - first))
            first, weight = row, 0
        weight += added
    return [*tasks, todo.slice(first)]
