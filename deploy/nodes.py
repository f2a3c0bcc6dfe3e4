"""Ask the autoscaler for nodes and wait until they are there; jobs size their pools by what is there when they start.

`python deploy/nodes.py --cpus 64 --gpus 1`; with `--cpus 0` the request is taken back, and idle nodes go after a while.
"""

from __future__ import annotations

import argparse
import sys
import time

import ray
from ray.autoscaler.sdk import request_resources

LOOK_EVERY_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--wait-s", type=float, default=900, help="after this the job starts on what is there")
    wanted = parser.parse_args()
    ray.init(logging_level="WARNING")
    request_resources(bundles=[{"CPU": 1}] * wanted.cpus + [{"GPU": 1}] * wanted.gpus)
    deadline_s = time.monotonic() + wanted.wait_s
    while True:
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        if cpus >= wanted.cpus and gpus >= wanted.gpus:
            break
        if time.monotonic() > deadline_s:
            print(f"nodes      after {wanted.wait_s:g} s {cpus} of {wanted.cpus} CPUs, {gpus} of {wanted.gpus} GPUs")
            # With some of the CPUs a night is slower; without any, or without its GPU, it would not move.
            return 0 if cpus and (gpus or not wanted.gpus) else 1
        time.sleep(LOOK_EVERY_S)
    print(f"nodes      {cpus} CPUs, {gpus} GPUs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
