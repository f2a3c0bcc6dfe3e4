"""A checkpoint with random weights, whose answers differ from video to video."""

from __future__ import annotations

from pathlib import Path

import torch

from vidpipe.checkpoints import CheckpointFacts, save_checkpoint
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

LABELS = ("down", "left", "right", "up")
CLIP = ClipSpec(sampling="dense", num_frames=4, frame_stride=2, num_clips=3, size="32x40")
MODEL = ModelSpec(model="frame_vote", backbone="resnet18", weights="none")
TEMPERATURE = 1.5


def make_checkpoint(folder: Path, seed: int = 0, clip: ClipSpec = CLIP) -> str:
    torch.manual_seed(seed)
    model = build_model(MODEL, LABELS).eval()
    for layer in model.head.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.1)
    views = ViewSpec(crops=3)
    facts = CheckpointFacts(model=MODEL, labels=LABELS, clip=clip, views=views, size=(32, 32), temperature=TEMPERATURE)
    save_checkpoint(str(folder), model, facts)
    return str(folder)
