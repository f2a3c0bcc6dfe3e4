"""Videos and a checkpoint to labels on Ray Data: manifest → tasks that decode → model actors → rows that the driver
joins and commits. One video without an output is labelled here and now, without Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import torch

from vidpipe.checkpoints import load_checkpoint
from vidpipe.cli import connect_ray, take_no_error_for_one
from vidpipe.clip_blocks import BlockSettings, decoded_blocks, stored_blocks
from vidpipe.clip_model import BlockModel
from vidpipe.config import PredictConfig
from vidpipe.errors import DecodeError, FailureRateError, UsageError
from vidpipe.guard import Guard
from vidpipe.interrupts import ignore_interrupts
from vidpipe.label_video import label_video
from vidpipe.lease import hold
from vidpipe.manifest.reach import check_outside
from vidpipe.own_files import check_others
from vidpipe.parcels import ParcelModel, carry_parcels, packed_each, unpacked
from vidpipe.plain_text import say
from vidpipe.pools import Pools, fit_pools
from vidpipe.predictions.desk import Desk
from vidpipe.predictions.estimate import estimate_run
from vidpipe.predictions.exports import EXPORTS
from vidpipe.predictions.log import FOLDERS, PredictionLog, WorkLeft
from vidpipe.predictions.question import Question, ask, make_question
from vidpipe.predictions.sources import Source, find_source, is_one_video
from vidpipe.predictions.summary import answer_lines, plan_lines, summary_lines
from vidpipe.predictions.tally import PredictTally
from vidpipe.run_file import RUN_FILE, check_run_file, write_run_file
from vidpipe.storage import absolute_url, storage_errors
from vidpipe.task_cutting import MAX_ROUNDS, cut_tasks
from vidpipe.transfer import check_writable, join, remove_files

logger = logging.getLogger(__name__)

MAX_BLOCK_BYTES = 64 << 20
CPU_BATCH, GPU_BATCH = 8, 32


@dataclass(frozen=True)
class Work:
    """What runs on the workers; the benchmark of the machinery around it puts something here that does nothing."""

    decode: Callable[..., Iterator[pa.Table]] = decoded_blocks
    model: type = BlockModel


def predict(config: PredictConfig, work: Work = Work()) -> None:
    """Run the stage; raises UsageError before any work, and FailureRateError after all of it."""
    if config.output is not None:
        label_videos(config, config.output, work)
    elif is_one_video(config.source):
        label_one(config)
    else:
        raise UsageError(f"{config.source} is not one video; say where its predictions go: add --output OUT")


def label_one(config: PredictConfig) -> None:
    """Label the one video that the source is, and print its labels."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda needs a GPU, and this machine has none; drop it, or give --device cpu")
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    checkpoint = load_checkpoint(config.checkpoint, "cuda" if on_gpu else "cpu")
    question = make_question(config, checkpoint.facts, checkpoint.checkpoint_id, checkpoint.url)
    for note in question.notes:
        logger.warning(note)
    memory_bytes = config.video_memory_mb << 20
    with Guard(checkpoint.facts.clip, time_limit_s=config.video_timeout_s, memory_limit_bytes=memory_bytes) as guard:
        try:
            answer = label_video(config.source, checkpoint, guard, config.precision)
        except DecodeError as error:
            raise FailureRateError(f"{config.source} has no labels: {error.code}: {error}") from error
    ignore_interrupts()
    say(*answer_lines(config, answer, question))


def label_videos(config: PredictConfig, output: str, work: Work) -> None:
    """Label what is new, changed or not yet asked, and write it all to the output."""
    start_s = time.monotonic()
    checkpoint = load_checkpoint(config.checkpoint)
    question = ask(config, output, checkpoint.facts, checkpoint.checkpoint_id, absolute_url(checkpoint.url))
    for note in question.notes:
        logger.warning(note)
    config = replace(config, **question.windows)
    source = find_source(config.source, question.facts.clip_spec, config.allow_url_prefix)
    with storage_errors(output):
        if source.stored is None:
            check_outside(source.manifest["url"], output, FOLDERS)
        check_writable(output)
        check_run_file(output)
        log = PredictionLog(output, question)
        check_others(output, log.others())
    if config.dry_run:
        left, todo = work_left(config, source, log)
        settings = block_settings(config, question, CPU_BATCH)
        estimate = estimate_run(todo, source.stored, output, checkpoint, settings) if len(todo) else None
        say(*plan_lines(config, len(source.manifest), left, len(todo), estimate))
        return
    del checkpoint  # the actors have their own
    with hold(output, "predict") as lease:
        tally = label_what_is_left(config, source, PredictionLog(output, question, lease.check), work, start_s)
    if tally.num_failed > config.max_failure_rate * tally.num_done:
        raise FailureRateError(
            f"{tally.num_failed} of {tally.num_done} videos failed, --max-failure-rate is {config.max_failure_rate:g}; "
            f"all results are written, the reasons are in {join(output, 'predictions')}"
        )


def work_left(config: PredictConfig, source: Source, log: PredictionLog) -> tuple[WorkLeft, pa.Table]:
    """What the log lacks, and the videos of it that this run is to label."""
    left = log.work_left(
        source.manifest,
        prefix=source.prefix,
        suffixes=source.suffixes,
        retry_failed=config.retry_failed,
        relabel=config.relabel,
    )
    return left, left.todo.slice(0, config.limit)


def label_what_is_left(
    config: PredictConfig, source: Source, log: PredictionLog, work: Work, start_s: float
) -> PredictTally:
    """Label what is left to do, and bring the output in order; what was done to how many videos."""
    left, todo = work_left(config, source, log)
    remove_files(log.output, [RUN_FILE])
    log.sweep()
    log.mark(left.gone, is_deleted=True)
    log.mark(left.returned, is_deleted=False)
    tally = PredictTally()
    desk = Desk(log, todo, tally)
    num_actors = run_models(config, source, desk, work) if len(todo) else 0
    log.tidy()
    counts = {"videos": len(source.manifest), "ok": tally.num_ok, "failed": tally.num_failed}
    counts |= {"unchanged": left.num_unchanged, "remaining": len(left.todo) - len(todo)}
    log.check_counts(source.manifest, counts)
    for name in [name for name in EXPORTS if getattr(config, name)]:
        EXPORTS[name](log.output, log.read())
    finish(config, log, left, counts, tally, num_actors, time.monotonic() - start_s)
    return tally


def finish(
    config: PredictConfig,
    log: PredictionLog,
    left: WorkLeft,
    counts: dict[str, int],
    tally: PredictTally,
    num_actors: int,
    seconds: float,
) -> None:
    """Write run.json and print the summary."""
    facts = {
        "counts": counts,
        "ok_with_damage": tally.num_with_damage,
        "deleted": log.num_deleted(),
        "newly_deleted": len(left.gone),
    }
    facts |= {"checkpoint_id": log.question.facts.checkpoint_id, "settings_key": log.question.facts.settings_key}
    facts |= {"num_actors": num_actors, **tally.facts(seconds), **tally.model_facts(seconds, num_actors)}
    versions = ["ray", "torch", "pyarrow", "av", "numpy"]
    write_run_file(log.output, "predict", config, facts, seconds=seconds, versions=versions)
    ignore_interrupts()
    say(*summary_lines(config, facts, left, seconds))


def run_models(config: PredictConfig, source: Source, desk: Desk, work: Work) -> int:
    """Answer for all videos of the desk; returns how many models were at work."""
    connect_ray()
    take_no_error_for_one()
    pools = cluster_pools(config)
    with desk:
        if source.stored is not None:
            failed = source.stored.filter(pc.equal(source.stored["status"], "failed"))
            desk.add_failed(
                failed.filter(pc.is_in(failed["video_id"], value_set=desk.todo["video_id"].combine_chunks()))
            )
        num_rounds = 0
        while len(left := desk.begin_round()):
            if num_rounds == MAX_ROUNDS:
                raise RuntimeError(f"{len(left)} videos never came back whole in {MAX_ROUNDS} rounds of decoding")
            # A second round is for videos of which a lost worker took some clips with it, and only some.
            for rows in stream(config, source, left, desk.question, pools, work):
                desk.add_rows(rows)
            num_rounds += 1
    return pools.num_actors


def stream(
    config: PredictConfig, source: Source, videos: pa.Table, question: Question, pools: Pools, work: Work
) -> Iterator[pa.Table]:
    """Blocks of logits, in any order; Ray runs tasks of lost workers and nodes again."""
    import ray.data

    batch_size = config.batch_size or (GPU_BATCH if pools.actor_gpus else CPU_BATCH)
    settings = block_settings(config, question, batch_size)
    tasks, decode = decode_tasks(source, videos, pools, partial(work.decode, settings=settings), settings)
    logger.info(
        "%d videos to label in %d tasks: %d decoded at a time, %d models",
        *(len(videos), len(tasks), pools.num_workers, pools.num_actors),
    )
    videos_in_tasks = ray.data.from_arrow(tasks)
    carry_parcels(videos_in_tasks, config.video_timeout_s)
    how = {
        "checkpoint_url": question.facts.checkpoint_url,
        "checkpoint_id": question.facts.checkpoint_id,
        "clip": settings.spec,
        "device": "cuda" if pools.actor_gpus else "cpu",
        "num_threads": pools.num_threads,
        "precision": config.precision,
        "compiled": config.compile,
        "batch_size": settings.clips_a_block,
        "with_features": question.with_features,
    }
    num_calls = 2 if pools.actor_gpus else 1  # the next block is copied to the GPU while it computes this one
    blocks = videos_in_tasks.map_batches(
        partial(packed_each, task=decode),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=pools.worker_cpus,
        compute=ray.data.TaskPoolStrategy(min(pools.num_workers, len(tasks))),
    )
    answers = blocks.map_batches(
        ParcelModel,
        fn_constructor_kwargs={"model": work.model, **how},
        batch_size=1,  # parcel: Ray Data wants a number where there are GPUs
        batch_format="pyarrow",
        num_cpus=pools.actor_cpus,
        num_gpus=pools.actor_gpus,
        compute=ray.data.ActorPoolStrategy(
            size=pools.num_actors,
            max_concurrent_calls_per_actor=num_calls,
            max_tasks_in_flight_per_actor=2 * num_calls + 2,
            enable_true_multi_threading=num_calls > 1,
        ),
    )
    for parcel in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield unpacked(parcel)


def decode_tasks(
    source: Source, videos: pa.Table, pools: Pools, decode: Callable[..., Iterator[pa.Table]], settings: BlockSettings
) -> tuple[list[pa.Table], Callable[..., Iterator[pa.Table]]]:
    """The tables that tasks get, and what they do with them."""
    if source.stored is None:
        return cut_tasks(videos, pools.num_workers), decode
    stored = source.stored.filter(pc.is_in(source.stored["video_id"], value_set=videos["video_id"].combine_chunks()))
    parts = sorted(set(stored["part"].to_pylist()))
    tasks = [stored.filter(pc.equal(stored["part"], name)).combine_chunks() for name in parts]
    return tasks, partial(stored_blocks, settings=settings, clips=absolute_url(str(source.clips)))


def block_settings(config: PredictConfig, question: Question, batch_size: int) -> BlockSettings:
    spec = question.facts.clip_spec
    return BlockSettings(
        spec=spec,
        clips_a_block=max(min(batch_size, MAX_BLOCK_BYTES // spec.num_bytes_raw), 1),
        time_limit_s=config.video_timeout_s,
        memory_limit_bytes=config.video_memory_mb << 20,
    )


def cluster_pools(config: PredictConfig) -> Pools:
    """How the models and the decoders share this cluster."""
    import ray

    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0))
    if config.device == "cuda" and not num_gpus:
        raise UsageError("device cuda needs a GPU, and this Ray cluster has none; drop it, or give --device cpu")
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    on_gpu = config.device != "cpu" and num_gpus > 0
    num_cpus = max(int(resources.get("CPU", 1)), 1)
    numbers = {"num_actors": config.num_actors, "num_workers": config.num_workers}
    return fit_pools(num_cpus, num_gpus, max([*nodes, 1]), **numbers, on_gpu=on_gpu)
