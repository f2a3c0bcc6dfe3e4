"""The headline numbers of the page, as people read them."""

from __future__ import annotations

from typing import Any

Card = dict[str, Any]
MANY_CLASSES = 5


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def card(
    name: str, value: str, *, unit: str = "", ci: list[float] | None = None, at: float = 0, note: str = ""
) -> Card:
    if ci is not None:
        note = f"95 %: {100 * ci[0]:.1f} to {100 * ci[1]:.1f} %" + (f" · {note}" if note else "")
    return {"name": name, "value": value, "unit": unit, "interval": ci, "at": at, "note": note}


def share_card(name: str, share: float | None, ci: list[float] | None = None, note: str = "") -> Card:
    if share is None:
        return card(name, "–", note=note)
    return card(name, f"{100 * share:.1f}", unit="%", ci=ci, at=share, note=note)


def headline_cards(metrics: dict[str, Any]) -> list[Card]:
    """Of an evaluation against the truth."""
    num = metrics["num_videos"]
    cards = [share_card("Top-1 accuracy", metrics["top1"], metrics["top1_ci"], f"{num:,} videos")]
    if len(metrics["labels"]) > MANY_CLASSES:
        lacking = "the predictions list fewer than 5 labels (--top 5)" if metrics["top5"] is None else ""
        cards.append(share_card("Top-5 accuracy", metrics["top5"], metrics["top5_ci"], lacking))
    num_classes = sum(1 for each in metrics["per_class"].values() if each["support"])
    cards.append(
        share_card(
            "Mean class accuracy",
            metrics["mean_class_accuracy"],
            metrics["mean_class_accuracy_ci"],
            f"{num_classes} classes count alike",
        )
    )
    if metrics["coverage"] < 1:
        cards.append(share_card("Videos with a label", metrics["coverage"], None, _without(metrics)))
        if metrics["num_unknown"]:
            covered = metrics["top1_covered"], metrics["top1_covered_ci"]
            cards.append(share_card("Right where labelled", *covered))
    if metrics["ece"] is not None:
        note = "mean gap between score and share right"
        cards.append(card("Calibration error", f"{100 * metrics['ece']:.1f}", unit="points", note=note))
    return cards


def _without(metrics: dict[str, Any]) -> str:
    parts = {"failed": "num_failed", "no prediction": "num_missing", "unknown": "num_unknown"}
    return ", ".join(f"{metrics[key]:,} {name}" for name, key in parts.items() if metrics[key])


def night_cards(counts: dict[str, Any]) -> list[Card]:
    """Where the truth is not known."""
    num = counts["num_videos"]
    cards = [
        card("Videos", f"{num:,}"),
        share_card(
            "With a label", counts["num_labelled"] / num if num else None, None, f"{counts['num_labelled']:,} videos"
        ),
        share_card("Unknown", counts["num_unknown"] / num if num else None, None, "below their threshold"),
        share_card("Failed", counts["failure_rate"], counts["failure_rate_ci"], f"{counts['num_failed']:,} videos"),
    ]
    if counts["score_median"] is not None:
        cards.append(
            card("Median score", f"{100 * counts['score_median']:.1f}", unit="%", note="of the likeliest label")
        )
    return cards


def against_cards(against: dict[str, Any] | None) -> list[Card]:
    if against is None:
        return []
    low, high = against["difference_ci"]
    change = card(
        "Change of top-1",
        f"{100 * against['difference']:+.1f}",
        unit="points",
        note=f"95 %: {100 * low:+.1f} to {100 * high:+.1f} points",
    )
    p = against["mcnemar_p"]
    verdict = "more than chance explains" if p < 0.05 else "chance may explain it"
    return [
        share_card("Top-1 now", against["top1"]),
        share_card("Top-1 of the other", against["top1_before"]),
        change,
        card("McNemar's exact test", f"p = {small(p)}", note=verdict + "; videos of a group count as one"),
    ]


def drift_cards(drift: dict[str, Any] | None) -> list[Card]:
    if drift is None:
        return []
    labels, scores, failures = drift["labels"], drift["scores"], drift["failures"]
    moved = "–" if labels["total_variation"] is None else f"{100 * labels['total_variation']:.1f}"
    psi = "" if labels["psi"] is None else f"PSI {labels['psi']:.2f} ({psi_words(labels['psi'])})"
    return [
        card("Label mix moved", moved, unit="%", note=", ".join(filter(None, [psi, _p(labels["p"])]))),
        card(
            "Median score",
            percent(scores["now"]["median"]),
            note=f"before {percent(scores['before']['median'])}, {_p(scores['p'])}",
        ),
        card(
            "Failed",
            percent(failures["now"]["rate"]),
            note=f"before {percent(failures['before']['rate'])}, {_p(failures['p'])}",
        ),
    ]


def _p(p: float | None) -> str:
    return "too few videos for a test" if p is None else f"p = {small(p)}"


def small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def psi_words(psi: float) -> str:
    return "stable" if psi < 0.1 else "some change" if psi < 0.25 else "large change"


RUN_NAMES = {
    "counts": "videos",
    "failed_by_code": "failed",
    "videos_per_s": "videos a second",
    "video_hours": "hours of video",
    "video_hours_per_hour": "hours of video an hour",
    "decode_cpu_s": "CPU time of decoding",
    "decode_share": "share of decoding",
    "model_s": "time in the model",
    "model_busy_share": "model at work",
    "num_actors": "copies of the model",
    "bytes_read": "read from storage",
    "num_requests": "requests to storage",
    "seconds": "duration",
}
ELSEWHERE = ("command", "settings", "versions", "labels", "checkpoint_id", "settings_key")


def run_facts(run: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Numbers of run.json under plain names, with the units that their own names state."""
    found = []
    for name, value in (run or {}).items():
        if name in ELSEWHERE:
            continue
        words = RUN_NAMES.get(name, name.removeprefix("num_").replace("_", " "))
        if isinstance(value, dict):
            found += [
                (words if part == words else f"{words}: {part}", amount(part, one))
                for part, one in value.items()
                if is_plain(one)
            ]
        elif is_plain(value):
            found.append((words, amount(name, value)))
    return found


def is_plain(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and len(value) < 100)


def amount(name: str, value: Any) -> str:
    if isinstance(value, (bool, str)):
        return str(value)
    if name.endswith("_share"):
        return percent(value)
    if "bytes" in name:
        return f"{value / 1e6:,.1f}\u00a0MB"
    if name == "seconds" or (name.endswith("_s") and not name.endswith("_per_s")):
        return f"{value:,.1f}\u00a0s"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
