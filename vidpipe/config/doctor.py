"""Settings of jobs/doctor.py."""

from __future__ import annotations

from dataclasses import dataclass

from vidpipe.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Check this machine, its storage and its Ray, and say what to mend."""

    input: str | None = None
    """Folder, prefix or file that the jobs will read, with these credentials."""
    output: str | None = None
    """Folder or prefix that the jobs will write."""
    min_free_gb: float = 10.0
    """Free disk that a node needs: for copies of videos, parts that are being written, and what Ray spills."""

    def __post_init__(self) -> None:
        if self.min_free_gb <= 0:
            raise UsageError(f"min_free_gb must be above 0, got {self.min_free_gb}")
