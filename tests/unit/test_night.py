"""deploy/: what a night does when its steps go wrong, and what a spot node does when it is taken back."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "deploy"))
import spot_watch  # noqa: E402


def night(folder: Path, predict_codes: list[int]) -> tuple[int, list[str]]:
    """Run night.sh with a `python` that writes down what it is asked, and exits with these codes of predict."""
    (folder / "codes").write_text("".join(f"{code}\n" for code in predict_codes))
    (folder / "python").write_text(
        '#!/bin/bash\necho "$@" >> "$FOLDER/calls"\n[ "$1" = jobs/predict.py ] || exit 0\n'
        'code=$(head -n 1 "$FOLDER/codes"); sed -i 1d "$FOLDER/codes"; exit "$code"\n'
    )
    (folder / "python").chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "FOLDER": str(folder), "VIDPIPE_BUCKET": "b", "PAUSE_S": "0"}
    code = subprocess.run(["bash", ROOT / "deploy" / "night.sh"], env=env, capture_output=True, timeout=30).returncode
    return code, [line.split()[0] for line in (folder / "calls").read_text().splitlines()]


def test_a_good_night_gets_nodes_looks_predicts_once_reports_and_gives_its_nodes_back(tmp_path: Path):
    steps = ["deploy/nodes.py", "jobs/doctor.py", "jobs/predict.py", "jobs/evaluate.py", "deploy/nodes.py"]
    assert night(tmp_path, [0]) == (0, steps)


def test_what_broke_is_run_again_and_goes_on(tmp_path: Path):
    code, calls = night(tmp_path, [1, 1, 0])
    assert (code, calls.count("jobs/predict.py"), calls.count("jobs/evaluate.py")) == (0, 3, 1)


def test_a_night_that_breaks_three_times_fails_and_gives_its_nodes_back(tmp_path: Path):
    code, calls = night(tmp_path, [1, 1, 1])
    assert (code, calls.count("jobs/predict.py"), calls.count("jobs/evaluate.py")) == (1, 3, 0)
    assert calls[-1] == "deploy/nodes.py"


def test_a_command_that_cannot_work_is_not_run_again(tmp_path: Path):
    code, calls = night(tmp_path, [2])
    assert (code, calls.count("jobs/predict.py"), calls.count("jobs/evaluate.py")) == (2, 1, 0)


def test_a_night_with_too_many_bad_videos_has_its_report_and_says_so(tmp_path: Path):
    code, calls = night(tmp_path, [3])
    assert (code, calls.count("jobs/predict.py"), calls.count("jobs/evaluate.py")) == (3, 1, 1)


class Metadata(http.server.BaseHTTPRequestHandler):
    """The instance metadata service of a spot node, which answers nobody without a token."""

    notice: str | None = None

    def do_PUT(self) -> None:
        self.answer(200, "token")

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != "token":
            self.answer(401, "")
        elif self.path.endswith("/instance-life-cycle"):
            self.answer(200, "spot")
        elif self.notice and self.path.endswith("/spot/instance-action"):
            self.answer(200, self.notice)
        else:
            self.answer(404, "")

    def answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(spot_watch, "METADATA", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("service")
def test_a_notice_is_seen_and_nothing_is_seen_before_it(monkeypatch: pytest.MonkeyPatch):
    assert spot_watch.metadata("instance-life-cycle") == "spot"
    assert spot_watch.metadata("spot/instance-action") is None
    monkeypatch.setattr(Metadata, "notice", '{"action": "terminate", "time": "2026-11-21T04:10:00Z"}')
    assert spot_watch.metadata("spot/instance-action") == Metadata.notice


def test_ray_is_told_how_long_the_node_has():
    notice = '{"action": "terminate", "time": "2026-11-21T04:10:00Z"}'
    now = datetime(2026, 11, 21, 4, 8, 5, tzinfo=timezone.utc)
    command = spot_watch.drain_command("10.0.0.1:6379", "ab" * 28, notice, now)
    assert command[command.index("--deadline-remaining-seconds") + 1] == "115"
    assert command[command.index("--reason") + 1] == "DRAIN_NODE_REASON_PREEMPTION"
