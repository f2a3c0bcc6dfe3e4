"""A trained model as a folder, on any storage: its tensors, and checkpoint.json with all that is needed to use them.

    OUT/best/  model.safetensors   the tensors
               checkpoint.json     written last: its presence, and the sha256 in it, mean that the checkpoint is whole
               README.md           model card
               config.json, preprocessor_config.json     of a transformer, for transformers' own loaders

Never unpickles.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from vidpipe.checkpoint_facts import CheckpointFacts, checkpoint_id, facts_from_json, facts_to_json
from vidpipe.checkpoints.hub_files import config_json, model_card, preprocessor_json
from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.models import VideoModel, build_empty
from vidpipe.models.transformer import Transformer
from vidpipe.models.weights import check_finite, read_safetensors
from vidpipe.storage import MISSING, file_info, filesystem, storage_errors
from vidpipe.transfer import file_names, join, put_bytes, put_file

__all__ = ["Checkpoint", "CheckpointFacts", "load_checkpoint", "save_checkpoint"]

WEIGHTS_FILE, FACTS_FILE, CONFIG_FILE = "model.safetensors", "checkpoint.json", "config.json"
FILES = (WEIGHTS_FILE, FACTS_FILE, CONFIG_FILE, "preprocessor_config.json", "README.md")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    model: VideoModel
    """In eval mode, on the device that was asked for."""
    facts: CheckpointFacts
    checkpoint_id: str
    url: str


def save_checkpoint(url: str, model: VideoModel, facts: CheckpointFacts) -> str:
    """Write a checkpoint to a folder or prefix; return its id. One that is there already is replaced."""
    tensors = {model.file_name(name): tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, WEIGHTS_FILE)
        # save_file would make a file that only its owner may read.
        local.write_bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))
        sha256 = {WEIGHTS_FILE: hashlib.sha256(local.read_bytes()).hexdigest()}
        beside = _files_beside(model, facts)
        if CONFIG_FILE in beside:
            sha256[CONFIG_FILE] = hashlib.sha256(beside[CONFIG_FILE]).hexdigest()
        identity = checkpoint_id(facts, sha256)
        text = facts_to_json(facts, model.input, sha256)
        for name, data in {**beside, "README.md": model_card(facts, identity)}.items():
            put_bytes(data, join(url, name))
        put_file(local, join(url, WEIGHTS_FILE))
        put_bytes(text, join(url, FACTS_FILE))
    return identity


def _files_beside(model: VideoModel, facts: CheckpointFacts) -> dict[str, bytes]:
    if not isinstance(model, Transformer):
        return {}
    network: Any = model.backbone.network
    return {
        CONFIG_FILE: config_json(model.config, type(network).__name__, facts, model.input),
        "preprocessor_config.json": preprocessor_json(facts, model.input, network.main_input_name),
    }


def load_checkpoint(url: str, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint folder, or the best of a training run's output.

    Raises UsageError, with the way out, when it is not there, not whole, changed, or not safe to read.
    """
    url = _resolve(url)
    text = _read(url, FACTS_FILE)
    facts, model_input, sha256 = facts_from_json(text, join(url, FACTS_FILE))
    wanted = [WEIGHTS_FILE, CONFIG_FILE] if facts.model.model == "transformer" else [WEIGHTS_FILE]
    files = {name: _checked(url, name, sha256.get(name)) for name in wanted}
    config = None
    if CONFIG_FILE in files:
        with given_file(join(url, CONFIG_FILE), "take a checkpoint made by jobs/train.py"):
            config = json.loads(files[CONFIG_FILE])
    model = build_empty(facts.model, facts.labels, config)
    _fill(model, read_safetensors(files[WEIGHTS_FILE], join(url, WEIGHTS_FILE)), url)
    model.input = model_input
    return Checkpoint(model.to(device).eval(), facts, checkpoint_id(facts, sha256), url)


def _resolve(url: str) -> str:
    """The folder that holds checkpoint.json: this one, or best/ within it."""
    names: list[str] = []
    with storage_errors(url):
        for folder in () if url.endswith(PICKLES) else (url, join(url, "best")):
            if file_info(join(folder, FACTS_FILE)).version != MISSING:
                return folder
            names += file_names(folder)
    pickles = [name for name in [url, *names] if name.endswith(PICKLES)]
    if pickles:
        raise UsageError(
            f"{url} is no checkpoint of vidpipe: {pickles[0]} is a pickle, which may run any code and is never loaded; "
            "take its tensors as a start with jobs/train.py --weights FILE"
        )
    raise UsageError(
        f"{url} holds no {FACTS_FILE}, nor does best/ within it; give the --output of jobs/train.py, or a checkpoint's "
        "folder. If a training run was killed before its first epoch ended, run the same command again"
    )


def _read(url: str, name: str) -> bytes:
    with storage_errors(join(url, name)):
        fs, path = filesystem(join(url, name))
        data: bytes = fs.cat_file(path)
    return data


def _checked(url: str, name: str, sha256: str | None) -> bytes:
    data = _read(url, name)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UsageError(
            f"{join(url, name)} is not the file that {FACTS_FILE} speaks of (sha256 {found[:12]}, not "
            f"{str(sha256)[:12]}): damaged, changed, or half replaced when a run was killed; copy the whole folder "
            "again, or run the same training command again"
        )
    return data


def _fill(model: VideoModel, tensors: dict[str, Tensor], url: str) -> None:
    own = model.state_dict()
    tensors = {model.present_name(name): tensor for name, tensor in tensors.items()}
    names = {model.file_name(name): name for name in own}
    wrong = sorted(names.keys() ^ tensors.keys())
    wrong += [name for name in names.keys() & tensors.keys() if own[names[name]].shape != tensors[name].shape]
    if wrong:
        raise UsageError(
            f"{join(url, WEIGHTS_FILE)} does not hold the model of {FACTS_FILE} ({len(wrong)} tensors differ, first: "
            f"{wrong[0]}): other labels, or other versions of torchvision or transformers; use those of its `versions`"
        )
    check_finite(tensors, join(url, WEIGHTS_FILE))
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[names[name]].copy_(tensor)
