"""Checks before a night begins: each looks at one thing and says what it is, what it should be, and the way out.

Knows nothing of Ray: what Ray says of the cluster comes as `ClusterFacts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vidpipe.config.doctor import DoctorConfig
from vidpipe.doctor.cluster import check_authentication, check_dashboard, check_object_store, check_spot
from vidpipe.doctor.findings import ClusterFacts, Finding
from vidpipe.doctor.machine import check_decoders, check_disk, check_gpus, check_shared_memory, check_versions
from vidpipe.doctor.storage import check_clock, check_input, check_output

__all__ = ["CHECKS", "ClusterFacts", "Finding", "findings"]

CHECKS: dict[str, Callable[[DoctorConfig, ClusterFacts], Finding]] = {
    "versions": check_versions,
    "decoders": check_decoders,
    "gpus": check_gpus,
    "input": check_input,
    "output": check_output,
    "clock": check_clock,
    "disk": check_disk,
    "shared memory": check_shared_memory,
    "object store": check_object_store,
    "dashboard": check_dashboard,
    "authentication": check_authentication,
    "spot": check_spot,
}


def findings(config: DoctorConfig, cluster: ClusterFacts) -> Iterator[tuple[str, Finding]]:
    """Every check's name with what it found, one after the other; a check that cannot be made is a finding, too."""
    for name, check in CHECKS.items():
        try:
            yield name, check(config, cluster)
        except Exception as error:  # noqa: BLE001  the others are still worth knowing
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            yield name, Finding("FAIL", reason, "a check ends with an answer", "mend what it says, or report it")
