"""A GPU that Ray promised is there, or the error says on which node it is not."""

from __future__ import annotations

import socket

import pytest
import torch

from vidpipe.errors import MissingGpuError
from vidpipe.promised_gpu import GPUS_ARE_CPUS, promised_device


def test_a_promised_gpu_is_never_a_cpu_in_silence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(GPUS_ARE_CPUS, raising=False)
    if torch.cuda.is_available():
        assert promised_device() == "cuda"
    else:
        with pytest.raises(MissingGpuError, match=rf"on node {socket.gethostname()}.*nvidia-smi.*--device cpu"):
            promised_device()
    monkeypatch.setenv(GPUS_ARE_CPUS, "1")
    assert promised_device() == "cpu"
