""".ci/run: it gets what a fresh machine lacks for all tests, and goes on where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def calls(folder: Path, user: int, apt_code: int, present: tuple[str, ...] = ()) -> list[str]:
    """The calls of .ci/run on a machine with these commands only, where apt-get ends with this code."""
    for name in ("bash", "dirname", "timeout"):
        (folder / name).symlink_to(shutil.which(name))
    scripts = {
        "id": f"echo {user}",
        "make": "exit 0",
        "apt-get": f"exit {apt_code}",
        **dict.fromkeys(present, "exit 0"),
    }
    for name, body in scripts.items():
        (folder / name).write_text(f'#!{shutil.which("bash")}\necho "{name} $*" >> "$CALLS"\n{body}\n')
        (folder / name).chmod(0o755)
    env = {"PATH": str(folder), "CALLS": str(folder / "calls")}
    subprocess.run([ROOT / ".ci" / "run"], env=env, check=True, capture_output=True, timeout=30)
    return [line for line in (folder / "calls").read_text().splitlines() if not line.startswith("id")]


def test_root_gets_ffmpeg_and_a_browser_where_they_are_missing(tmp_path: Path):
    install = "apt-get install -qq -y --no-install-recommends"
    assert calls(tmp_path, 0, 0, present=("chromium",)) == ["apt-get update -qq", f"{install} ffmpeg", "make test"]


@pytest.mark.parametrize(("user", "apt_code"), [(0, 100), (1000, 0)])
def test_the_tests_are_run_where_nothing_can_be_installed(user: int, apt_code: int, tmp_path: Path):
    assert [call for call in calls(tmp_path, user, apt_code) if call != "apt-get update -qq"] == ["make test"]
