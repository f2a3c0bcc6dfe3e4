"""Videos to clips on Ray Data: manifest → tasks that decode and write parts → receipts that the driver commits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.cli import connect_ray
from vidpipe.config import PreprocessConfig
from vidpipe.contact_sheet import write_contact_sheet
from vidpipe.decode import check_decoder
from vidpipe.errors import FailureRateError
from vidpipe.interrupts import ignore_interrupts
from vidpipe.lease import hold
from vidpipe.ledger import FOLDERS, LABEL_COLUMNS, Ledger, WorkLeft, settings_of, status_schema
from vidpipe.make_parts import PartSettings, receipts_of_parts, rewrite_part
from vidpipe.manifest.load import load_manifest
from vidpipe.manifest.reach import check_outside
from vidpipe.own_files import check_others
from vidpipe.parcels import carry_parcels, packed_each, unpacked
from vidpipe.plain_text import say
from vidpipe.receipt_desk import ReceiptDesk
from vidpipe.run_file import RUN_FILE, Tally, check_run_file, write_run_file
from vidpipe.spec import ClipSpec
from vidpipe.storage import storage_errors
from vidpipe.task_cutting import MAX_ROUNDS, cut_tasks
from vidpipe.transfer import check_writable, file_names, join, remove_files

logger = logging.getLogger(__name__)


Task = Callable[..., Iterator[pa.Table]]


def make_parts_task(videos: pa.Table, settings: PartSettings) -> Iterator[pa.Table]:
    """Manifest rows in, status rows out; what a Ray worker runs."""
    for receipts in receipts_of_parts(videos.to_pylist(), settings):
        yield pa.Table.from_pylist(receipts, status_schema(settings.spec))


def preprocess(config: PreprocessConfig, task: Task = make_parts_task) -> None:
    """Run the stage; raises UsageError before any work, and FailureRateError after all of it."""
    start_s = time.monotonic()
    check_decoder(config.clip.decoder)
    manifest = load_manifest(config.source, config.layout, config.allow_url_prefix)
    with storage_errors(config.output):
        check_outside(manifest["url"], config.output, FOLDERS)
        check_writable(config.output)
        check_run_file(config.output)
        config = as_the_output(config)
        ledger = Ledger(config.output, config.clip)
        check_others(config.output, ledger.others())
    if config.dry_run:
        print_plan(config, manifest, ledger.work_left(manifest, retry_failed=config.retry_failed))
        return
    with hold(config.output, "preprocess") as lease:
        tally = make_clips(config, manifest, Ledger(config.output, config.clip, lease.check), task, start_s)
    if tally.num_failed > config.max_failure_rate * tally.num_done:
        raise FailureRateError(
            f"{tally.num_failed} of {tally.num_done} videos failed, --max-failure-rate is {config.max_failure_rate:g}; "
            f"all results are written, the reasons are in {join(config.output, 'status')}"
        )


def as_the_output(config: PreprocessConfig) -> PreprocessConfig:
    """The settings with the rules that the output's clips were made by, where nobody asked for others."""
    clip = settings_of(config.output, config.clip)
    kept = "; ".join(clip.differences(config.clip))
    if kept:
        logger.warning("%s keeps the rule it was made by (%s); another --output takes today's", config.output, kept)
    return replace(config, clip=clip)


def make_clips(config: PreprocessConfig, manifest: pa.Table, ledger: Ledger, task: Task, start_s: float) -> Tally:
    """Decode what is left to do, and bring the output in order; what was done to how many videos."""
    left = ledger.work_left(manifest, retry_failed=config.retry_failed)
    remove_files(config.output, [RUN_FILE])
    num_adopted = ledger.adopt(left.todo)
    if num_adopted:
        logger.info("%d videos were decoded by an earlier run that could not record them; they count", num_adopted)
        left = ledger.work_left(manifest, retry_failed=config.retry_failed)
    ledger.sweep()
    todo = left.todo.slice(0, config.limit)
    tally = Tally()
    if len(todo):
        decode_all(config, ledger, todo, tally, task)
    refresh_parts(config, ledger, left.relabelled)
    ledger.sweep()
    ledger.compact()
    counts = check_counts(ledger, manifest, left, tally, num_remaining=len(left.todo) - len(todo))
    seconds = time.monotonic() - start_s
    if config.contact_sheet:
        write_contact_sheet(config.output, ledger)
    facts = {"counts": counts, "ok_with_damage": tally.num_with_damage, **tally.facts(seconds)}
    versions = ["ray", "pyarrow", "av", "numpy"]
    write_run_file(config.output, "preprocess", config, facts, seconds=seconds, versions=versions)
    ignore_interrupts()
    print_summary(config, ledger, counts, left, tally, seconds)
    return tally


def decode_all(config: PreprocessConfig, ledger: Ledger, todo: pa.Table, tally: Tally, task: Task) -> None:
    """Decode the videos of `todo`; what is done is committed every few seconds, and whatever ends this."""
    settings = part_settings(config)
    connect_ray()
    max_videos = max_task_videos(config.clip, settings.part_bytes)
    with ReceiptDesk(ledger, todo, tally) as desk:
        num_rounds = 0
        while len(left := desk.left()):
            if num_rounds == MAX_ROUNDS:
                raise RuntimeError(f"{len(left)} videos have no receipt after {MAX_ROUNDS} rounds of decoding")
            # A second round is for videos whose receipts were lost with a worker: Ray ran its task again, which handed
            # them out by other parts than the first time.
            tasks = cut_tasks(left, config.num_workers or num_cluster_cpus(), max_videos)
            logger.info("%d videos to decode in %d tasks", len(left), len(tasks))
            for receipts in run_tasks(partial(task, settings=settings), tasks, config):
                desk.add(receipts)
            num_rounds += 1


def refresh_parts(config: PreprocessConfig, ledger: Ledger, relabelled: pa.Table) -> None:
    """Rewrite parts whose rows are out of date, without decoding: clips of videos that changed, and other labels."""
    stale = ledger.stale_parts()
    if not stale and not len(relabelled):
        return
    status = with_labels(ledger.read(), relabelled)
    is_relabelled = pc.is_in(status["video_id"], value_set=relabelled["video_id"].combine_chunks())
    names = pc.unique(pc.drop_null(status.filter(is_relabelled)["part"])).to_pylist()
    parts = sorted({*stale, *names})
    logger.info("%d parts are rewritten: %d videos have other labels", len(parts), len(relabelled))
    failed = status.filter(pc.and_(is_relabelled, pc.equal(status["status"], "failed")))
    if len(failed):
        ledger.commit(failed)
    if parts:
        connect_ray()
        tasks = [status.filter(pc.equal(status["part"], name)).combine_chunks() for name in parts]
        task = partial(rewrite_part_task, settings=part_settings(config))
        for receipts in run_tasks(task, tasks, config):
            ledger.commit(receipts)


def with_labels(status: pa.Table, manifest: pa.Table) -> pa.Table:
    """Status rows with the labels that the given manifest rows have now."""
    position = pc.index_in(status["video_id"], value_set=manifest["video_id"].combine_chunks())
    known = pc.is_valid(position)
    for column in LABEL_COLUMNS:
        values = pc.if_else(known, manifest[column].take(position), status[column])
        status = status.set_column(status.schema.get_field_index(column), column, values)
    return status


def run_tasks(task: Task, tasks: list[pa.Table], config: PreprocessConfig) -> Iterator[pa.Table]:
    """Yields what one Ray task per table does, in any order; Ray runs a task of a lost worker or node again."""
    import ray.data

    tables = ray.data.from_arrow(tasks)
    carry_parcels(tables, config.video_timeout_s)
    parcels = tables.map_batches(
        partial(packed_each, task=task),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(config.num_workers),
    )
    # A parcel that is fetched ahead would lie here unread until the next one comes.
    for parcel in parcels.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield unpacked(parcel)


def rewrite_part_task(statuses: pa.Table, settings: PartSettings) -> Iterator[pa.Table]:
    receipts = rewrite_part(statuses["part"][0].as_py(), statuses.to_pylist(), settings)
    yield pa.Table.from_pylist(receipts, status_schema(settings.spec))


def part_settings(config: PreprocessConfig) -> PartSettings:
    return PartSettings(
        output=config.output,
        spec=config.clip,
        part_bytes=config.part_mb << 20,
        time_limit_s=config.video_timeout_s,
        memory_limit_bytes=config.video_memory_mb << 20,
    )


def num_cluster_cpus() -> int:
    import ray

    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def max_task_videos(spec: ClipSpec, part_bytes: int) -> int:
    """As many as a part holds: parts hold about half of their raw bytes."""
    return max(2 * part_bytes // (spec.num_bytes_raw * (spec.num_clips or 1)), 1)


def check_counts(
    ledger: Ledger, manifest: pa.Table, left: WorkLeft, tally: Tally, num_remaining: int
) -> dict[str, int]:
    """The counts of the run; raises RuntimeError when videos, status rows and parts do not add up."""
    counts = {
        "videos": len(manifest),
        "ok": tally.num_ok,
        "failed": tally.num_failed,
        "unchanged": left.num_unchanged,
        "remaining": num_remaining,
    }
    status = ledger.read(["video_id", "version", "status", "part"])
    position = pc.index_in(manifest["video_id"], value_set=status["video_id"].combine_chunks())
    same_version = pc.fill_null(pc.equal(status["version"].take(position), manifest["version"]), False)
    num_recorded = pc.sum(same_version).as_py() or 0
    missing = set(ledger.parts()) - set(file_names(join(ledger.output, "clips")))
    num_accounted = counts["ok"] + counts["failed"] + counts["unchanged"] + counts["remaining"]
    if missing or num_accounted != counts["videos"] or num_recorded != counts["videos"] - num_remaining:
        raise RuntimeError(
            f"the accounts do not add up: {counts}, {num_recorded} videos with a status row, "
            f"{len(missing)} parts missing (first: {min(missing, default='none')})"
        )
    return counts


def print_plan(config: PreprocessConfig, manifest: pa.Table, left: WorkLeft) -> None:
    """What a run would do, for --dry-run."""
    todo = left.todo.slice(0, config.limit)
    num_bytes = pc.sum(todo["size_bytes"]).as_py() or 0
    clip_bytes = config.clip.num_bytes_raw * (config.clip.num_clips or 1)
    num_parts = math.ceil(len(todo) * clip_bytes / 2 / (config.part_mb << 20))
    at_least = "" if config.clip.sampling in ("uniform", "dense") else "at least "
    say(f"videos     {len(manifest)}: {len(todo)} to decode ({left.num_new} new, {left.num_changed} changed, "
        f"{left.num_retried} retried), {left.num_unchanged} unchanged")  # fmt: skip
    say(f"to read    {num_bytes / 1e6:.1f} MB of video")
    say(f"to write   {at_least}{len(todo) * (config.clip.num_clips or 1)} clips of {config.clip.shape}, "
        f"about {num_parts} parts of {config.part_mb} MB, at {config.output}")  # fmt: skip
    say("dry run    nothing was done")


def print_summary(
    config: PreprocessConfig, ledger: Ledger, counts: dict[str, int], left: WorkLeft, tally: Tally, seconds: float
) -> None:
    """The five lines that end a run."""
    remaining = f" + {counts['remaining']} remaining" if counts["remaining"] else ""
    gone = f"; {left.num_gone} of earlier runs are no longer listed" if left.num_gone else ""
    failures = ", ".join(f"{code} {number}" for code, number in tally.failed_by_code.most_common()) or "none"
    if left.num_unchanged_failed:
        failures += f"; {left.num_unchanged_failed} of earlier runs (--retry-failed decodes them again)"
    if tally.num_with_damage:
        failures += f"; {tally.num_with_damage} ok with damaged packets (num_damaged)"
    cpu_s = tally.decode_s / max(tally.num_ok, 1)
    say(f"videos     {counts['videos']} = {counts['ok']} ok + {counts['failed']} failed + "
        f"{counts['unchanged']} unchanged{remaining}{gone}")  # fmt: skip
    say(f"failures   {failures}")
    say(f"clips      {tally.num_clips} new of shape {config.clip.shape}; {len(ledger.parts())} parts in all")
    say(f"time       {seconds:.1f} s, {tally.num_done / seconds:.1f} videos/s, {cpu_s:.3f} CPU s of decoding each, "
        f"{tally.num_bytes_read / 1e6:.1f} MB read")  # fmt: skip
    say(f"output     {config.output}: clips/, status/ (a row a video, with the reason of each failure), run.json")
