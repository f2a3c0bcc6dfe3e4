"""Clips to a checkpoint on Ray Train: the driver checks, workers train with DDP, the output holds what they found."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow.fs

from vidpipe.cli import connect_ray
from vidpipe.config import TrainConfig
from vidpipe.errors import MissingGpuError, UsageError
from vidpipe.interrupts import ignore_interrupts
from vidpipe.lease import hold
from vidpipe.models import build_model
from vidpipe.plain_text import say
from vidpipe.promised_gpu import gpus_are_cpus, promised_device
from vidpipe.run_file import write_run_file
from vidpipe.storage import absolute_url, filesystem, storage_errors
from vidpipe.training.checks import begin_run, check_fit, check_output, check_same_run, is_finished_run
from vidpipe.training.clip_rows import LabelledClips, labelled_clips
from vidpipe.training.geometry import as_begun, geometry_line, with_published_geometry
from vidpipe.training.job import OnStep, TrainJob
from vidpipe.training.placement import workers_and_resources
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import run_training
from vidpipe.training.sharing import sharing_line
from vidpipe.training.story import Message, Post, Speaker, Story, tell_nobody
from vidpipe.training.summary import run_facts, summary_lines
from vidpipe.training.tracking import check_trackers
from vidpipe.transfer import check_writable, list_folder

logger = logging.getLogger(__name__)

# Of all workers together. Ray's own limit of a minute passes on a busy machine while they import torch, and then it
# begins again, without end.
START_LIMIT_S = "600"
ABORT_LIMIT_S = 10.0  # of workers that were interrupted
TEST_SPLIT = "test"
RAY_FOLDER_PREFIX = ".vidpipe-ray-"
RAY_FOLDER = rf"{re.escape(RAY_FOLDER_PREFIX)}[0-9a-f]{{32}}"
HEAR_EVERY_S, HEAR_LIMIT_S, HEAR_LAST_LIMIT_S = 0.5, 2.0, 20.0


def train(config: TrainConfig, on_step: OnStep | None = None) -> None:
    """Run the stage; raises UsageError before any work."""
    start_s = time.monotonic()
    config = with_absolute_paths(config)
    check_trackers(config)
    clips = labelled_clips(config.clips, config.train_split, config.val_split, TEST_SPLIT)
    with storage_errors(config.output):
        check_writable(config.output)
        check_output(config.output)
        config = as_begun(config)
        if is_finished(config, clips):
            return
    model = build_model(config.model, clips.labels, allow_partial_weights=config.allow_partial_weights)
    config = with_published_geometry(config, clips, model)
    check_fit(config, clips, model)
    connect_ray()
    num_workers, resources = workers_and_resources(config, node_resources())
    # All that can fail is checked: only now is anything written, or an earlier run removed.
    with hold(config.output, "train"):
        if not is_finished(config, clips):  # as another run may have left it since
            say(geometry_line(config, clips, model), *filter(None, [sharing_line(config, model, num_workers)]))
            train_and_report(config, clips, on_step, num_workers, resources, start_s)


def is_finished(config: TrainConfig, clips: LabelledClips) -> bool:
    """Whether this command has been run to its end; UsageError when another one has, or is under way."""
    if config.restart:
        return False
    check_same_run(config, clips)
    if not is_finished_run(config.output):
        return False
    say(f"finished   {config.output} holds the result of this very command (--restart trains anew)")
    return True


def train_and_report(
    config: TrainConfig,
    clips: LabelledClips,
    on_step: OnStep | None,
    num_workers: tuple[int, int],
    resources: dict[str, float],
    start_s: float,
) -> None:
    """Train what is not trained yet, and write run.json."""
    begin_run(config, clips)
    run_workers(TrainJob(config, clips, on_step), num_workers, resources)
    seconds = time.monotonic() - start_s
    facts = run_facts(config, clips, resources)
    versions = ["ray", "torch", "torchvision", "transformers", "pyarrow", "numpy"]
    write_run_file(config.output, "train", config, facts, seconds=seconds, versions=versions)
    ignore_interrupts()
    say(*summary_lines(config, clips, facts, seconds))


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The same files by names that mean them on the workers as well: these run in a folder of Ray's."""
    model = config.model
    if model.weights_are_a_file:
        model = replace(model, weights=absolute_url(model.weights))
    if os.path.isdir(str(model.backbone)):
        model = replace(model, backbone=os.path.abspath(str(model.backbone)))
    return replace(config, clips=absolute_url(config.clips), output=absolute_url(config.output), model=model)


def node_resources() -> list[dict[str, float]]:
    """Resources of each node of the cluster: CPU, GPU and others, by name."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def run_workers(job: TrainJob, num_workers: tuple[int, int], resources: dict[str, float]) -> None:
    """Train on Ray; a lost worker or node starts the group anew, which goes on from the newest state."""
    import ray.train
    import ray.train.torch

    low, high = num_workers
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_LIMIT_S)
    post = start_post()
    fs, path = filesystem(job.config.output)
    storage = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    trainer = ray.train.torch.TorchTrainer(
        partial(train_on_worker, job, post),
        torch_config=checked_gpus() if "GPU" in resources else None,
        scaling_config=ray.train.ScalingConfig(
            num_workers=low if low == high else (low, high),  # type: ignore[arg-type]
            use_gpu="GPU" in resources,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=f"{RAY_FOLDER_PREFIX}{uuid.uuid4().hex}",
            storage_path=path,
            storage_filesystem=storage,
            failure_config=ray.train.FailureConfig(max_failures=job.config.max_failures),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),  # type: ignore[call-arg]
            callbacks=[mistakes_end_the_run()],
        ),
    )
    each = ", ".join(f"{number:g} {name}" for name, number in resources.items())
    logger.info("%s, each with %s", f"{high} workers" if low == high else f"{low} to {high} workers", each)
    with listening(post):
        fit(trainer)
    remove_folders_of_ray(job.config.output)


def remove_folders_of_ray(output: str) -> None:
    """Remove what Ray Train keeps of a run while it lasts, of runs that were killed, too: only this one is at work."""
    fs, path = filesystem(output)
    for entry in list_folder(output):
        name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        if entry["type"] == "directory" and not entry.get("islink") and re.fullmatch(RAY_FOLDER, name):
            fs.rm(f"{path}/{name}", recursive=True)


def checked_gpus() -> Any:
    """Settings of Ray Train with which a worker sees its GPU before NCCL looks for it, and says where there is none."""
    import ray.train.torch

    class CheckedGpus(ray.train.torch.TorchConfig):
        @property
        def backend_cls(self) -> type:
            class CheckedBackend(super().backend_cls):  # type: ignore[misc]
                def on_start(self, workers: Any, settings: Any) -> None:
                    workers.execute(promised_device)
                    super().on_start(workers, settings)

            return CheckedBackend

    return CheckedGpus(backend="gloo" if gpus_are_cpus() else None)


def mistakes_end_the_run() -> Any:
    """A callback of Ray Train: a UsageError on a worker would come again each time, unlike the loss of a worker."""
    import ray.train

    class MistakesEndTheRun(ray.train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                cause = getattr(error, "_base_exc", error)
                if isinstance(cause, UsageError):
                    raise cause  # of the callback: Ray Train does not try again after it

    return MistakesEndTheRun()


def fit(trainer: Any) -> None:
    """Run Ray Train to its end; a worker's UsageError comes out as such, and Ctrl-C as KeyboardInterrupt."""
    import ray
    import ray.train

    # Ray Train takes Ctrl-C for itself here, and ends the process as if all were well.
    controllers: list[Any] = []
    trainer._register_sigint_handler = controllers.append
    try:
        trainer.fit()
    except KeyboardInterrupt:
        for controller in controllers:
            # Its workers end first: nobody may write once the lease is given back.
            with suppress(ray.exceptions.RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_LIMIT_S)
            ray.kill(controller)
        raise
    except ray.train.ControllerError as error:
        why = getattr(error.controller_failure, "cause", error.controller_failure)
        if isinstance(why, (UsageError, MissingGpuError)):
            raise type(why)(str(why)) from error
        raise


def start_post() -> Any:
    """Start the actor through which the workers tell the driver how far they are, on the driver's node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor_class: Any = ray.remote(num_cpus=0)(Post)
    return actor_class.options(scheduling_strategy=here).remote()


@contextmanager
def listening(post: Any) -> Iterator[None]:
    """Show what the workers say, and all of it before this ends: the summary, or an error, comes after it."""
    import ray

    is_over = threading.Event()

    def hear(limit_s: float) -> None:
        with suppress(ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):  # a run is more than its story
            story.hear(ray.get(post.after.remote(story.num_heard), timeout=limit_s))

    def listen() -> None:
        while not is_over.wait(HEAR_EVERY_S):
            hear(HEAR_LIMIT_S)

    with Story() as story:
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        limit_s = HEAR_LIMIT_S
        try:
            yield
            limit_s = HEAR_LAST_LIMIT_S
        finally:
            is_over.set()
            listener.join()
            hear(limit_s)


def train_on_worker(job: TrainJob, post: Any) -> None:
    """What each worker of Ray Train runs."""
    import ray
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    sent: list[Any] = []

    def send(message: Message) -> None:
        sent[:] = [post.put.remote(message)]

    speaker = Speaker(send, is_first=context.get_world_rank() == 0)
    logging.getLogger("vidpipe").handlers = [speaker]
    logging.getLogger().setLevel(logging.WARNING)  # Ray Train shows INFO of every library
    device = ray.train.torch.get_device()
    if device.type == "cuda" and promised_device() == "cpu":
        device = torch.device("cpu")  # in a test of ours
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    tell = speaker.tell if context.get_world_rank() == 0 else tell_nobody
    try:
        run_training(job, Ranks(context.get_world_rank(), context.get_world_size(), device, tell))
    finally:
        ray.wait(sent, timeout=HEAR_LAST_LIMIT_S)  # the last message; those before came before it
