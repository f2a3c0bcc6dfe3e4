"""What can be known to fail before any work: each with the value, the rule and the way out."""

from __future__ import annotations

import json
import re
from typing import Any

from vidpipe.checkpoints import FACTS_FILE, FILES
from vidpipe.config import TrainConfig
from vidpipe.errors import UsageError
from vidpipe.file_errors import own_file
from vidpipe.lease import FOLDER as LEASE_FOLDER
from vidpipe.lease import NAME as CLAIM_NAME
from vidpipe.models import VideoModel
from vidpipe.own_files import check_others, others_in
from vidpipe.run_file import RUN_FILE, check_replaceable, check_run_file
from vidpipe.training.clip_rows import LabelledClips
from vidpipe.training.saved_state import FOLDER as STATE_FOLDER
from vidpipe.training.saved_state import NAME as STATE_NAME
from vidpipe.training.saved_state import own_states, state_names
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, read_head, remove_files
from vidpipe.transforms import ClipTransform

SETTINGS_FILE = "settings.json"
HISTORY_FILE = "history.json"
TENSORBOARD_FOLDER = "tensorboard"
CURVES_NAME = r"events\.out\.tfevents\..*"
CURVES_MARK = "written by vidpipe"
"""A message in each file of curves."""
CURVES_HEAD_BYTES = 1024
CHECKPOINTS = ("best", "last")


def check_fit(config: TrainConfig, clips: LabelledClips, model: VideoModel) -> None:
    """Raise UsageError when the clips, the settings and the model do not fit each other."""
    num_frames, *_ = clips.spec.shape
    height, width = input_size(config, model)
    model.input.check(num_frames, height, width)
    ClipTransform(model.input, input_size(config, model), config.views, config.augment).check(clips.spec.shape)
    if config.augment.mixes:
        for name, size in (("batch_size", config.batch_size), ("micro_batch_size", config.micro_batch_size or 2)):
            if size % 2:
                raise UsageError(f"{name} must be even with mixup or cutmix, which mix clips in pairs, got {size}")
    num_train = len(clips.splits[config.train_split])
    if num_train < config.batch_size:
        raise UsageError(
            f"batch_size {config.batch_size} is more than the {num_train} clips of split {config.train_split}; "
            f"give --batch-size {num_train} or less"
        )


def input_size(config: TrainConfig, model: VideoModel) -> tuple[int, int]:
    """Height and width that the model is given: --size, else what it was made for."""
    if config.size is None:
        return model.input.height, model.input.width
    sides = [int(side) for side in config.size.split("x")]
    return sides[0], sides[-1]


def check_output(output: str) -> None:
    """Raise UsageError for a file of somebody else's that the run would replace, and name all others in a warning."""
    check_run_file(output)
    check_replaceable(output, {SETTINGS_FILE: ("clips_key",), HISTORY_FILE: ("epochs", "labels")})
    replaced = [join(STATE_FOLDER, name) for name in sorted({*state_names(output)} - {*own_states(output)})]
    if SETTINGS_FILE not in file_names(output):  # no run has begun to write its checkpoints
        for name in CHECKPOINTS:
            check_replaceable(join(output, name), {FACTS_FILE: ("checkpoint_id", "format", "sha256")})
            found = {*file_names(join(output, name))}
            replaced += [join(name, one) for one in FILES if one in found and FACTS_FILE not in found]
    if replaced:
        raise UsageError(
            f"{join(output, replaced[0])} was not written by vidpipe, and training into {output} would replace or mix "
            "with it; move it elsewhere, or give another --output"
        )
    names = {STATE_FOLDER: STATE_NAME, TENSORBOARD_FOLDER: CURVES_NAME, LEASE_FOLDER: CLAIM_NAME}
    check_others(output, {folder: others_in(join(output, folder), name) for folder, name in names.items()})


def own_curves(output: str) -> list[str]:
    """Files of TensorBoard's that vidpipe wrote; those of 2026-11 and before do not say so, and stay."""
    folder = join(output, TENSORBOARD_FOLDER)
    names = [name for name in file_names(folder) if re.fullmatch(CURVES_NAME, name)]
    return [name for name in names if CURVES_MARK.encode() in read_head(join(folder, name), CURVES_HEAD_BYTES)]


def settings_before(config: TrainConfig) -> dict[str, Any] | None:
    """The settings of the run that the output holds and that this one goes on with."""
    if config.restart or SETTINGS_FILE not in file_names(config.output):
        return None
    text = read_buffer(join(config.output, SETTINGS_FILE)).to_pybytes()
    with own_file(join(config.output, SETTINGS_FILE), "train again with --restart"):
        before: dict[str, Any] = json.loads(text)
    return before


def check_same_run(config: TrainConfig, clips: LabelledClips) -> None:
    """Raise UsageError when the output holds a run with other settings."""
    settings, before = run_settings(config, clips), settings_before(config)
    if before is None:
        return
    other = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if other:
        changes = ", ".join(f"{name} {before.get(name)} then, {settings.get(name)} now" for name in other[:3])
        raise UsageError(
            f"{config.output} holds a run with other settings ({changes}); give the same ones to go on with it, "
            "another --output, or --restart to replace it"
        )


def run_settings(config: TrainConfig, clips: LabelledClips) -> dict[str, object]:
    """All that decides the result, flat, with the clips themselves."""
    flat: dict[str, object] = {"clips_key": clips.key}
    for name, value in config.settings.items():
        flat |= {f"{name}.{part}": one for part, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def is_finished_run(output: str) -> bool:
    return {RUN_FILE, SETTINGS_FILE} <= {*file_names(output)}


def begin_run(config: TrainConfig, clips: LabelledClips) -> None:
    """Record the settings of a new run; with `restart` remove the one before, but for checkpoints and features.

    The checkpoints stay until others replace them; the features' names say what they were made of.
    """
    output = config.output
    remove_files(output, [RUN_FILE])
    if config.restart:
        remove_files(join(output, STATE_FOLDER), own_states(output))
        remove_files(join(output, TENSORBOARD_FOLDER), own_curves(output))
        remove_files(output, [HISTORY_FILE, SETTINGS_FILE])
    if SETTINGS_FILE not in file_names(output):
        put_bytes(json.dumps(run_settings(config, clips), indent=2).encode(), join(output, SETTINGS_FILE))
