"""Guards and their children, for unit tests."""

import os
import time
from pathlib import Path

from vidpipe.errors import DecodeError
from vidpipe.guard import Guard, VideoFacts
from vidpipe.spec import ClipSpec

FAULTS_FOLDER = Path(__file__).parent.parent / "faults"
SPEC = ClipSpec(size="32x48", num_frames=4)
LARGE = ClipSpec(sampling="windows", window_s=0.2, num_frames=16)  # 10 clips of 600 KB: more than a socket holds
MEMORY_LIMIT = 256 << 20
others_children: set[int] = set()


def make_guard(spec: ClipSpec = SPEC, *, time_limit_s: float = 30) -> Guard:
    return Guard(spec, time_limit_s=time_limit_s, memory_limit_bytes=MEMORY_LIMIT)


def child_pids(pid: int | None = None) -> list[int]:
    """Decoding children of a process (this one: those of the present test)."""
    pid = pid or os.getpid()
    children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())) - others_children
    return sorted(child for child in children if b"vidpipe.child" in Path(f"/proc/{child}/cmdline").read_bytes())


def rss_bytes(pid: int | str, field: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) << 10


def wait_until_gone(pid: int) -> bool:
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def outcome(guard: Guard, path: Path) -> str:
    try:
        events = list(guard.decode(str(path), path.name))
    except DecodeError as error:
        return error.code
    assert isinstance(events[-1], VideoFacts)
    return "ok"
