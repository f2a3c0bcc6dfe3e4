"""One run on one rank: epochs, the best of them, the checkpoints. Called by every worker, and again after a loss."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from vidpipe import __version__
from vidpipe.checkpoints import CheckpointFacts, save_checkpoint
from vidpipe.file_errors import own_file
from vidpipe.metrics import evaluate, fit_temperature
from vidpipe.training.checks import HISTORY_FILE
from vidpipe.training.evaluation import cross_entropy, split_logits
from vidpipe.training.job import TrainJob
from vidpipe.training.optimization import plateau_epochs
from vidpipe.training.pace import Pace
from vidpipe.training.ranks import Ranks
from vidpipe.training.saved_state import load_state, newest_state
from vidpipe.training.story import Place
from vidpipe.training.tracking import Tracker, make_trackers
from vidpipe.training.trainer import Trainer
from vidpipe.transfer import file_names, join, put_bytes, read_buffer

logger = logging.getLogger(__name__)

TEST_SPLIT = "test"


def run_training(job: TrainJob, ranks: Ranks) -> None:
    """Train from the newest state, or from the beginning, to the end; the results are in the output."""
    config = job.config
    trainer = Trainer(job, ranks)
    name = ranks.from_first(newest_state(config.output) if ranks.is_first else None)
    if name is not None:
        trainer.load(load_state(config.output, name))
        if ranks.is_first:
            logger.info("going on from epoch %d, step %d", trainer.state.epoch + 1, trainer.state.step)
            if trainer.average is not None and not trainer.state.warms_up_average:
                logger.info("--ema-decay %g applies from the first step, as when this run began; new runs warm it up",
                            config.ema_decay)  # fmt: skip
    place = [job.clips.key, job.num_steps_an_epoch, trainer.state.epoch, trainer.state.step]
    ranks.agree(place, "the clips, the steps and where to begin")
    trackers = make_trackers(config) if ranks.is_first else []
    while not is_finished(trainer):
        if not run_epoch(trainer, trackers):
            trainer.save()  # --max-steps in mid-epoch
            break
    if trainer.state.history:
        finish(trainer)
    for tracker in trackers:
        tracker.close()


def is_finished(trainer: Trainer) -> bool:
    config, history = trainer.config, trainer.state.history
    patience = config.early_stop if config.early_stop is not None else math.inf
    num_steps = trainer.state.epoch * trainer.job.num_steps_an_epoch + trainer.state.step
    return (
        trainer.state.epoch >= config.epochs
        or trainer.is_over(num_steps)
        or bool(history and len(history) - 1 - best_epoch(history, config.best_by) >= patience)
    )


def best_epoch(history: list[dict[str, Any]], best_by: str) -> int:
    """Index of the first of the best epochs."""
    values = [entry["monitor"][best_by] for entry in history]
    return int(np.argmin(values) if best_by == "loss" else np.argmax(values))


def run_epoch(trainer: Trainer, trackers: list[Tracker]) -> bool:
    """Train and evaluate one epoch; False when the run ended in its middle."""
    config, ranks, state = trainer.config, trainer.ranks, trainer.state

    def report(step: int, figures: dict[str, float]) -> None:
        for tracker in trackers:
            tracker.add(step, {f"train/{name}": value for name, value in figures.items()})

    num_steps = trainer.job.num_steps_an_epoch
    pace = Pace(state.epoch, state.step, config, num_steps, ranks, report)
    trainer.train_epoch(pace)
    if state.step < num_steps:
        return False
    entry = {"epoch": state.epoch + 1, "train_loss": state.loss_sum / num_steps, **pace.finished()}
    entry["learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
    ranks.share_buffers(trainer.evaluated)
    found = evaluated(
        trainer, config.val_split, lambda share: pace.tell(f", {100 * share:.0f} % of {config.val_split} evaluated")
    )
    if ranks.is_first:
        entry |= found | {"monitor": {name: found[config.val_split][name] for name in ("loss", "top1")}}
    entry = ranks.from_first(entry)
    state.history.append(entry)
    end_epoch(trainer)
    if ranks.is_first:
        log_epoch(entry, config.val_split, config.epochs)
        report(state.epoch * num_steps, {"loss": entry["train_loss"], "learning_rate": entry["learning_rate"]})
        for tracker in trackers:
            figures = {f"val/{name}": entry[config.val_split][name] for name in ("loss", "top1", "top5")}
            tracker.add(state.epoch * num_steps, figures)
    return True


def end_epoch(trainer: Trainer) -> None:
    """Keep the weights if they are the best; write the checkpoints, and at last the state, when that is worth its time.

    A run killed before the state is written does the epochs since the last one again, and the checkpoints with them.
    """
    config, state = trainer.config, trainer.state
    losses = [entry["monitor"]["loss"] for entry in state.history]
    if best_epoch(state.history, config.best_by) == len(state.history) - 1:
        state.best = {name: value.detach().clone() for name, value in trainer.evaluated.state_dict().items()}
    last = {name: value.detach().clone() for name, value in trainer.evaluated.state_dict().items()}
    if config.plateau_best and state.epoch in plateau_epochs(losses, config.plateau_patience):
        trainer.model.load_state_dict(state.best)
    state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
    if trainer.ranks.is_first:
        write_history(trainer, {})
    if is_finished(trainer) or trainer.is_worth_saving:
        trainer.save(lambda: write_checkpoints(trainer, last))


def write_checkpoints(trainer: Trainer, last: dict[str, torch.Tensor]) -> None:
    """Write OUT/last, and OUT/best unless that epoch's is there."""
    config, state = trainer.config, trainer.state
    best = state.history[best_epoch(state.history, config.best_by)]
    write_checkpoint(trainer, "last", last, {config.val_split: state.history[-1][config.val_split]})
    if trainer.best_written != best["epoch"]:
        write_checkpoint(trainer, "best", state.best, {config.val_split: best[config.val_split]})
        trainer.best_written = best["epoch"]


def evaluated(
    trainer: Trainer, split: str, on_share: Callable[[float], None], temperature: float | None = None
) -> dict[str, Any]:
    """Metrics of a split, under its name; nothing on ranks other than the first. `on_share` hears how much is done.

    Without a `temperature`, the one is fitted that makes the scores of this split probabilities.
    """
    config, rows, source = trainer.config, trainer.job.clips.splits[split], trainer.source
    found = split_logits(
        source.part_of(trainer.evaluated), rows, source.readers[split], source.views, trainer.ranks,
        batch_size=config.micro_batch_size or config.batch_size, precision=trainer.precision,
        on_share=on_share,
    )  # fmt: skip
    if found is None:
        return {}
    join = config.views.join
    views = found.views(rows)
    temperature = fit_temperature(views, join) if temperature is None else temperature
    failed = rows.failed.tolist()
    metrics = evaluate(
        views, trainer.job.clips.labels, join, failed_truth=failed, temperature=temperature, groups=rows.groups
    )
    return {split: {**metrics, "loss": cross_entropy(views.logits, views.truth)}}


def finish(trainer: Trainer) -> None:
    """Evaluate the test split with the best weights, and write the best checkpoint with all that is known of it."""
    config, state = trainer.config, trainer.state
    best = state.history[best_epoch(state.history, config.best_by)]
    trainer.evaluated.load_state_dict(state.best)
    metrics = {config.val_split: best[config.val_split]}
    if TEST_SPLIT in trainer.job.clips.splits:
        num_clips = len(trainer.job.clips.splits[TEST_SPLIT])

        def tell(share: float) -> None:
            trainer.ranks.tell(
                Place(TEST_SPLIT, round(share * num_clips), num_clips, "clips", "evaluating the test split")
            )

        metrics |= evaluated(trainer, TEST_SPLIT, tell, best[config.val_split]["temperature"])
    if trainer.ranks.is_first:
        checkpoint_id = write_checkpoint(trainer, "best", state.best, metrics)
        write_history(trainer, {"best_epoch": best["epoch"], "metrics": metrics, "checkpoint_id": checkpoint_id})


def write_checkpoint(
    trainer: Trainer, name: str, weights: dict[str, torch.Tensor], metrics: dict[str, dict[str, Any]]
) -> str:
    """Write OUT/`name`; returns the checkpoint's id."""
    config, clips = trainer.config, trainer.job.clips
    facts = CheckpointFacts(
        model=config.model,
        labels=clips.labels,
        clip=clips.spec,
        views=config.views,
        size=trainer.transform.size,
        clip_span_s=clips.clip_span_s,
        temperature=metrics[config.val_split]["temperature"],
        metrics=metrics,
        training=config.settings,
        versions={name: version(name) for name in ("torch", "torchvision", "transformers")} | {"vidpipe": __version__},
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    model = trainer.model
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    checkpoint_id = save_checkpoint(join(config.output, name), model, facts)
    model.load_state_dict(before)
    return checkpoint_id


def write_history(trainer: Trainer, results: dict[str, Any]) -> None:
    """OUT/history.json: every epoch so far, and at the end the metrics of the best one."""
    content = {"labels": trainer.job.clips.labels, "epochs": trainer.state.history, **results}
    put_bytes(json.dumps(content, indent=1).encode(), join(trainer.config.output, HISTORY_FILE))


def read_history(output: str) -> dict[str, Any]:
    """What `write_history` wrote; without epochs when no epoch was finished."""
    if HISTORY_FILE not in file_names(output):
        return {"epochs": []}
    text = read_buffer(join(output, HISTORY_FILE)).to_pybytes()
    with own_file(join(output, HISTORY_FILE), "train again with --restart"):
        history: dict[str, Any] = json.loads(text)
    return history


def log_epoch(entry: dict[str, Any], val_split: str, num_epochs: int) -> None:
    val = entry[val_split]
    logger.info(
        f"epoch {entry['epoch']}/{num_epochs}: loss {entry['train_loss']:.4f}, {val_split} loss {val['loss']:.4f}, "
        f"top-1 {100 * val['top1']:.1f} %, top-5 {100 * val['top5']:.1f} % ({val['protocol']['text']}), "
        f"{entry['clips_per_s']:.1f} clips/s, {100 * entry['data_wait_share']:.0f} % waiting for data"
    )
