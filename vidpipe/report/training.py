"""What a checkpoint's folder tells of its training: its facts, its curves, and which videos it has seen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from vidpipe.answers import JoinedVideos
from vidpipe.checkpoint_facts import CheckpointFacts, checkpoint_id, facts_from_json
from vidpipe.errors import DamagedFileError, UsageError
from vidpipe.file_errors import own_file
from vidpipe.ledger import open_ledger
from vidpipe.manifest.reach import Reach
from vidpipe.storage import storage_errors
from vidpipe.transfer import file_names, join, read_buffer


@dataclass(frozen=True)
class Training:
    """Empty where the checkpoint is not at hand; `notes` say what is missing and why."""

    facts: CheckpointFacts | None
    epochs: list[dict[str, Any]]
    """`epoch`, `train_loss`, `val_loss`, `val_top1`, `val_top5` of each."""
    best_epoch: int | None
    notes: list[str]
    reach: Reach
    """What the predictions may lead to."""

    @property
    def clips(self) -> str | None:
        """The preprocess output that it was trained on."""
        clips = None if self.facts is None else self.facts.training.get("clips")
        return clips if clips is not None and self.reach.allows(clips) else None


def read_training(url: str, wanted_id: str, reach: Reach, *, is_asked: bool) -> Training:
    """The training behind the checkpoint at `url`, a checkpoint's folder or the output of jobs/train.py.

    When the user asked for this very checkpoint, `is_asked`, it is a UsageError that it is not there or is another one;
    else a note, and what the predictions name is read within their `reach` only.
    """
    try:
        if not is_asked and not reach.allows(url):
            raise UsageError(f"the predictions name {url}, {reach.rule}, or give it as --checkpoint")
        return _read(url, wanted_id, reach)
    except (UsageError, DamagedFileError) as error:
        if is_asked:
            raise
        return Training(None, [], None, [f"No training curves: {error}"], reach)


def _read(url: str, wanted_id: str, reach: Reach) -> Training:
    with storage_errors(url):
        folder = next((each for each in (url, join(url, "best")) if "checkpoint.json" in file_names(each)), None)
        if folder is None:
            raise UsageError(f"{url} holds no checkpoint.json; give the output of jobs/train.py as --checkpoint")
        text = read_buffer(join(folder, "checkpoint.json")).to_pybytes()
        facts, _, sha256 = facts_from_json(text, join(folder, "checkpoint.json"))
        found_id = checkpoint_id(facts, sha256)
        if found_id != wanted_id:
            raise UsageError(
                f"{folder} holds checkpoint {found_id}, and the predictions are by {wanted_id}; give the one that made "
                "them as --checkpoint, or predict again"
            )
        above = folder.rstrip("/").rpartition("/")[0]
        clips = facts.training.get("clips")
        notes = (
            []
            if clips is None or reach.allows(clips)
            else [f"The training's clips were not read: {clips}, {reach.rule}."]
        )
        beside = next((each for each in (url, above) if each and "history.json" in file_names(each)), None)
        if beside is None:
            notes.append(f"No training curves: there is no history.json beside {folder}.")
            return Training(facts, [], None, notes, reach)
        with own_file(join(beside, "history.json"), "remove it, and the page goes without curves"):
            history = json.loads(read_buffer(join(beside, "history.json")).to_pybytes())
    split = facts.training.get("val_split", "val")
    epochs = [_epoch(entry, split) for entry in history["epochs"]]
    return Training(facts, epochs, history.get("best_epoch"), notes, reach)


def _epoch(entry: dict[str, Any], split: str) -> dict[str, Any]:
    measured = entry.get(split, {})
    figures = {"train_loss": entry["train_loss"]} | {
        f"val_{name}": measured.get(name) for name in ("loss", "top1", "top5")
    }
    # A loss that diverged is a gap in the curve; JSON has no NaN.
    finite = {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}
    return {"epoch": entry["epoch"], **finite}


def leakage(videos: JoinedVideos, training: Training) -> list[str]:
    """Sentences on videos that the checkpoint was trained on, or whose group it was; empty when there are none.

    The clips of the training say which these are; where they are gone, the manifest's own split does.
    """
    table = videos.table
    split = "train" if training.facts is None else training.facts.training.get("train_split", "train")
    seen_ids, seen_groups, source = table.filter(pc.equal(table["split"], split))["video_id"], None, "the manifest"
    damage: list[str] = []
    if training.clips is not None:
        try:
            with storage_errors(training.clips):
                status = open_ledger(training.clips).read(["video_id", "split", "group"])
        except UsageError:  # removed, or out of reach
            pass
        except DamagedFileError as error:
            damage.append(f"Which videos it was trained on is taken from {source}: {error}.")
        else:
            seen = status.filter(pc.equal(status["split"], split))
            seen_ids, seen_groups, source = seen["video_id"], seen["group"].drop_null(), training.clips
    trained = pc.is_in(table["video_id"], value_set=seen_ids.combine_chunks())
    found = damage
    if num := pc.sum(trained).as_py():
        found.append(
            f"Trained on: {num:,} of these {len(table):,} videos (split {split} of {source}). The numbers flatter."
        )
    if seen_groups is not None:
        kin = pc.and_(pc.is_in(table["group"], value_set=seen_groups.combine_chunks()), pc.is_valid(table["group"]))
        if num := pc.sum(pc.and_not(kin, trained)).as_py():
            found.append(
                f"Of a group that was trained on: {num:,} of these {len(table):,} videos. The numbers flatter."
            )
    return found
