"""Checks of the machine: packages, decoders, GPUs, disk, shared memory."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, cast

import numpy as np
from packaging.requirements import Requirement

from vidpipe.config.doctor import DoctorConfig
from vidpipe.decode import DECODERS, check_decoder, open_video
from vidpipe.doctor.findings import ClusterFacts, Finding
from vidpipe.errors import UsageError
from vidpipe.spec import ClipSpec

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
SHARED_MEMORY = "/dev/shm"
MIN_SHARED_MEMORY = 1 << 30
STEP = 16  # in gray, from a frame of the test video to the next; decoders differ by less than half of it


def requirements() -> list[str]:
    """What vidpipe needs: as installed, or, where it came as a working directory, as pyproject.toml says."""
    if PROJECT.exists():
        body = re.search(r"^dependencies = (\[.*?^\])", PROJECT.read_text(), re.MULTILINE | re.DOTALL)
        if body:
            return list(ast.literal_eval(body[1]))
    return [need for need in requires("vidpipe") or [] if "extra ==" not in need]


def unmet(needs: list[str]) -> list[str]:
    """Those requirements that this environment does not meet, with what it has instead."""
    wrong = []
    for need in map(Requirement, needs):
        if need.marker and not need.marker.evaluate():
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} {found} is not {need.specifier}")
    return wrong


def check_versions(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    needs = requirements()
    wrong = unmet(needs)
    if wrong:
        return Finding(
            "FAIL",
            ", ".join(wrong),
            "packages are those of pyproject.toml",
            "pip install -r deploy/requirements.txt on every node",
        )
    import av

    names = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "av"))
    return Finding(
        "ok", f"Python {platform.python_version()}, {len(needs)} packages fit; {names}, FFmpeg {av.ffmpeg_version_info}"
    )


def write_steps(path: Path, num_frames: int = 12) -> None:
    """A video whose frame i is gray, of value `STEP * i`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 64, "yuv420p", 4_000_000
        for index in range(num_frames):
            picture = np.full((64, 64, 3), STEP * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def check_decoders(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    wanted = 7
    works: list[str] = []
    absent: list[str] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "steps.mp4"
        write_steps(path)
        for name in DECODERS:
            try:
                check_decoder(name)
            except UsageError as error:
                absent.append(str(error).partition(";")[0])
                continue
            with open_video(str(path), ClipSpec(size="64", decoder=cast(Any, name))) as video:
                frame = next(iter(video.frames([wanted])))
            off = float(np.abs(frame.astype(float) - STEP * wanted).mean())
            if off > STEP / 2:
                wrong.append(f"{name} is {off:.0f} gray off")
            else:
                works.append(name)
    if wrong or "pyav" not in works:
        return Finding(
            "FAIL", ", ".join(wrong + absent), "the frame asked for is the frame delivered", "install av again"
        )
    if absent:
        return Finding(
            "warn",
            f"{', '.join(works)} agree; {', '.join(absent)}",
            "only --decoder pyav, the default, is needed",
            "apt-get install ffmpeg for torchcodec, or go on",
        )
    return Finding("ok", f"{', '.join(works)} agree on a frame")


def check_gpus(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    built = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if built > seen:
        return Finding(
            "FAIL",
            f"{built} GPUs here, torch sees {seen}",
            "torch and the driver fit",
            "nvidia-smi; a torch with CUDA (deploy/requirements.txt without the CPU index)",
        )
    if seen > cluster.num_gpus:
        return Finding(
            "FAIL",
            f"torch sees {seen} GPUs here, Ray {cluster.num_gpus} in all",
            "Ray hands out every GPU",
            "start Ray without --num-gpus, and with CUDA_VISIBLE_DEVICES unset",
        )
    return Finding("ok", f"{cluster.num_gpus} in the cluster, {seen} here" if cluster.num_gpus else "none: CPUs")


def check_disk(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    folder = tempfile.gettempdir()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < config.min_free_gb:
        return Finding(
            "FAIL",
            f"{free_gb:.1f} GB free in {folder}",
            f"at least {config.min_free_gb:g} GB (--min-free-gb)",
            "empty it, a larger disk, or TMPDIR on another one",
        )
    return Finding("ok", f"{free_gb:.1f} GB free in {folder}")


def check_shared_memory(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    if not os.path.isdir(SHARED_MEMORY):
        return Finding("ok", f"no {SHARED_MEMORY} on this system")
    size = shutil.disk_usage(SHARED_MEMORY).total
    if size < MIN_SHARED_MEMORY:
        return Finding(
            "FAIL",
            f"{SHARED_MEMORY} has {size / 1e6:.0f} MB",
            f"at least {MIN_SHARED_MEMORY >> 20} MB, or Ray's object store lies on disk",
            "docker run --shm-size=8g, or on Kubernetes an emptyDir with medium Memory",
        )
    return Finding("ok", f"{SHARED_MEMORY} has {size / 1e9:.1f} GB")
