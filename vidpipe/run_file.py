"""run.json: what one run did, written last, so that its presence means that the run finished."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from vidpipe import __version__
from vidpipe.errors import UsageError
from vidpipe.plain_text import redacted
from vidpipe.transfer import file_names, join, put_bytes, read_buffer

RUN_FILE = "run.json"


@dataclass
class Tally:
    """What a run did to videos."""

    num_ok: int = 0
    num_clips: int = 0
    num_with_damage: int = 0
    """Videos that are ok, although packets of theirs were seen damaged."""
    num_bytes_read: int = 0
    num_requests: int = 0
    decode_s: float = 0.0
    failed_by_code: Counter[str] = field(default_factory=Counter)

    @property
    def num_failed(self) -> int:
        return self.failed_by_code.total()

    @property
    def num_done(self) -> int:
        return self.num_ok + self.num_failed

    def add(self, receipt: Mapping[str, Any]) -> None:
        """Count a video by its status row, or by what of one is known."""
        if receipt["status"] == "ok":
            self.num_ok += 1
        else:
            self.failed_by_code[receipt["error_code"]] += 1
        self.num_with_damage += (receipt.get("num_damaged") or 0) > 0
        self.num_clips += receipt.get("num_clips") or 0
        self.num_bytes_read += receipt.get("bytes_read") or 0
        self.num_requests += receipt.get("num_requests") or 0
        self.decode_s += receipt.get("decode_s") or 0.0

    def take_back(self, error_code: str | None, num_clips: int, num_damaged: int) -> None:
        """Uncount a video that came once more; what its first time cost stays."""
        if error_code is None:
            self.num_ok -= 1
        else:
            self.failed_by_code -= Counter([error_code])
        self.num_with_damage -= num_damaged > 0
        self.num_clips -= num_clips

    def facts(self, seconds: float) -> dict[str, Any]:
        """For run.json."""
        return {
            "failed_by_code": dict(sorted(self.failed_by_code.items())),
            "num_clips": self.num_clips,
            "bytes_read": self.num_bytes_read,
            "num_requests": self.num_requests,
            "videos_per_s": round(self.num_done / seconds, 3),
            "decode_cpu_s": round(self.decode_s, 3),
        }


def check_run_file(output: str) -> None:
    """Raise UsageError when OUTPUT/run.json, which a run replaces, is somebody else's."""
    check_replaceable(output, {RUN_FILE: ("command", "settings", "versions")})


def check_replaceable(output: str, files: dict[str, tuple[str, ...]]) -> None:
    """Raise UsageError when one of the files, which a run replaces, is there and is not an object with these keys."""
    for name in sorted(files.keys() & {*file_names(output)}):
        try:
            content = json.loads(read_buffer(join(output, name)).to_pybytes())
        except ValueError:
            content = None
        if not isinstance(content, dict) or not content.keys() >= {*files[name]}:
            raise UsageError(
                f"{join(output, name)} was not written by vidpipe, and this run would replace it; move it elsewhere, "
                "or give another --output"
            )


def write_run_file(
    output: str, command: str, config: Any, facts: dict[str, Any], *, seconds: float, versions: list[str]
) -> None:
    """Write OUTPUT/run.json: settings, versions and the facts of one run; counts among them have been checked."""
    content = {
        "command": command,
        "settings": asdict(config),
        "versions": {"vidpipe": __version__, "python": platform.python_version()}
        | {package: version(package) for package in versions},
        **facts,
        "seconds": round(seconds, 3),
    }
    put_bytes(json.dumps(redacted(content), indent=2).encode(), join(output, RUN_FILE))
