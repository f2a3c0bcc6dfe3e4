"""Broken machines, one a test: each breakage is made, and the doctor's line says what it is and the way out."""

from __future__ import annotations

import email.utils
import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vidpipe.config import DoctorConfig
from vidpipe.doctor import CHECKS, ClusterFacts, Finding, cluster, findings, machine

NO_FACTS = ClusterFacts()


def check(name: str, config: DoctorConfig | None = None, facts: ClusterFacts = NO_FACTS) -> Finding:
    return CHECKS[name](config or DoctorConfig(), facts)


@contextmanager
def http_server(code: int, clock_off_s: float = 0.0) -> Iterator[str]:
    """host:port of a server that answers everything with `code`, and whose clock is wrong."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def date_time_string(self, timestamp: float | None = None) -> str:
            return email.utils.formatdate(time.time() + clock_off_s, usegmt=True)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_sound_machine_has_nothing_to_mend(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"video")
    config = DoctorConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), min_free_gb=0.001)
    facts = ClusterFacts(object_store_bytes={"127.0.0.1": 1 << 30})
    quick = {name: finding for name, finding in findings(config, facts) if name not in ("gpus", "shared memory")}
    assert [line for name, finding in quick.items() if finding.level == "FAIL" for line in [finding.line(name)]] == []
    assert set(quick) == set(CHECKS) - {"gpus", "shared memory"}  # those of CI's own machine
    assert "FFmpeg" in quick["versions"].value


def test_1_a_package_is_missing_and_another_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "pyproject.toml").write_text(
        'dependencies = [\n    "no-such-library>=1",\n    "av>=99",\n    "numpy",\n]\n'
    )
    monkeypatch.setattr(machine, "PROJECT", tmp_path / "pyproject.toml")
    finding = check("versions")
    assert finding.level == "FAIL"
    assert "no-such-library is missing" in finding.value
    assert ">=99" in finding.value
    assert "numpy" not in finding.value


def test_2_a_decoder_does_not_load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    finding = check("decoders")
    assert finding.level == "warn"  # only for comparison: no fault of the machine
    assert "decord does not load" in finding.value
    assert "apt-get install ffmpeg" in finding.way_out


def test_3_a_decoder_delivers_another_frame(monkeypatch: pytest.MonkeyPatch):
    pyav = machine.DECODERS["pyav"]

    class Late(pyav):
        def frames(self, indices):
            return super().frames([index + 1 for index in indices])

    monkeypatch.setitem(machine.DECODERS, "pyav", Late)
    finding = check("decoders")
    assert finding.level == "FAIL"
    assert "pyav is 16 gray off" in finding.value or "pyav is 17 gray off" in finding.value


def test_4_the_input_is_not_there(tmp_path: Path):
    finding = check("input", DoctorConfig(input=str(tmp_path / "nowhere")))
    assert finding.level == "FAIL"
    assert "is not there" in finding.value


def test_5_the_output_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    finding = check("output", DoctorConfig(output=str(tmp_path / "file" / "out")))
    assert finding.level == "FAIL"


def test_6_the_clock_is_wrong(monkeypatch: pytest.MonkeyPatch):
    for off_s, level in ((0, "ok"), (120, "warn"), (-7200, "FAIL")):
        with http_server(403, clock_off_s=off_s) as address:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
            assert check("clock", DoctorConfig(input="s3://bucket/videos")).level == level


def test_7_the_disk_is_full():
    finding = check("disk", DoctorConfig(min_free_gb=1e6))
    assert finding.level == "FAIL"
    assert "GB free" in finding.value


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_8_shared_memory_is_the_64_mb_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    if os.system(f"mount -t tmpfs -o size=64m tmpfs {tmp_path} 2>/dev/null") != 0:
        pytest.skip("this sandbox mounts nothing")
    try:
        monkeypatch.setattr(machine, "SHARED_MEMORY", str(tmp_path))
        finding = check("shared memory")
    finally:
        os.system(f"umount {tmp_path}")
    assert finding.level == "FAIL"
    assert "67 MB" in finding.value


def test_9_the_object_store_of_one_node_is_small():
    finding = check("object store", facts=ClusterFacts(object_store_bytes={"10.0.0.1": 8 << 30, "10.0.0.2": 80 << 20}))
    assert finding.level == "FAIL"
    assert "10.0.0.2" in finding.value


@pytest.mark.parametrize(("host", "level"), [("127.0.0.1", "ok"), ("0.0.0.0", "FAIL"), ("::", "FAIL"), ("::1", "ok")])
def test_10_the_dashboard_listens_to_everybody(host: str, level: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} on this machine")
        listener.listen()
        assert check("dashboard", facts=ClusterFacts(dashboard=f"127.0.0.1:{listener.getsockname()[1]}")).level == level


@pytest.mark.parametrize(("code", "level"), [(200, "FAIL"), (401, "ok"), (403, "ok"), (500, "FAIL")])
def test_11_the_job_api_asks_nobody_for_a_token(code: int, level: str):
    with http_server(code) as address:
        assert check("authentication", facts=ClusterFacts(dashboard=address)).level == level


def test_12_a_spot_node_does_not_watch_for_its_end():
    nodes = {"10.0.0.2": "watched", "10.0.0.3": "unwatched", "10.0.0.4": "on demand"}
    finding = check("spot", facts=ClusterFacts(preemption=nodes))
    assert finding.level == "warn"
    assert "1 of 3" in finding.value
    assert check("spot", facts=ClusterFacts(preemption={"10.0.0.2": "watched"})).level == "ok"


def test_13_ray_hands_out_fewer_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    finding = check("gpus", facts=ClusterFacts(num_gpus=4))
    assert finding.level == "FAIL"
    assert "torch sees 8" in finding.value


def test_a_check_that_breaks_is_a_finding_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> Finding:
        raise OSError("no such\ndevice")

    monkeypatch.setattr("vidpipe.doctor.CHECKS", {"disk": broken, "spot": cluster.check_spot})
    found = dict(findings(DoctorConfig(), NO_FACTS))
    assert (found["disk"].level, found["spot"].level) == ("FAIL", "ok")
    assert found["disk"].line("disk").count("\n") == 0
