"""What a report takes from the folder of its checkpoint, and from the clips of its training."""

import json
from pathlib import Path

import pytest
from labelled_clips import LABELS, SPEC, write_clips
from prediction_tables import answer, write_predictions, write_truth

from vidpipe.checkpoint_facts import CheckpointFacts, checkpoint_id, facts_to_json
from vidpipe.config import EvaluateConfig
from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.report.film import film_strips
from vidpipe.stages.evaluate import evaluate
from vidpipe.transform_spec import ViewSpec

SHA256 = {"model.safetensors": "0" * 64}
EPOCHS = [
    {"epoch": 1, "train_loss": 1.5, "val": {"loss": 1.25, "top1": 0.5, "top5": 1.0}},
    {"epoch": 2, "train_loss": float("nan"), "val": {"loss": 1.0, "top1": 0.75, "top5": 1.0}},
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output of a training, without weights, and the id of its best checkpoint; its clips lie in clips/."""
    folder = tmp_path_factory.mktemp("trained")
    write_clips(folder / "clips", {"train": 6, "val": 6})
    facts = CheckpointFacts(
        model=ModelSpec(model="frame_vote", weights="none"),
        labels=LABELS,
        clip=SPEC,
        views=ViewSpec(),
        size=(32, 32),
        training={"clips": str(folder / "clips"), "train_split": "train", "val_split": "val"},
        created_at="2026-01-01T00:00:00Z",
    )
    (folder / "best").mkdir()
    shown = ModelInput(32, 32, any_size=True, num_frames=4, min_frames=1, mean=(0.5,) * 3, std=(0.5,) * 3)
    (folder / "best/checkpoint.json").write_bytes(facts_to_json(facts, shown, SHA256))
    (folder / "history.json").write_text(json.dumps({"epochs": EPOCHS, "best_epoch": 2}))
    return folder, checkpoint_id(facts, SHA256)


def evaluated(tmp_path, predicted_by, names, *, split="val", groups=None, **settings):
    rows = [{**answer(f"/videos/{name}.mp4", "up", 0.9), "video_id": name} for name in names]
    truth = [
        {"url": row["url"], "video_id": row["video_id"], "label": "up", "split": split, "group": groups and groups[n]}
        for n, row in enumerate(rows)
    ]
    predictions = write_predictions(tmp_path / "p", LABELS, rows, checkpoint=predicted_by)
    manifest = write_truth(tmp_path / "truth.parquet", truth)
    return evaluate(
        EvaluateConfig(predictions=predictions, manifest=manifest, output=str(tmp_path / "out"), strips=0, **settings)
    )


@pytest.mark.parametrize("place", ["", "/best"])
def test_the_curves_are_those_of_the_training(tmp_path, trained, place):
    folder, identity = trained
    report = evaluated(tmp_path, (identity, f"{folder}{place}"), ["val-000"])
    assert report["training"]["epochs"] == [
        {"epoch": 1, "train_loss": 1.5, "val_loss": 1.25, "val_top1": 0.5, "val_top5": 1.0},
        {"epoch": 2, "train_loss": None, "val_loss": 1.0, "val_top1": 0.75, "val_top5": 1.0},
    ]
    assert report["training"]["best_epoch"] == 2
    assert report["warnings"] == []
    assert "Split val chose the checkpoint's epoch" in " ".join(report["protocol"])
    assert "frame_vote, resnet18" in report["checkpoint"]["model"]
    assert "chart-loss" in (tmp_path / "out/report.html").read_text()


def test_videos_that_were_trained_on_are_told_of(tmp_path, trained):
    folder, identity = trained
    report = evaluated(tmp_path, (identity, str(folder)), ["train-000", "train-001", "val-000"], split="test")
    assert "Trained on: 2 of these 3 videos (split train of" in report["warnings"][0]


def test_where_the_checkpoint_is_gone_the_report_says_so(tmp_path, trained):
    report = evaluated(tmp_path, ("0123", str(tmp_path / "gone")), ["val-000"])
    assert "holds no checkpoint.json" in report["training"]["notes"][0]
    assert "Training" in (tmp_path / "out/report.html").read_text()


def test_a_checkpoint_that_is_asked_for_and_is_another_one_is_the_users_mistake(tmp_path, trained):
    folder, _ = trained
    with pytest.raises(ValueError, match="the predictions are by 0123"):
        evaluated(tmp_path, ("0123", "/gone"), ["val-000"], checkpoint=str(folder))


def test_a_video_that_is_gone_is_shown_by_the_frames_that_preprocess_kept(trained):
    folder, _ = trained
    videos = [{"video_id": name, "url": f"/videos/{name}.mp4"} for name in ("val-001", "never-seen")]
    strips = film_strips(videos, str(folder / "clips"))
    assert len(strips["val-001"].frames) == 4
    assert strips["val-001"].size_px == (32, 32)
    assert "Frames that preprocess kept" in strips["val-001"].note
    assert not strips["never-seen"].frames
