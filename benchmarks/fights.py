"""Real clips split by group and at random, side by side: how much of an accuracy is knowing the source video again.

    python benchmarks/fights.py --videos ../shared/data/fights

The jobs index and preprocess the videos. A frozen EfficientNet-Lite0 with ImageNet weights (a package, no internet)
sees each frame once; vidpipe's trainer then trains the head of `cnn_rnn` on what it made. Every video is in test once:
five folds, each with its own validation clips, which choose the settings and the epoch. By group, videos of one source
are on one side, also within validation; at random, they are anywhere. Intervals are from resampled groups: videos of
one source are right or wrong together.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vidpipe.config import TrainConfig
from vidpipe.ledger import open_ledger
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.training.clip_rows import ClipRows, LabelledClips, labelled_clips
from vidpipe.training.feature_files import read_features, write_features
from vidpipe.training.features import features_of
from vidpipe.training.job import TrainJob, precision_of
from vidpipe.training.pace import Pace
from vidpipe.training.ranks import Ranks
from vidpipe.training.run import evaluated
from vidpipe.training.sources import features_key
from vidpipe.training.trainer import Trainer
from vidpipe.transforms import ClipTransform

JOBS = Path(__file__).parent.parent / "jobs"
FIGHTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "fights"
LABELS_FILE = "videos.csv"
NUM_FOLDS = 5
VAL_FOLDS = 4  # a quarter of what is not in test
SPLITS = {"by group": StratifiedGroupKFold, "at random": StratifiedKFold}
NUM_RESAMPLES = 2000
HEADS: dict[str, dict[str, Any]] = {
    "GRU, learning rate 1e-3": {"rnn": "gru", "learning_rate": 1e-3},
    "GRU, learning rate 3e-4": {"rnn": "gru", "learning_rate": 3e-4},
    "LSTM, learning rate 1e-3": {"rnn": "lstm", "learning_rate": 1e-3},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Accuracy of frozen features and a recurrent head, by group and at random."""

    videos: str = str(FIGHTS)
    """Folder with videos.csv: path, label, group."""
    work: str = f"{tempfile.gettempdir()}/vidpipe-benchmarks/fights"
    """Where clips and features are kept: a second run finds them."""
    size: int = 224
    """Pixels a side that the backbone sees."""
    num_frames: int = 16
    """Frames a clip."""
    epochs: int = 20
    """Passes over the training clips."""
    seeds: int = 3
    """Runs of each fold and head; accuracies are their means."""


@dataclass(frozen=True)
class Videos:
    """All videos, one clip each, with their features and groups."""

    clips: LabelledClips
    rows: ClipRows
    groups: np.ndarray
    features: torch.Tensor
    """(N, T, D) float32."""
    shape: tuple[int, ...]

    def fold(self, split: str, number: int, rng_seed: int = 0) -> dict[str, np.ndarray]:
        """Rows of train, val and test; `split` is one of `SPLITS`."""

        def parts(rows: np.ndarray, num_folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
            splitter = SPLITS[split](num_folds, shuffle=True, random_state=rng_seed)
            return [
                (rows[one], rows[other])
                for one, other in splitter.split(rows, self.rows.truth[rows], self.groups[rows])
            ]

        learned, test = parts(np.arange(len(self.rows)), NUM_FOLDS)[number]
        train, val = parts(learned, VAL_FOLDS)[0]
        return {"train": train, "val": val, "test": test}


def main(options: Options) -> None:
    clips = preprocessed(options)
    videos = with_features(clips, options)
    print(f"{len(videos.rows)} videos of {len(set(videos.groups))} sources, {len(videos.clips.labels)} labels; "
          f"{videos.rows.spec.shape}; {NUM_FOLDS} folds, {options.seeds} seeds, {options.epochs} epochs\n")  # fmt: skip
    print("| split | head | video top-1 | 95 % interval | validation |")
    print("|---|---|---|---|---|")
    for split in SPLITS:
        right = linear_probe(videos, split)
        print_row(split, "mean of the frames, logistic regression", right, None, videos.groups)
        right, val = recurrent_head(videos, split, options)
        print_row(split, "cnn_rnn, settings chosen on validation", right, val, videos.groups)
    share = np.bincount(videos.rows.truth).max() / len(videos.rows)
    print(f"| | always the most frequent label | {share:.3f} | | |")


def preprocessed(options: Options) -> str:
    """The output of jobs/preprocess.py, made or found."""
    output = f"{options.work}/clips-{options.num_frames}-{options.size}"
    manifest = f"{options.work}/manifest.parquet"
    Path(options.work).mkdir(parents=True, exist_ok=True)
    source = f"{options.videos}/{LABELS_FILE}"
    flags = ["--layout", "table", "--val-fraction", "0.2", "--test-fraction", "0.2", "--output", manifest]
    run_job("index.py", source, *flags)
    flags = ["--output", output, "--size", str(options.size), "--num-frames", str(options.num_frames)]
    run_job("preprocess.py", manifest, *flags)
    return output


def run_job(name: str, *flags: str) -> None:
    subprocess.run([sys.executable, str(JOBS / name), *flags], check=True, stdout=sys.stderr)


def with_features(output: str, options: Options) -> Videos:
    """The clips of all splits as one, and what the frozen backbone makes of each frame, computed once."""
    clips = labelled_clips(output, "train", "val", "test")
    parts = list(clips.splits.values())
    names = ("group", "row", "video_ids", "clip_index", "truth", "failed")
    rows = replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
    status = open_ledger(output).read(["video_id", "group"])
    group_of = dict(zip(status["video_id"].to_pylist(), status["group"].to_pylist(), strict=True))
    groups = np.array([group_of[video_id] for video_id in rows.video_ids.tolist()])
    config = settings(options, clips, "GRU, learning rate 1e-3", 0)
    model, ranks = build_model(config.model, clips.labels), one_rank()
    transform = ClipTransform(model.input, (options.size, options.size), config.views, config.augment)
    features_of(
        model, rows, lambda frames: [transform.view(frames)], ranks, output=options.work, name=f"all-{clips.key}",
        batch_size=8, precision=precision_of(config, ranks.device), cache_bytes=1 << 30,
    )  # fmt: skip
    features = read_features(f"{options.work}/features/all-{clips.key}.parquet", rows)
    return Videos(clips, rows, groups, features, tuple(features.shape[1:]))


def settings(options: Options, clips: LabelledClips, head: str, seed: int) -> TrainConfig:
    chosen = HEADS[head]
    model = ModelSpec(
        model="cnn_rnn", backbone="efficientnet_lite0", freeze_backbone=True, dropout=0.5, rnn=chosen["rnn"]
    )
    return TrainConfig(
        clips=clips.output, output=options.work, model=model, size=str(options.size), epochs=options.epochs,
        batch_size=16, learning_rate=chosen["learning_rate"], weight_decay=0.01, warmup=0.1, seed=seed,
    )  # fmt: skip


def linear_probe(videos: Videos, split: str) -> np.ndarray:
    """(N,) 1 where a logistic regression on the mean of the frames' features is right; a reference without settings."""
    means = videos.features.mean(dim=1).numpy()
    right = np.zeros(len(videos.rows))
    for number in range(NUM_FOLDS):
        rows = videos.fold(split, number)
        learned = np.concatenate([rows["train"], rows["val"]])
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        probe.fit(means[learned], videos.rows.truth[learned])
        right[rows["test"]] = probe.predict(means[rows["test"]]) == videos.rows.truth[rows["test"]]
    return right


def recurrent_head(videos: Videos, split: str, options: Options) -> tuple[np.ndarray, float]:
    """(N,) share of the seeds that are right of each video; mean top-1 on validation of the settings chosen there."""
    right, val_top1 = np.zeros(len(videos.rows)), []
    for number in range(NUM_FOLDS):
        rows = videos.fold(split, number)
        splits = {name: subset(videos.rows, chosen) for name, chosen in rows.items()}
        clips = replace(videos.clips, splits=splits, key=f"{videos.clips.key}-{split}-{number}")
        keep_features(TrainJob(settings(options, clips, next(iter(HEADS)), 0), clips), videos, rows)
        found = {head: list(trained(clips, head, options)) for head in HEADS}
        best = min(found, key=lambda head: np.mean([run["val_loss"] for run in found[head]]))
        for run in found[best]:
            right[rows["test"]] += run["right"] / options.seeds
            val_top1.append(run["val_top1"])
        scores = {head: f"{np.mean([run['val_loss'] for run in runs]):.3f}" for head, runs in found.items()}
        print(f"{split}, fold {number + 1}: {scores}, test {right[rows['test']].mean():.3f}", file=sys.stderr)
    return right, float(np.mean(val_top1))


def trained(clips: LabelledClips, head: str, options: Options) -> Iterator[dict[str, Any]]:
    """One run a seed: loss and top-1 of its best epoch on validation, and which test videos it has right."""
    for seed in range(options.seeds):
        job = TrainJob(settings(options, clips, head, seed), clips)
        trainer = Trainer(job, one_rank())
        best: dict[str, Any] = {"val_loss": np.inf}
        for epoch in range(options.epochs):
            trainer.state.epoch, trainer.state.step = epoch, 0
            trainer.train_epoch(Pace(epoch, 0, job.config, job.num_steps_an_epoch, trainer.ranks, lambda *_: None))
            val = evaluated(trainer, "val", lambda share: None)["val"]
            trainer.state.history.append({"monitor": {"loss": val["loss"], "top1": val["top1"]}})
            if val["loss"] < best["val_loss"]:
                best = {"val_loss": val["loss"], "val_top1": val["top1"], "right": test_right(trainer)}
        yield best


def test_right(trainer: Trainer) -> np.ndarray:
    """(N,) 1 for each video of test that the present weights have right."""
    rows = trainer.job.clips.splits["test"]
    features = trainer.source.readers["test"].frames(np.arange(len(rows)))
    trainer.model.eval()
    with torch.inference_mode():
        logits = trainer.model.head(features.to(trainer.ranks.device))
    trainer.model.train()
    return (logits.argmax(dim=1).cpu().numpy() == rows.truth).astype(float)


def keep_features(job: TrainJob, videos: Videos, rows: dict[str, np.ndarray]) -> None:
    """Put the features of a fold where the trainer looks for them: they are those of the whole, in other rows."""
    model, precision = build_model(job.config.model, job.clips.labels), precision_of(job.config, one_rank().device)
    key = features_key(job, model, precision)
    for split, chosen in rows.items():
        url = f"{job.config.output}/features/{split}-{key}.parquet"
        if not Path(url).exists():
            write_features(url, job.clips.splits[split], videos.features[chosen].flatten(1).numpy(), videos.shape)


def subset(rows: ClipRows, chosen: np.ndarray) -> ClipRows:
    names = ("group", "row", "video_ids", "clip_index", "truth")
    return replace(rows, **{name: getattr(rows, name)[chosen] for name in names}, failed=np.array([], int))


def one_rank() -> Ranks:
    return Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def print_row(split: str, head: str, right: np.ndarray, val: float | None, groups: np.ndarray) -> None:
    low, high = interval(right, groups)
    validation = "" if val is None else f"{val:.3f}"
    print(f"| {split} | {head} | {right.mean():.3f} | {low:.3f} to {high:.3f} | {validation} |", flush=True)


def interval(right: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, whole groups drawn."""
    rng = np.random.default_rng(0)
    names = np.unique(groups)
    sums = np.array([right[groups == name].sum() for name in names])
    sizes = np.array([(groups == name).sum() for name in names])
    drawn = rng.integers(len(names), size=(NUM_RESAMPLES, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main(tyro.cli(Options))
