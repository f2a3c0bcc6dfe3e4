"""What can be known to fail before any work: each with the value, the rule and the way out."""

from __future__ import annotations

import json

from vidpipe.config import TrainConfig
from vidpipe.errors import UsageError
from vidpipe.file_errors import own_file
from vidpipe.models import VideoModel
from vidpipe.run_file import RUN_FILE
from vidpipe.training.clip_rows import LabelledClips
from vidpipe.training.saved_state import FOLDER as STATE_FOLDER
from vidpipe.training.saved_state import state_names
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files
from vidpipe.transforms import ClipTransform

SETTINGS_FILE = "settings.json"
HISTORY_FILE = "history.json"
TENSORBOARD_FOLDER = "tensorboard"


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


def check_same_run(config: TrainConfig, clips: LabelledClips) -> None:
    """Raise UsageError when the output holds a run with other settings."""
    settings = run_settings(config, clips)
    if SETTINGS_FILE not in file_names(config.output):
        return
    text = read_buffer(join(config.output, SETTINGS_FILE)).to_pybytes()
    with own_file(join(config.output, SETTINGS_FILE), "train again with --restart"):
        before = json.loads(text)
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
        remove_files(join(output, STATE_FOLDER), state_names(output))
        remove_files(join(output, TENSORBOARD_FOLDER), file_names(join(output, TENSORBOARD_FOLDER)))
        remove_files(output, [HISTORY_FILE, SETTINGS_FILE])
    if SETTINGS_FILE not in file_names(output):
        put_bytes(json.dumps(run_settings(config, clips), indent=2).encode(), join(output, SETTINGS_FILE))
