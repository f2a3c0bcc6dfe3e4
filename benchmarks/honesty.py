"""Do thresholds and intervals keep their word? Simulated data sets whose truth is known, no videos.

python benchmarks/honesty.py                     # 1,000 data sets a line, about five minutes
python benchmarks/honesty.py --trials 100
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro

from vidpipe.metrics.answers import Answers
from vidpipe.metrics.intervals import class_mean_interval, share_interval
from vidpipe.metrics.thresholds import precision_thresholds

PRECISION = CONFIDENCE = 0.95
Z = 1.959964
SCORES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "Beta(4, 1)": lambda rng, num: rng.beta(4, 1, num),
    "Beta(9, 1)": lambda rng, num: rng.beta(9, 1, num),
    "Beta(20, 0.8)": lambda rng, num: rng.beta(20, 0.8, num),
    "all 0.99": lambda rng, num: rng.uniform(0.98999, 0.99001, num),
    "all 0.9499": lambda rng, num: rng.uniform(0.94989, 0.94991, num),
}
SIZES = {
    "25 x 1 + 25 x 20": [1] * 25 + [20] * 25,
    "10 x 1 + 10 x 50": [1] * 10 + [50] * 10,
    "5 x 2 + 5 x 100": [2] * 5 + [100] * 5,
    "20 of 1 to 14": np.linspace(1, 14, 20).round().astype(int).tolist(),
    "10 x 20": [20] * 10,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Simulated coverage of thresholds and intervals."""

    trials: int = 1000
    """Data sets of each line."""


def main(options: Options) -> None:
    print(f"\nThresholds for {PRECISION:.0%}, {options.trials} data sets with calibrated scores: short = share whose "
          "precision on fresh videos is below it;\nfound = share with a threshold; reach = mean coverage, as a share "
          "of the best threshold's for the true precision\n")  # fmt: skip
    print("| scores | answers | groups of | kinship | short % | short, yesterday % | found % | reach % |")
    print("|---|---|---|---|---|---|---|---|")
    for name in SCORES:
        for num in (20, 50, 100, 300, 1000):
            print_thresholds(name, num, 1, 0.0, options.trials)
        for size, kinship in ((8, 0.0), (8, 0.5), (8, 1.0), (0, 0.5)):
            print_thresholds(name, 2000, size, kinship, options.trials)
    print("\nMean class accuracy: coverage of the 95 % interval, and its mean width over that of the known variance\n")
    print(
        "| videos of the classes | accuracy | coverage % | coverage, yesterday % | width ratio |\n|---|---|---|---|---|"
    )
    for sizes in SIZES:
        for accuracy in (0.5, 0.8, 0.95, 0.99, None):
            print_class_mean(sizes, accuracy, options.trials)
    print("\nThe same and top-1 with groups of 8 videos: coverage % heeding groups, and not heeding them\n")
    print("| classes | groups a class | kinship | mean class accuracy | not heeding | top-1 | not heeding |")
    print("|---|---|---|---|---|---|---|")
    for num_classes, groups_a_class in ((10, 3), (30, 1), (101, 7)):
        for kinship in (0.0, 0.2, 0.5, 1.0):
            print_grouped(num_classes, groups_a_class, kinship, options.trials)


def print_thresholds(name: str, num: int, size: int, kinship: float, trials: int) -> None:
    rng, draw = np.random.default_rng(num), SCORES[name]
    fresh = np.sort(draw(np.random.default_rng(0), 200_000))[::-1]
    precision = np.cumsum(fresh) / np.arange(1, len(fresh) + 1)
    best = np.flatnonzero(precision >= PRECISION)
    short, short_before, found, coverage = 0, 0, 0, 0.0
    for _ in range(trials):
        groups = groups_of(rng, num, size)
        scores = draw(rng, num)
        right = alike(rng, groups, kinship) < scores
        for is_now, threshold in ((True, limit(scores, right, groups, size)), (False, luckiest(scores, right))):
            if threshold is None:
                continue
            reached = max(1, int(np.searchsorted(-fresh, -threshold, side="right")))
            if is_now:
                found, coverage = found + 1, coverage + reached / len(fresh)
                short += precision[reached - 1] < PRECISION
            else:
                short_before += precision[reached - 1] < PRECISION
    reach = f"{100 * coverage / trials / ((best[-1] + 1) / len(fresh)):.0f}" if len(best) else "-"
    shares = f"{100 * short / trials:.1f} | {100 * short_before / trials:.1f} | {100 * found / trials:.0f}"
    print(f"| {name} | {num} | {size or '1 to 29'} | {kinship} | {shares} | {reach} |", flush=True)


def limit(scores: np.ndarray, right: np.ndarray, groups: np.ndarray, size: int) -> float | None:
    nobody, given = np.zeros(len(scores), bool), np.zeros(len(scores), int)
    answers = Answers(
        labels=("a",), truth=np.where(right, 0, 1), given=given, best=given, score=scores, rank=given, num_listed=1,
        failed=nobody, missing=nobody, groups=None if size == 1 else groups,
    )  # fmt: skip
    threshold: float | None = precision_thresholds(answers, PRECISION, CONFIDENCE, 10)["a"]["threshold"]
    return threshold


def luckiest(scores: np.ndarray, right: np.ndarray) -> float | None:
    """The rule before: the smallest score from which on the answers at hand have the precision, of ten or more."""
    order = np.argsort(-scores)
    num = np.arange(1, len(scores) + 1)
    reached = np.flatnonzero((np.cumsum(right[order]) >= PRECISION * num) & (num >= 10))
    return float(scores[order][reached[-1]]) if len(reached) else None


def groups_of(rng: np.random.Generator, num: int, size: int) -> np.ndarray:
    sizes = rng.integers(1, 30, num) if size == 0 else np.full(-(-num // size), size)
    return np.repeat(np.arange(len(sizes)), sizes)[:num]


def alike(rng: np.random.Generator, groups: np.ndarray, kinship: float) -> np.ndarray:
    """Uniform numbers; two of one group are the same with probability `kinship`."""
    shared = rng.random(groups.max() + 1)[groups]
    return np.where(rng.random(len(groups)) < np.sqrt(kinship), shared, rng.random(len(groups)))


def print_class_mean(sizes: str, accuracy: float | None, trials: int) -> None:
    rng, hits, hits_before, width, known = np.random.default_rng(0), 0, 0, 0.0, 0.0
    support = np.array(SIZES[sizes])
    truth = np.repeat(np.arange(len(support)), support)
    for _ in range(trials):
        accuracies = rng.beta(8, 2, len(support)) if accuracy is None else np.full(len(support), accuracy)
        right = rng.random(len(truth)) < accuracies[truth]
        low, high = class_mean_interval(right, truth)
        hits += low <= accuracies.mean() <= high
        width += high - low
        known += 2 * Z * np.sqrt((accuracies * (1 - accuracies) / support).sum()) / len(support)
        low, high = without_rare(right, truth, support)
        hits_before += low <= accuracies.mean() <= high
    print(f"| {sizes} | {accuracy or 'Beta(8, 2)'} | {100 * hits / trials:.1f} | {100 * hits_before / trials:.1f} | "
          f"{width / known:.2f} |", flush=True)  # fmt: skip


def without_rare(right: np.ndarray, truth: np.ndarray, support: np.ndarray) -> tuple[float, float]:
    """The rule before: Wilson's, where a class of one video adds no variance."""
    shares = np.bincount(truth, weights=right) / support
    share, variance = shares.mean(), (shares * (1 - shares) / support).sum() / len(support) ** 2
    size = min(len(right), share * (1 - share) / variance) if variance else len(right)
    centre = share + Z**2 / (2 * size)
    half = Z * np.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return (centre - half) / (1 + Z**2 / size), (centre + half) / (1 + Z**2 / size)


def print_grouped(num_classes: int, groups_a_class: int, kinship: float, trials: int) -> None:
    rng, accuracy = np.random.default_rng(0), 0.8
    groups = np.repeat(np.arange(num_classes * groups_a_class), 8)
    truth = groups // groups_a_class
    hits = np.zeros(4)
    for _ in range(trials):
        right = alike(rng, groups, kinship) < accuracy
        found = (
            *(class_mean_interval(right, truth, heeded) for heeded in (groups, None)),
            *(share_interval(right, heeded) for heeded in (groups, None)),
        )
        hits += [low <= accuracy <= high for low, high in found]
    shares = " | ".join(f"{100 * hit / trials:.1f}" for hit in hits)
    print(f"| {num_classes} | {groups_a_class} | {kinship} | {shares} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
