"""The GPU that Ray promised to a worker: there and usable, or an error that names the node. Never a CPU in silence."""

from __future__ import annotations

import os
import socket

import torch

from vidpipe.errors import MissingGpuError

# Set by tests alone: a Ray of logical GPUs (`ray.init(num_gpus=2)`) runs the whole path of GPUs on a machine that has
# none, and every promised GPU is a CPU, where workers talk by gloo.
GPUS_ARE_CPUS = "VIDPIPE_TEST_GPUS_ARE_CPUS"


def gpus_are_cpus() -> bool:
    return os.environ.get(GPUS_ARE_CPUS) == "1"


def promised_device() -> str:
    """The torch device of a worker that Ray promised a GPU; raises MissingGpuError where torch sees none."""
    if gpus_are_cpus():
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    raise MissingGpuError(
        f"Ray promised a GPU on node {socket.gethostname()}, and torch sees none there (torch {torch.__version__} of "
        f"CUDA {torch.version.cuda}, CUDA_VISIBLE_DEVICES {visible}): run nvidia-smi there, install a torch that "
        "fits its driver, or take it out of the cluster; --device cpu does without GPUs"
    )
