"""A node that loses its network and works on: the run ends without it, and what it writes counts for nothing.

Ray's head knows after seconds that the node is gone, but what was sent to it is given up only when its connection ends.
VIDPIPE_CUT_OFF=1 pytest -s tests/e2e/test_cut_off.py (two minutes, as root).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from namespaces import Namespace, namespaces
from ray_nodes import RayNodes
from running import ROOT, job_command

from vidpipe.clips import part_urls
from vidpipe.synthetic import generate_folder

NUM_VIDEOS = 120
IN_MID_TASK = 35  # decodes: a task has 10 videos
LIMIT_S = 120.0
# Ray's head gives a node up that does not answer for 4 s.
PATIENCE = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000"}
PATIENCE |= {"RAY_health_check_failure_threshold": "4", "RAY_health_check_initial_delay_ms": "2000"}


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[RayNodes, list[Namespace]]]:
    """With one CPU each; they note each decode in tmp_path/decode.log, and share this machine's files."""
    (tmp_path / "decode.log").touch()
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'faults'}:{tmp_path}", **PATIENCE}
    with (
        namespaces(2) as (host_ip, places),
        tempfile.TemporaryDirectory(prefix="vp-", dir="/tmp", ignore_cleanup_errors=True) as folder,
    ):
        nodes = RayNodes(Path(folder), 0, variables, host_ip=host_ip)
        try:
            nodes.start()
            for number, place in enumerate(places):
                nodes.add(place)
                nodes.wait_for(number + 2)
            yield nodes, places
        finally:
            nodes.stop()


def num_decodes(folder: Path) -> int:
    return len((folder / "decode.log").read_text().splitlines())


@pytest.mark.skipif("VIDPIPE_CUT_OFF" not in os.environ, reason="wants the right to make networks: VIDPIPE_CUT_OFF=1")
def test_a_node_that_is_cut_off_and_works_on_changes_nothing(
    two_nodes: tuple[RayNodes, list[Namespace]], tmp_path: Path
):
    nodes, places = two_nodes
    videos, output = tmp_path / "videos", tmp_path / "out"
    generate_folder(str(videos), num_videos=NUM_VIDEOS, seed=0, num_frames=24)
    command = job_command("preprocess", videos, "--output", output, "--size", "64", "--part-mb", "1")

    def run_until(is_time: bool) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            driver = subprocess.Popen(command, env=nodes.env, stdout=log, stderr=log)
        deadline_s = time.monotonic() + LIMIT_S
        while (
            is_time and driver.poll() is None and num_decodes(tmp_path) < NUM_VIDEOS // 4 + 5
        ):  # in the middle of a task
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        return driver

    driver = run_until(True)
    assert driver.poll() is None, (tmp_path / "log").read_text()[-3000:]
    places[1].cut_off()
    cut_s = time.monotonic()
    assert driver.wait(LIMIT_S) == 0, (tmp_path / "log").read_text()[-3000:]
    print(f"done {time.monotonic() - cut_s:.0f} s after a node was cut off")
    assert len(nodes.alive()) == 2  # the head, and one of two
    num_after_the_run = num_decodes(tmp_path)
    places[1].mend()
    assert run_until(False).wait(LIMIT_S) == 0

    status = pq.read_table(output / "status", columns=["video_id", "status"])
    assert status["status"].to_pylist() == ["ok"] * NUM_VIDEOS
    assert len(set(status["video_id"].to_pylist())) == NUM_VIDEOS
    clips = pq.read_table(output / "clips", columns=["video_id"])["video_id"].to_pylist()
    assert sorted(clips) == sorted(status["video_id"].to_pylist())
    assert {path.name for path in (output / "clips").iterdir()} == {Path(url).name for url in part_urls(str(output))}
    print(f"{num_decodes(tmp_path) - NUM_VIDEOS} of {NUM_VIDEOS} videos decoded again, "
          f"{num_decodes(tmp_path) - num_after_the_run} of them after the first run had ended")  # fmt: skip
    assert num_decodes(tmp_path) > NUM_VIDEOS  # what the lost node had begun was done again
