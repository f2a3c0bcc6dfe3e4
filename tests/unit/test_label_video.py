"""One video in, its labels out: the answer of a plain loop over the clips as preprocess stores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from running import run_job

from vidpipe.checkpoints import Checkpoint, CheckpointFacts, load_checkpoint, save_checkpoint
from vidpipe.clips import read_clips
from vidpipe.errors import DecodeError
from vidpipe.guard import Guard, Restart
from vidpipe.label_video import delivered, label_video, view_clips
from vidpipe.ledger import Ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.manifest import video_id
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import generate_folder
from vidpipe.transform_spec import ViewSpec

LABELS = ("down", "left", "up", "zoom")
MODEL = ModelSpec(model="frame_vote", backbone="resnet18", weights="none")
CASES = {
    "one clip": (ClipSpec(num_frames=4, size="32"), ViewSpec()),
    "clips and crops": (
        ClipSpec(sampling="dense", num_frames=4, frame_stride=2, num_clips=10, seed=3, size="32x48"),
        ViewSpec(crops=3),
    ),
    "gray frames that vote": (ClipSpec(sampling="fps", rate_fps=5, size="32", color="gray"), ViewSpec(join="vote")),
    "jpeg": (ClipSpec(num_frames=4, size="32", encoding="jpeg"), ViewSpec(join="mean_logits")),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    generate_folder(str(folder), num_videos=1, seed=0)
    return next(folder.rglob("*.mp4"))


def checkpoint_in(folder: Path, clip: ClipSpec, views: ViewSpec) -> Checkpoint:
    torch.manual_seed(0)
    model = build_model(MODEL, LABELS).eval()
    torch.nn.init.normal_(model.head.classifier[1].weight, std=0.5)  # answers that differ from video to video
    facts = CheckpointFacts(model=MODEL, labels=LABELS, clip=clip, views=views, size=(32, 32), temperature=1.5)
    save_checkpoint(str(folder / "best"), model, facts)
    return load_checkpoint(str(folder))


def guard_of(spec: ClipSpec) -> Guard:
    return Guard(spec, time_limit_s=60, memory_limit_bytes=1 << 30)


def stored_clips(video: Path, spec: ClipSpec, output: Path) -> np.ndarray:
    """What preprocess makes of the video: (N, T, H, W, C)."""
    limits = {"part_bytes": 1 << 20, "time_limit_s": 60, "memory_limit_bytes": 1 << 30}
    row = {"video_id": video_id(str(video)), "url": str(video), "version": "1", "size_bytes": video.stat().st_size}
    row |= {"label": "left", "split": "train", "group": None}
    receipts = make_parts([row], PartSettings(output=str(output), spec=spec, **limits))
    Ledger(str(output), spec).commit(receipts)
    return np.concatenate([clips.numpy() for clips in read_clips(str(output))])


@torch.no_grad()
def plain_scores(checkpoint: Checkpoint, clips: np.ndarray) -> dict[str, float]:
    """Label → score, one clip and one crop after the other, and nothing of vidpipe but the model."""
    views, mean, std = checkpoint.facts.views, torch.tensor(MEAN), torch.tensor(STD)
    logits = []
    for clip in clips:
        frames = torch.from_numpy(clip.copy()).float() / 255
        frames = (frames.expand(*frames.shape[:3], 3) - mean) / std
        for left in (0, 8, 16) if views.crops == 3 else (0,):
            logits.append(checkpoint.model(frames[None, :, :, left : left + 32].permute(0, 1, 4, 2, 3))[0].double())
    each = torch.stack(logits)
    mean_softmax = each.softmax(1).mean(0)
    if views.join == "mean_logits":
        joined = each.mean(0)
    elif views.join == "vote":
        joined = (torch.bincount(each.argmax(1), minlength=len(LABELS)) + mean_softmax).log()
    else:
        joined = mean_softmax.log()
    return dict(zip(LABELS, (joined / 1.5).softmax(0).tolist(), strict=True))


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("clip", "views"), CASES.values(), ids=CASES.keys())
def test_the_scores_are_those_of_a_plain_loop_over_the_stored_clips(
    clip: ClipSpec, views: ViewSpec, video: Path, tmp_path: Path
):
    checkpoint = checkpoint_in(tmp_path / "out", clip, views)
    with guard_of(clip) as guard:
        answer = label_video(str(video), checkpoint, guard)
    clips = stored_clips(video, clip, tmp_path / "clips")
    expected = plain_scores(checkpoint, clips)
    assert (answer.num_clips, answer.num_crops) == (len(clips), views.crops)
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    assert answer.scores[0] - answer.scores[-1] > 0.01


def test_clips_before_a_restart_do_not_count(video: Path, tmp_path: Path):
    clip = ClipSpec(sampling="fps", rate_fps=5, size="32")
    checkpoint = checkpoint_in(tmp_path, clip, ViewSpec())
    with guard_of(clip) as guard:
        events = list(delivered(str(video), guard))
    again, once = view_clips(checkpoint, [*events[:-1], Restart(), *events]), view_clips(checkpoint, events)
    assert np.array_equal(again.logits, once.logits)
    assert np.array_equal(again.weights, once.weights)


def test_a_video_that_cannot_be_delivered_is_a_decode_error(tmp_path: Path):
    checkpoint = checkpoint_in(tmp_path, ClipSpec(num_frames=4, size="32"), ViewSpec())
    (tmp_path / "text.mp4").write_text("This is not a video.\n")
    with guard_of(checkpoint.facts.clip) as guard:
        for name, code in (("text.mp4", "not_a_video"), ("nowhere.mp4", "not_found")):
            with pytest.raises(DecodeError) as caught:
                label_video(str(tmp_path / name), checkpoint, guard)
            assert caught.value.code == code


def test_the_command_prints_the_labels_and_a_bad_video_ends_it_with_its_code(video: Path, tmp_path: Path):
    checkpoint = checkpoint_in(tmp_path, ClipSpec(num_frames=4, size="32"), ViewSpec())
    done = run_job("predict", video, "--checkpoint", tmp_path, "--top", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with guard_of(checkpoint.facts.clip) as guard:
        answer = label_video(str(video), checkpoint, guard)
    lines = [line.split() for line in done.stdout.splitlines()[-2:]]
    assert lines == [[f"{answer.scores[place]:.4f}", answer.labels[place]] for place in (0, 1)]
    (tmp_path / "half.mp4").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    done = run_job("predict", tmp_path / "half.mp4", "--checkpoint", tmp_path)
    assert done.returncode == 3
    assert "has no labels: truncated" in done.stderr
    done = run_job("predict", video, "--checkpoint", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "holds no checkpoint.json" in done.stderr
