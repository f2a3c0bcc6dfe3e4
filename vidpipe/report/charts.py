"""The charts of the page, each from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vidpipe.report.svg import ACCENT, BAD, CHART_PX, GOOD, INK, MUTED, SECOND, Chart, axes, chart, legend, shortened

NAMED_CLASSES = 40
COUNTED_CLASSES = 16
MAX_BARS = 20
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g} %")


def training_charts(
    epochs: Sequence[dict[str, Any]], best_epoch: int | None, split: str, *, with_top5: bool
) -> list[Chart]:
    """Loss and accuracy over the epochs; top-5 says nothing of five classes or fewer."""
    if not epochs:
        return []
    numbers = [entry["epoch"] for entry in epochs]
    with axes() as ax:
        _curve(ax, numbers, [entry["train_loss"] for entry in epochs], ACCENT, "training")
        _curve(ax, numbers, [entry["val_loss"] for entry in epochs], SECOND, split)
        ax.set(xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
        _epochs(ax, numbers, best_epoch)
        last = epochs[-1]
        said = f"Loss over {len(epochs)} epochs: training {last['train_loss'] or float('nan'):.3f} at the end"
        loss = chart(
            "loss", "Loss", ax, said, "Of the training clips while they are learned, and of the evaluated ones."
        )
    with axes() as ax:
        _curve(ax, numbers, [entry["val_top1"] for entry in epochs], ACCENT, f"top-1, {split}")
        if with_top5:
            _curve(ax, numbers, [entry["val_top5"] for entry in epochs], SECOND, f"top-5, {split}", "--")
        ax.set(xlabel="epoch", ylabel="videos that are right (%)", ylim=(0, 1.02))
        ax.yaxis.set_major_formatter(PERCENT)
        _epochs(ax, numbers, best_epoch)
        said = f"Accuracy over {len(epochs)} epochs: top-1 {100 * (last['val_top1'] or 0):.1f} % at the end"
        accuracy = chart("accuracy", "Accuracy", ax, said, f"Of the videos of split {split}, after each epoch.")
    return [loss, accuracy]


def _curve(ax: Axes, x: list[int], y: list[float | None], color: str, label: str, style: str = "-") -> None:
    values = np.array([np.nan if value is None else value for value in y], float)
    ax.plot(x, values, style, color=color, label=label, marker="o", markersize=4 if len(x) <= 30 else 0)


def _epochs(ax: Axes, numbers: list[int], best_epoch: int | None) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if len(numbers) == 1:
        ax.set_xlim(numbers[0] - 1, numbers[0] + 1)
    if best_epoch is not None:
        ax.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=":", label=f"best: epoch {best_epoch}")
    legend(ax)


def confusion_chart(labels: Sequence[str], confusion: Sequence[Sequence[int]], support: Sequence[int]) -> Chart:
    """Rows are the truth and sum to their videos: the last column counts those without a label. Shares of the row are
    colours; up to 16 classes are counted, up to 40 named, above that numbered as in the table."""
    counts = np.asarray(confusion)
    rest = np.asarray(support) - counts.sum(axis=1)
    shown = np.column_stack([counts, rest]) if rest.any() else counts
    shares = shown / np.maximum(np.asarray(support), 1)[:, None]
    num_classes = len(labels)
    cell = 44 if num_classes <= COUNTED_CLASSES else 18
    side = int(np.clip(cell * num_classes, 220, 760))
    names = [shortened(label, 18) for label in labels]
    room = 40 + 7 * min(max(map(len, names), default=0), 18) if num_classes <= NAMED_CLASSES else 60
    with axes((side + room, side + (room if num_classes <= NAMED_CLASSES and num_classes > 4 else 70))) as ax:
        ax.grid(False)
        ax.imshow(_tinted(shares, num_classes), interpolation="none", aspect="auto")
        step = 1 if num_classes <= NAMED_CLASSES else int(np.ceil(num_classes / 10 / 10) * 10)
        places = list(range(0, num_classes, step))
        ticks = [names[place] if step == 1 else f"{place + 1}" for place in places]
        columns = [*places, num_classes] if rest.any() else places
        ax.set_xticks(columns, [*ticks, "no label"] if rest.any() else ticks, rotation=90 if num_classes > 4 else 0)
        ax.set_yticks(places, ticks)
        number = "" if step == 1 else ", number of the class"
        ax.set(xlabel=f"label given{number}", ylabel=f"true label{number}")
        if num_classes <= COUNTED_CLASSES:
            for row, column in np.argwhere(shown > 0):
                ax.text(column, row, f"{shown[row, column]}", ha="center", va="center", color=INK, fontsize=12)
        wrong = int(counts.sum() - counts.trace())
        said = (
            f"Confusion of {num_classes} classes: {int(counts.trace())} videos right, {wrong} taken for another class"
        )
        return chart("confusion", "Confusion", ax, said, "A row is a true label; its colours are shares of its videos.")


def _tinted(shares: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, columns, 4): blue where truth and label agree, red where not, gray without a label; clear where nothing is,
    so that the page shows through, light or dark."""
    picture = np.zeros((*shares.shape, 4))
    picture[..., :3] = (0.87, 0.30, 0.22)
    picture[:, num_classes:, :3] = 0.5
    diagonal = np.arange(num_classes)
    picture[diagonal, diagonal, :3] = (0.20, 0.47, 0.95)
    faintest = 0.12 if num_classes <= NAMED_CLASSES else 0.4  # of a picture element that is hardly a pixel
    picture[..., 3] = np.where(shares > 0, faintest + (0.8 - faintest) * shares**0.6, 0)
    return picture


def reliability_chart(bins: Sequence[dict[str, Any]]) -> Chart:
    """Score against the share that is right; a bar is as strong as it has videos."""
    full = [each for each in bins if each["num_videos"]]
    most = max((each["num_videos"] for each in full), default=1)
    with axes() as ax:
        for each in full:
            strength = 0.25 + 0.6 * each["num_videos"] / most
            width = each["upper"] - each["lower"]
            ax.bar(each["lower"] + width / 2, each["top1"], width * 0.92, color=ACCENT, alpha=strength)
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="score = share right")
        means = [each["mean_score"] for each in full], [each["top1"] for each in full]
        ax.plot(*means, "o", color=SECOND, markersize=5, label="mean score of a bin")
        ax.set(xlabel="score (probability that the model states)", ylabel="videos that are right (%)")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        ax.yaxis.set_major_formatter(PERCENT)
        legend(ax)
        said = f"Reliability in {len(full)} bins of the score, most videos in one bin: {most}"
        caption = "Above the dashed line the model is better than it says, below it promises too much."
        return chart("reliability", "Reliability", ax, said, caption)


def precision_chart(curve: dict[str, list[float]], precision: float) -> Chart:
    """What a threshold on the score gives."""
    with axes() as ax:
        ax.plot(curve["score"], curve["precision"], color=ACCENT, label="precision")
        ax.plot(curve["score"], curve["coverage"], color=SECOND, linestyle="--", label="labelled")
        ax.axhline(precision, color=MUTED, linewidth=1, linestyle=":", label=f"wanted {100 * precision:g} %")
        ax.set(xlabel="threshold on the score", ylabel="share (%)", xlim=(0, 1), ylim=(0, 1.02))
        ax.yaxis.set_major_formatter(PERCENT)
        legend(ax)
        said = f"Precision and coverage over the threshold, from {len(curve['score'])} scores"
        caption = "All labels together. Videos below the threshold become “unknown”."
        return chart("precision", "Precision against threshold", ax, said, caption)


def score_chart(groups: dict[str, np.ndarray]) -> Chart:
    """How many videos have which score, by what became of them."""
    edges = np.linspace(0, 1, 21)
    colors = {"right": GOOD, "wrong": BAD, "unknown": MUTED, "labelled": ACCENT}
    with axes() as ax:
        below = np.zeros(len(edges) - 1)
        for name, scores in groups.items():
            heights = np.histogram(scores, edges)[0]
            ax.bar(edges[:-1] + 0.025, heights, 0.046, bottom=below, color=colors[name], alpha=0.85, label=name)
            below += heights
        ax.set(xlabel="score of the most likely label (probability)", ylabel="videos", xlim=(0, 1))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        legend(ax)
        said = "Videos by score: " + ", ".join(f"{len(scores)} {name}" for name, scores in groups.items())
        return chart("scores", "Scores", ax, said, "How sure the model is of its most likely label.")


def mix_chart(
    rows: Sequence[dict[str, Any]], names: dict[str, str], title: str = "Labels given", id: str = "mix"
) -> Chart:
    """Labels and how many videos got them, as shares; `names` maps the columns of the rows to those of the legend."""
    shown = list(rows[:MAX_BARS])[::-1]
    places = np.arange(len(shown))
    height = 0.8 / len(names)
    with axes((CHART_PX[0], max(160, 70 + (16 + 10 * len(names)) * len(shown)))) as ax:
        ax.grid(False, axis="y")
        for number, (column, name) in enumerate(names.items()):
            offset = (len(names) - 1) / 2 - number
            color = (ACCENT, SECOND)[number]
            ax.barh(places + offset * height, [row[column] for row in shown], height * 0.9, color=color, label=name)
        ax.set_yticks(places, [shortened(row["label"], 22) for row in shown])
        ax.set(xlabel="share of the videos with a label (%)", ylabel="label")
        ax.xaxis.set_major_formatter(PERCENT)
        if len(names) > 1:
            legend(ax)
        said = f"Shares of {len(rows)} labels, the most frequent: {shown[-1]['label'] if shown else 'none'}"
        caption = f"The {MAX_BARS} most frequent of {len(rows)} labels." if len(rows) > MAX_BARS else ""
        return chart(id, title, ax, said, caption)


def score_drift_chart(drift: dict[str, Any]) -> Chart:
    """Two nights' scores as lines."""
    with axes() as ax:
        for name, color, style in (("before", SECOND, "--"), ("now", ACCENT, "-")):
            heights = drift[name]["histogram"]
            edges = np.linspace(0, 1, len(heights) + 1)
            ax.stairs(heights, edges, color=color, linestyle=style, linewidth=2, label=name)
        ax.set(xlabel="score of the most likely label (probability)", ylabel="share of the videos (%)", xlim=(0, 1))
        ax.yaxis.set_major_formatter(PERCENT)
        legend(ax)
        return chart("score-drift", "Scores", ax, "Scores of two nights", "Each night's videos sum to 100 %.")
